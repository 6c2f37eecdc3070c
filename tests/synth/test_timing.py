"""Timelines of untrimmed videos: no gaps, lengths as promised, dissolves centred on the truth."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpipe.synth.timing import SEGMENT_S, TimedScene, Timeline, random_timeline
from vpipe.synth.vocabulary import BACKGROUND, LABELS

MOTIONS = tuple(label for label in LABELS if label != BACKGROUND)


@given(st.integers(0, 10_000), st.floats(2, 120))
@settings(max_examples=80, deadline=None)
def test_timelines_fill_the_video(seed: int, duration: float) -> None:
    parts = random_timeline(np.random.default_rng(seed), duration, MOTIONS).parts
    assert parts[0].start_s == 0
    assert parts[-1].end_s == pytest.approx(duration)
    for before, after in pairwise(parts):
        assert before.end_s == after.start_s
        assert (before.label == BACKGROUND) != (after.label == BACKGROUND)
    for part in parts:
        if part.label != BACKGROUND:
            assert SEGMENT_S[0] - 1e-6 <= part.end_s - part.start_s <= SEGMENT_S[1] + 1e-6


def test_a_dissolve_is_half_way_at_the_border() -> None:
    timeline = Timeline((TimedScene("a", 0, 2, 1.0), TimedScene("b", 2, 5, 0.0), TimedScene("c", 5, 6, 0.0)))
    assert timeline.shown(1.4) == [(0, 1.0)]
    assert timeline.shown(2.0) == [(0, 0.5), (1, 0.5)]
    (first, a), (second, b) = timeline.shown(2.25)
    assert (first, second) == (0, 1)
    assert (a, b) == (pytest.approx(0.25), pytest.approx(0.75))
    assert timeline.shown(2.6) == [(1, 1.0)]
    assert timeline.shown(4.999) == [(1, 1.0)]
    assert timeline.shown(5.0) == [(2, 1.0)]
