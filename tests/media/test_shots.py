"""Where a film cuts."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from vpipe.media import FrameSource, VideoWriter
from vpipe.media.shots import HEIGHT, WIDTH, Cut, ShotDetector, likeness, shots
from vpipe.recognition.snippets import find_cuts


def texture(seed: int, size: int = 256) -> np.ndarray:
    """A large grey picture with detail of all sizes."""
    rng = np.random.default_rng(seed)
    picture = np.zeros((size, size), np.float32)
    for cell in (4, 8, 16, 64):
        noise = rng.standard_normal((size // cell, size // cell)).astype(np.float32)
        picture += cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC) * cell**0.5
    return np.asarray(cv2.normalize(picture, None, 0, 255, cv2.NORM_MINMAX), dtype=np.uint8)


def pan(seed: int, frames: int, step_px: int) -> list[np.ndarray]:
    """Small pictures of a camera that moves over a texture."""
    picture = texture(seed)
    return [picture[40 : 40 + HEIGHT, 8 + step_px * k :][:, :WIDTH] for k in range(frames)]


def cuts(pictures: Sequence[np.ndarray], fps: float = 25) -> list[int]:
    return cuts_at(pictures, [k / fps for k in range(len(pictures))])


def cuts_at(pictures: Sequence[np.ndarray], times_s: Sequence[float]) -> list[int]:
    detector = ShotDetector()
    shown = enumerate(zip(pictures, times_s, strict=True))
    found = [c for k, (picture, t) in shown for c in detector.add(np.ascontiguousarray(picture), k, t)]
    return [cut.frame for cut in found + detector.close()]


@pytest.mark.parametrize("step_px", [0, 1, 5])
def test_a_cut_between_two_pans(step_px: int) -> None:
    assert cuts(pan(1, 20, step_px) + pan(2, 20, step_px)) == [20]


@pytest.mark.parametrize("step_px", [0, 2, 8])
def test_motion_is_no_cut(step_px: int) -> None:
    assert cuts(pan(3, 22, step_px)) == []


def roll(seed: int, times_s: Sequence[float], rate: float) -> list[np.ndarray]:
    """Small pictures of a camera that turns `rate` radians a second over a texture."""
    picture, size = texture(seed), (WIDTH, HEIGHT)
    turns = [cv2.getRotationMatrix2D((128, 128), float(np.degrees(rate * t)), 1.0) for t in times_s]
    shift = np.array([[0, 0, 128 - WIDTH / 2], [0, 0, 128 - HEIGHT / 2]])
    return [cv2.warpAffine(picture, turn - shift, size, borderMode=cv2.BORDER_REFLECT) for turn in turns]


@pytest.mark.parametrize(("rate", "lost"), [(0.8, 3), (1.2, 3), (2.0, 1), (2.0, 2)])
def test_a_frame_that_comes_late_in_motion_is_no_cut(rate: float, lost: int) -> None:
    times = [k / 10 for k in range(30) if not 15 <= k < 15 + lost]
    assert cuts_at(roll(1, times, rate), times) == []


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_cut_at_a_frame_that_comes_late(lost: int) -> None:
    times = [k / 10 for k in range(30) if not 15 <= k < 15 + lost]
    assert cuts_at(roll(1, times[:15], 0.0) + roll(2, times[15:], 1.2), times) == [15]
    assert cuts_at(roll(1, times[:15], 1.2) + roll(2, times[15:], 0.0), times) == [15]


def test_two_frames_alone_are_no_two_shots() -> None:
    first, second = texture(1)[:HEIGHT, :WIDTH], texture(2)[:HEIGHT, :WIDTH]
    assert cuts([first, second]) == []
    assert cuts([first, first, second]) == [2]


def test_cuts_close_to_the_ends() -> None:
    assert cuts(pan(1, 2, 1) + pan(2, 12, 1)) == [2]
    assert cuts(pan(1, 12, 1) + pan(2, 1, 1)) == [12]


@pytest.mark.parametrize("length", [1, 2])
def test_a_flash_is_no_cut(length: int) -> None:
    white = [np.full((HEIGHT, WIDTH), 250, np.uint8)] * length
    shot = pan(1, 30, 1)
    assert cuts(shot[:15] + white + shot[15 + length :]) == []


@pytest.mark.parametrize("frames", [6, 12, 25])
def test_a_dissolve_is_no_cut(frames: int) -> None:
    first, second = pan(1, 20 + frames, 1), pan(2, 20 + frames, 1)
    mixed = [
        cv2.addWeighted(a, 1 - (k + 1) / (frames + 1), b, (k + 1) / (frames + 1), 0)
        for k, (a, b) in enumerate(zip(first[20:], second[:frames], strict=True))
    ]
    assert cuts(first[:20] + mixed + second[frames:]) == []


def test_black_and_back() -> None:
    black = [np.zeros((HEIGHT, WIDTH), np.uint8)] * 10
    assert cuts(pan(1, 10, 1) + black + pan(2, 10, 1)) == [10, 20]


def test_likeness_does_not_look_at_brightness() -> None:
    picture = texture(1)[:HEIGHT, :WIDTH]
    darker = np.asarray(picture * 0.5 + 10, dtype=np.uint8)
    assert likeness(picture, darker) > 0.95
    assert likeness(picture, texture(2)[:HEIGHT, :WIDTH].copy()) < 0.8


def test_a_cut_is_known_a_few_frames_later_and_never_before() -> None:
    detector = ShotDetector()
    told = {}
    for k, picture in enumerate(pan(1, 10, 1) + pan(2, 10, 1)):
        undecided = detector.decided_s
        for cut in detector.add(np.ascontiguousarray(picture), k, k / 25):
            told[cut.frame] = k
            assert cut.time_s >= undecided
    assert told == {10: 13}


def test_shots_between_cuts() -> None:
    found = shots([Cut(5, 0.5), Cut(9, 0.9)], 20, 2.0)
    assert [(s.start_frame, s.end_frame) for s in found] == [(0, 5), (5, 9), (9, 20)]
    assert [(s.start_s, s.end_s) for s in found] == [(0.0, 0.5), (0.5, 0.9), (0.9, 2.0)]
    assert [s.to_json()["end_frame"] for s in shots([], 3, 0.3)] == [3]


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv420p10le", "gray", "rgb24", "gbrp", "yuyv422", "pal8"])
@pytest.mark.parametrize("size", [(160, 120), (646, 480)])  # the wider one is shrunk by halves first
def test_small_pictures_of_all_kinds_of_pixels(tmp_path: Path, pix_fmt: str, size: tuple[int, int]) -> None:
    import av

    from vpipe.media.shots import small_picture

    grey = cv2.resize(texture(4), size, interpolation=cv2.INTER_CUBIC if size[0] > 256 else cv2.INTER_AREA)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(grey), format="gray").reformat(format="rgb24")
    if pix_fmt == "pal8":  # numbers of colours, which say nothing by themselves
        levels = (np.arange(256) * 97 % 256).astype(np.uint8)
        palette = np.stack([np.full(256, 255, np.uint8), levels, levels, levels], axis=1)
        numbers = np.argsort(levels).astype(np.uint8)[grey]
        made = av.VideoFrame.from_ndarray((numbers, np.ascontiguousarray(palette)), format="pal8")
    else:
        made = frame.reformat(format=pix_fmt)
    small = small_picture(made)
    assert small.shape == (HEIGHT, WIDTH)
    assert small.dtype == np.uint8
    wanted = cv2.resize(grey, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(small.ravel(), wanted.ravel())[0, 1] > 0.9


def test_cuts_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "film.mkv"
    with VideoWriter(path, 128, 96, fps=Fraction(25)) as writer:
        for seed, frames in ((1, 20), (2, 15), (3, 25)):
            for picture in pan(seed, frames, 1):
                writer.write(np.repeat(cv2.resize(picture, (128, 96))[..., None], 3, axis=2))
    assert [cut.frame for cut in find_cuts(FrameSource(path))] == [20, 35]


@pytest.mark.slow
def test_cuts_in_films_of_real_clips(tmp_path: Path, shared_dir: Path) -> None:
    from benchmarks.films import shot_f1

    found = shot_f1(shared_dir / "clips", tmp_path, films=3, seed=11)
    assert found["cuts"] > 60
    assert found["f1"] >= 0.97
    for kind in ("large", "large_unaware_encoder"):
        assert found[kind]["f1"] >= 0.97
        assert found[kind]["frames_decoded"] < 0.75
