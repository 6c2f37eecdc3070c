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
from vpipe.training.augment import blended, jittered, mirrored, random_crop
from vpipe.training.own_clips import OwnClips
from vpipe.training.pieces import Piece
from vpipe.training.recipe import Recipe
from vpipe.training.windows import training_window, validation_windows

SPEC = StreamSpec("tsn", {}, "rgb", 8, Fraction(8), SIZE, (0.0,) * 3, (1.0,) * 3)
PUBLISHED = replace(SPEC, convention=Convention("segments", segments=8, scale=(32,)))


class Video:
    """`frames` frames at 16 a second, twice the rate of SPEC; the number of a frame is its grey level."""

    path = Path("a.mp4")

    def __init__(self, frames: int) -> None:
        self.times_s = np.arange(frames) / 16
        self.stored = self

    def __len__(self) -> int:
        return len(self.times_s)

    def read(self, indices: list[int]) -> np.ndarray:
        width, height = SIZE
        return np.stack([np.full((height, width, 3), min(i, len(self) - 1), np.uint8) for i in indices])


def piece(start_s: float, end_s: float, label: int = 0, frames: int = 160, whole: bool = False) -> Piece:
    shown = ((0.0, 2.0, 1), (2.0, 4.0, 0), (4.0, 10.0, 2))
    return Piece(Video(frames), label, start_s, end_s, whole, shown)


def test_windows_of_whole_videos_lie_anywhere_in_them() -> None:
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(300):
        frames, target = training_window(piece(0, 2, frames=32, whole=True), SPEC, 3, rng)
        assert frames == list(range(frames[0], frames[0] + 16, 2))
        assert list(target) == [1, 0, 0]
        starts.add(frames[0])
    assert starts == set(range(18))


def test_tempo_stretches_windows_and_never_beyond_the_video() -> None:
    rng = np.random.default_rng(0)
    spans = set()
    for _ in range(300):
        frames, _ = training_window(piece(0, 2, frames=32, whole=True), SPEC, 3, rng, tempo=0.5)
        assert 0 <= frames[0] < frames[-1] < 32
        spans.add(frames[-1] - frames[0])
    assert min(spans) < 11
    assert max(spans) > 19


def test_targets_at_boundaries_are_shares_of_time() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        frames, target = training_window(piece(2, 4), SPEC, 3, rng)
        start, end = frames[0] / 16, (frames[-1] + 2) / 16
        before, after = max(0.0, 2 - start), max(0.0, end - 4)
        assert target == pytest.approx([1 - before - after, before, after], abs=1e-6)
        assert 2 - 0.6 <= (start + end) / 2 <= 4 + 0.6


def test_validation_windows_stay_inside_and_hold_the_last_frame() -> None:
    for window in validation_windows(piece(2, 4), SPEC):
        assert 32 <= min(window) <= max(window) < 64
    assert validation_windows(piece(2, 2.5), SPEC) == [[32, 34, 36, 38, 38, 38, 38, 38]]
    (published,) = validation_windows(piece(2, 4), PUBLISHED)
    assert published == [34, 38, 42, 46, 50, 54, 58, 62]


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
    changes = {"jitter": 0.7, "flip": True, "tempo": 0.2, "still": 0.5, "mixup": 0.5}
    small = Recipe("t", clips=1, batch=10, architecture="tsn", **changes)
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


def test_a_blend_keeps_the_type_and_its_target_adds_up() -> None:
    dark, light = np.zeros((4, 8, 8, 3), np.uint8), np.full((8, 8, 3), 200, np.uint8)
    assert np.array_equal(blended(dark, light, 0.25), np.full((4, 8, 8, 3), 50, np.uint8))
    flow = np.ones((2, 8, 8, 2), np.float32)
    assert blended(flow, -flow, 0.5).max() == 0
    pieces = [piece(0, 10, label=label, whole=True) for label in (0, 1, 2)]
    recipe = Recipe("t", clips=1, batch=60, architecture="tsn", mixup=1.0)
    _, targets = OwnClips(SPEC, recipe, 3, pieces, clips=60)[0]
    assert np.allclose(targets.sum(1), 1)
    assert ((targets > 0.01) & (targets < 0.99)).any()


def test_crops_have_the_size_and_the_scales() -> None:
    rng = np.random.default_rng(0)
    clip = np.zeros((3, 40, 60, 3), np.uint8)
    assert random_crop(clip, (32, 32), (), rng).shape == (3, 32, 32, 3)
    assert random_crop(clip, (32, 32), (1.0, 0.875, 0.75, 0.66), rng).shape == (3, 32, 32, 3)
    assert random_crop(clip[:, :20], (32, 32), (), rng).shape == (3, 32, 32, 3)
