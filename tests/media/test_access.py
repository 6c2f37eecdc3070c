"""Index i is frame i, at the time that was written, by every way of reading."""

from __future__ import annotations

import pickle
from bisect import bisect_right
from fractions import Fraction
from math import floor
from pathlib import Path

import numpy as np
import pytest

from tests.media.numbered import RECIPES, WIDTH, Recipe, expected_times, number_of, write
from vpipe.media import reading
from vpipe.media.reading import FrameReader
from vpipe.media.timeline import Timeline, Times

NAMES = list(RECIPES)
RATES = (Fraction(8), Fraction(25), Fraction(30000, 1001), Fraction(97))
# Seeking is allowed where packets and frames are the same thing.
SEEKABLE = {
    "h264_cfr", "h264_b_frames", "h264_ntsc", "h264_open_gop", "h264_open_gop_mkv", "h264_vfr", "h264_gap",
    "h264_late_start", "hevc_open_gop", "vp9_hidden_frames", "ffv1",
}  # fmt: skip


@pytest.fixture(params=["counted", "from packets"])
def budget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of making a timeline."""
    monkeypatch.setattr(reading, "EXACT_BUDGET_PX", 0 if request.param == "from packets" else 1 << 60)
    return str(request.param)


def shown_at(times: list[Fraction], tick: int, fps: Fraction) -> int:
    """The rule of --fps, word for word: the last frame with time <= k / F."""
    return max(index for index, time in enumerate(times) if time <= tick / fps)


@pytest.mark.parametrize("name", NAMES)
def test_frames_come_in_order_at_their_times(numbered: dict[str, Path], name: str) -> None:
    frames = list(FrameReader(numbered[name], short_side_px=48).frames())
    assert [number_of(frame.image) for frame in frames] == list(range(60))
    assert [frame.index for frame in frames] == list(range(60))
    assert [frame.time_s for frame in frames] == expected_times(RECIPES[name])
    assert not any(frame.damaged for frame in frames)


@pytest.mark.parametrize("name", NAMES)
def test_the_timeline_agrees_with_the_frames(numbered: dict[str, Path], name: str, budget: str) -> None:
    video = FrameReader(numbered[name])
    timeline = video.timeline()
    assert list(timeline.times) == expected_times(RECIPES[name])
    assert [frame.time_s for frame in video.frames()] == list(timeline.times)
    codes = {warning.code for warning in video.warnings}
    assert codes <= {"timestamps_repaired", "vfr"}
    assert ("vfr" in codes) == timeline.variable_rate


@pytest.mark.parametrize("name", NAMES)
def test_select_gives_exactly_the_frames_asked_for(numbered: dict[str, Path], name: str, budget: str) -> None:
    video = FrameReader(numbered[name], short_side_px=48, color="gray")
    random = np.random.default_rng(7)
    wishes: list[list[int]] = [[0], [59], [47, 48, 49], [3, 3, 30, 30, 59], list(range(60))]
    wishes += [sorted(random.choice(60, 4, replace=False).tolist()) for _ in range(3)]
    whole = list(video.frames())
    for indices in wishes:
        got = list(video.select(indices))
        assert [frame.index for frame in got] == indices
        assert [number_of(frame.image) for frame in got] == indices
        for frame in got:
            assert frame.time_s == whole[frame.index].time_s
            assert np.array_equal(frame.image, whole[frame.index].image)
            assert not frame.damaged


@pytest.mark.parametrize("name", sorted(SEEKABLE))
def test_select_jumps_where_it_is_safe(
    numbered: dict[str, Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = 0
    original = reading.decode_frames

    def counting(*arguments):  # type: ignore[no-untyped-def]
        nonlocal decoded
        for item in original(*arguments):
            decoded += 1
            yield item

    monkeypatch.setattr(reading, "decode_frames", counting)
    monkeypatch.setattr(reading, "EXACT_BUDGET_PX", 0)
    video = FrameReader(numbered[name])
    assert [number_of(frame.image) for frame in video.select([1, 57])] == [1, 57]
    assert decoded < 30


@pytest.mark.parametrize("name", NAMES)
def test_grid_and_resample_follow_the_rule(numbered: dict[str, Path], name: str, budget: str) -> None:
    video = FrameReader(numbered[name], short_side_px=48, color="gray")
    times = list(video.timeline().times)
    for fps in RATES:
        expected = [shown_at(times, tick, fps) for tick in range(floor(times[-1] * fps) + 1)]
        assert video.timeline().grid(fps) == expected
        got = list(video.resample(fps))
        assert [tick for tick, _ in got] == list(range(len(expected)))
        assert [frame.index for _, frame in got] == expected
        assert [number_of(frame.image) for _, frame in got] == expected
    assert video.timeline().grid(None) == list(range(60))


@pytest.mark.parametrize("name", ["h264_b_frames", "h264_vfr", "h264_late_start", "mpeg4_avi_b_frames"])
def test_start_end_and_every_choose_among_the_same_frames(
    numbered: dict[str, Path], name: str, budget: str
) -> None:
    video = FrameReader(numbered[name], short_side_px=48, color="gray")
    times = list(video.timeline().times)
    for start, end in [(None, Fraction(1, 2)), (Fraction(1, 2), None), (Fraction(4, 10), Fraction(13, 10))]:
        chosen = [i for i, t in enumerate(times) if t >= (start or 0) and (end is None or t < end)]
        assert [frame.index for frame in video.frames(start, end)] == chosen
        assert [number_of(frame.image) for frame in video.frames(start, end)] == chosen
        fives = [index for index in chosen if index % 5 == 0]
        assert [number_of(frame.image) for frame in video.frames(start, end, every=5)] == fives
        fps = Fraction(11)
        ticks = [
            tick
            for tick in range(floor(times[-1] * fps) + 1)
            if tick / fps >= (start or 0) and (end is None or tick / fps < end)
        ]
        got = list(video.resample(fps, start, end))
        assert [tick for tick, _ in got] == ticks
        assert [number_of(frame.image) for _, frame in got] == [shown_at(times, t, fps) for t in ticks]
    assert list(video.frames(Fraction(1000))) == []
    assert list(video.resample(Fraction(5), Fraction(1000))) == []


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_pictures_are_turned_as_the_display_matrix_says(
    tmp_path: Path, rotation: int, mirrored: bool
) -> None:
    recipe = Recipe(".mp4", "libx264", {"g": "4"}, frames=10, rotation=rotation, mirrored=mirrored)
    plain = FrameReader(write(tmp_path / "plain.mp4", Recipe(".mp4", "libx264", {"g": "4"}, frames=10)))
    video = FrameReader(write(tmp_path / "turned.mp4", recipe), color="gray")
    turned = list(video.frames())
    stored = [frame.image[:, :, 0] for frame in plain.frames()]
    assert (video.info.width, video.info.height) == turned[0].image.shape[::-1] == video.output_size
    for frame, image in zip(turned, stored, strict=True):
        # Players turn counter-clockwise by the angle; a mirror comes after the turn in our files.
        upright = np.rot90(image, rotation // 90)
        upright = upright[:, ::-1] if mirrored else upright
        assert frame.image.shape == upright.shape
        assert np.abs(frame.image.astype(int) - upright).mean() < 3
        assert frame.image.flags.c_contiguous
    assert [f.index for f in video.select([0, 9])] == [0, 9]
    small = FrameReader(tmp_path / "turned.mp4", short_side_px=32)
    assert next(iter(small.frames())).image.shape == (*small.output_size[::-1], 3)
    assert min(small.output_size) == 32


def test_the_rule_of_fps_by_brute_force() -> None:
    random = np.random.default_rng(11)
    for _ in range(100):
        count = int(random.integers(1, 40))
        gaps = random.integers(0 if random.random() < 0.2 else 1, 200, count)
        ticks = np.cumsum(gaps).tolist()
        times = Times(ticks, Fraction(1, int(random.integers(1, 1000))))
        timeline = Timeline(times, ticks, True, Fraction(1, 30))
        fps = Fraction(int(random.integers(1, 5000)), int(random.integers(1, 300)))
        if times[-1] * fps > 3000:
            continue
        expected = [bisect_right(list(times), tick / fps) - 1 for tick in range(floor(times[-1] * fps) + 1)]
        assert timeline.grid(fps) == expected


def test_times_are_a_sequence_of_fractions() -> None:
    times = Times([100, 103, 109], Fraction(1, 10))
    assert list(times) == [0, Fraction(3, 10), Fraction(9, 10)] == times
    assert times[1:] == [Fraction(3, 10), Fraction(9, 10)]
    assert times[-1] == Fraction(9, 10)
    assert len(times) == 3


def test_durations_and_variable_rate(numbered: dict[str, Path]) -> None:
    steady = FrameReader(numbered["h264_b_frames"]).timeline()
    assert steady.duration_s == 2
    assert not steady.variable_rate
    assert not FrameReader(numbered["h264_ntsc"]).timeline().variable_rate
    assert not FrameReader(numbered["vp8_hidden_frames"]).timeline().variable_rate
    for name in ("h264_vfr", "h264_gap", "ffv1"):
        assert FrameReader(numbered[name]).timeline().variable_rate


def test_bad_selections_are_refused(numbered: dict[str, Path]) -> None:
    video = FrameReader(numbered["h264_cfr"])
    assert list(video.select([])) == []
    for indices in ([3, 2], [-1, 0], [0, 60]):
        with pytest.raises(ValueError, match="indices"):
            list(video.select(indices))


def test_pictures_are_plain_arrays_of_the_right_kind(numbered: dict[str, Path]) -> None:
    path = numbered["h264_cfr"]
    rgb = next(FrameReader(path).frames())
    gray = next(FrameReader(path, color="gray", size=(50, 70)).frames())
    assert rgb.image.shape == (96, WIDTH, 3)
    assert gray.image.shape == (70, 50)
    assert rgb.image.dtype == gray.image.dtype == np.uint8
    assert rgb.image.flags.c_contiguous
    assert gray.image.flags.c_contiguous


def test_frames_keep_their_content_while_decoding_goes_on(numbered: dict[str, Path]) -> None:
    for name in ("h264_cfr", "ffv1", "mjpeg"):
        held = [frame.image for frame in FrameReader(numbered[name]).frames()]
        assert [number_of(image) for image in held] == list(range(60))


def test_several_decoder_threads_give_the_same_frames(
    numbered: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LARGE_FRAME_PX", 0)
    for name in ("h264_b_frames", "vp9_hidden_frames", "av1", "mpeg4_avi_b_frames"):
        one = [frame.image for frame in FrameReader(numbered[name]).frames()]
        two = [frame.image for frame in FrameReader(numbered[name], threads=2).frames()]
        assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_what_a_source_yields_travels_between_processes(numbered: dict[str, Path]) -> None:
    video = FrameReader(numbered["h264_late_start"], short_side_px=32)
    frame = next(video.frames())
    copy = pickle.loads(pickle.dumps((frame, video.info, video.timeline(), video.warnings)))
    assert (copy[0].index, copy[0].time_s, copy[0].pts) == (frame.index, frame.time_s, frame.pts)
    assert np.array_equal(copy[0].image, frame.image)
    assert copy[1:] == (video.info, video.timeline(), video.warnings)
