from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpipe.recognition.sampling import plan_clips


def test_clips_sit_in_the_middle_of_their_share() -> None:
    plan = plan_clips(27, 8, clips=4)  # 20 possible starts, shares of 5
    assert plan.starts == (2, 7, 12, 17)
    assert plan.frames(17) == list(range(17, 25))
    assert plan.pairs(17) == list(range(17, 24))


def test_twice_adds_the_beginnings_of_the_shares() -> None:
    assert plan_clips(27, 8, clips=4, twice=True).starts == (0, 2, 5, 7, 10, 12, 15, 17)


def test_a_short_video_is_one_clip_with_its_last_frame_held() -> None:
    plan = plan_clips(3, 8, clips=10)
    assert plan.starts == (0,)
    assert plan.frames(0) == [0, 1, 2, 2, 2, 2, 2, 2]
    assert plan.pairs(0) == [0, 1, None, None, None, None, None]


@given(grid=st.integers(1, 400), length=st.integers(1, 32), clips=st.integers(1, 60), twice=st.booleans())
def test_clips_lie_inside_and_are_distinct(grid: int, length: int, clips: int, twice: bool) -> None:
    plan = plan_clips(grid, length, clips=clips, twice=twice)
    assert len(set(plan.starts)) == len(plan.starts) <= clips * (1 + twice)
    assert list(plan.starts) == sorted(plan.starts)
    possible = max(1, grid - length + 1)
    assert 0 <= plan.starts[0] <= plan.starts[-1] < possible
    if possible >= clips:
        assert len(plan.starts) >= clips
    for start in plan.starts:
        assert len(plan.frames(start)) == length
        assert max(plan.frames(start)) < grid


def test_nothing_to_plan_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        plan_clips(0, 8, clips=1)
