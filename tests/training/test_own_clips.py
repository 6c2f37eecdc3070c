"""Windows, targets and changes of clips; batches that depend on the seed and their number alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.training.own_videos import SIZE
from vpipe.models.convention import Convention
from vpipe.models.weights import StreamSpec
from vpipe.training.augment import jittered, mirrored, random_crop
from vpipe.training.own_clips import OwnClips
from vpipe.training.pieces import Piece
from vpipe.training.recipe import Recipe
from vpipe.training.windows import training_window, validation_windows

SPEC = StreamSpec("tsn", {}, "rgb", 8, Fraction(8), SIZE, (0.0,) * 3, (1.0,) * 3)
PUBLISHED = replace(SPEC, convention=Convention("segments", segments=8, scale=(32,)))


class Video:
    """`frames` frames at 8 a second; the number of a frame is its grey level."""

    path = Path("a.mp4")

    def __init__(self, frames: int) -> None:
        self.times_s = np.arange(frames) / 8
        self.stored = self

    def __len__(self) -> int:
        return len(self.times_s)

    def read(self, indices: list[int]) -> np.ndarray:
        width, height = SIZE
        return np.stack([np.full((height, width, 3), min(i, len(self) - 1), np.uint8) for i in indices])


def piece(start_s: float, end_s: float, label: int = 0, frames: int = 80, whole: bool = False) -> Piece:
    shown = ((0.0, 2.0, 1), (2.0, 4.0, 0), (4.0, 10.0, 2))
    return Piece(Video(frames), label, start_s, end_s, whole, shown)


def test_windows_of_whole_videos_lie_anywhere_in_them() -> None:
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(300):
        frames, target = training_window(piece(0, 2, frames=16, whole=True), SPEC, 3, rng)
        assert frames == list(range(frames[0], frames[0] + 8))
        assert list(target) == [1, 0, 0]
        starts.add(frames[0])
    assert starts == set(range(9))


def test_targets_at_boundaries_are_shares_of_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        frames, target = training_window(piece(2, 4), SPEC, 3, rng)
        start, end = frames[0] / 8, (frames[-1] + 1) / 8
        before, after = max(0.0, 2 - start), max(0.0, end - 4)
        assert target == pytest.approx([1 - before - after, before, after], abs=1e-6)
        assert 2 - 0.6 <= (start + end) / 2 <= 4 + 0.6


def test_validation_windows_stay_inside_and_hold_the_last_frame() -> None:
    for window in validation_windows(piece(2, 4), SPEC):
        assert 16 <= min(window) <= max(window) < 32
    assert validation_windows(piece(2, 2.5), SPEC) == [[16, 17, 18, 19, 19, 19, 19, 19]]
    (published,) = validation_windows(piece(2, 4), PUBLISHED)
    assert published == [17, 19, 21, 23, 25, 27, 29, 31]


@pytest.mark.parametrize("frames", [1, 5, 8, 9, 80])
def test_published_training_windows_take_one_frame_of_each_segment(frames: int) -> None:
    rng = np.random.default_rng(0)
    video = piece(0, 99, frames=frames, whole=True)
    seen = [training_window(video, PUBLISHED, 3, rng)[0] for _ in range(100)]
    assert all(len(window) == 8 and window == sorted(window) for window in seen)
    assert {min(w) for w in seen} | {max(w) for w in seen} <= set(range(frames))
    if frames == 80:
        assert all(10 * k <= index < 10 * (k + 1) for window in seen for k, index in enumerate(window))
        assert len({window[0] for window in seen}) == 10


def test_labels_are_balanced_and_pieces_come_in_rounds() -> None:
    pieces = [piece(0, 10, label=0)] + [piece(k, k + 1, label=1) for k in range(9)]
    recipe = Recipe("t", clips=1, batch=10, architecture="tsn")
    clips = OwnClips(SPEC, recipe, 2, pieces, clips=40)
    drawn = [clips._draw(place)[0] for place in range(36)]
    assert sum(p.label for p in drawn) == 18
    assert {p.start_s for p in drawn[:18] if p.label} == set(range(9))
    assert len(clips) == 4


def test_a_batch_of_twenty_is_two_of_ten() -> None:
    pieces = [piece(0, 10, label=label, whole=True) for label in (0, 1, 2) for _ in range(4)]
    small = Recipe("t", clips=1, batch=10, jitter=0.7, architecture="tsn", flip=True)
    one = OwnClips(SPEC, replace(small, batch=20), 3, pieces, clips=60)
    two = OwnClips(SPEC, small, 3, pieces, clips=60)
    for place in (0, 1):
        assert np.array_equal(one[1][place], np.concatenate([two[2][place], two[3][place]]))
    assert not np.array_equal(one[0][0], one[1][0])
    other = OwnClips(SPEC, replace(small, seed=2), 3, pieces, clips=60)
    assert not np.array_equal(other[2][0], two[2][0])
    assert "a.mp4 (" in two.describe(0)


def test_changes_are_the_same_for_all_frames_and_keep_the_type() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1, 32, 32, 3)).astype(np.uint8)
    clip = np.repeat(noise, 4, 0)
    out = jittered(clip, rng, 1.0)
    assert out.dtype == np.uint8
    assert all(np.array_equal(frame, out[0]) for frame in out)
    assert not np.array_equal(out[0], clip[0])
    assert jittered(clip, rng, 0.0) is clip


def test_flow_turns_with_the_picture() -> None:
    rng = np.random.default_rng(3)
    flow = np.zeros((2, 32, 32, 2), np.float32)
    flow[..., 0] = 2.0
    for _ in range(20):
        out = jittered(flow, rng, 1.0)
        u, v = (float(out[..., k].mean()) for k in (0, 1))
        assert 2 * np.exp(-0.26) < np.hypot(u, v) < 2 * np.exp(0.26)
        assert abs(np.arctan2(v, u)) < 0.26
    assert mirrored(flow)[..., 0].max() == -2


def test_crops_have_the_size_and_the_scales() -> None:
    rng = np.random.default_rng(0)
    clip = np.zeros((3, 40, 60, 3), np.uint8)
    assert random_crop(clip, (32, 32), (), rng).shape == (3, 32, 32, 3)
    assert random_crop(clip, (32, 32), (1.0, 0.875, 0.75, 0.66), rng).shape == (3, 32, 32, 3)
    assert random_crop(clip[:, :20], (32, 32), (), rng).shape == (3, 32, 32, 3)
