"""A walk by several decoders, each from a keyframe on, is the walk by one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import accumulate, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media.numbered import RECIPES, Recipe, write
from vpipe.errors import InputError
from vpipe.limits import Limits, limits, set_limits
from vpipe.media import indexed
from vpipe.media.frame import WalkedFrame
from vpipe.media.indexed import Mismatch, parts
from vpipe.media.reading import FrameReader, RawFrame
from vpipe.media.timeline import PacketScan, Times
from vpipe.media.walking import _by_index, look, walked

FPS = Fraction(8)
WHOLE = ("h264_cfr", "h264_b_frames", "h264_ntsc", "h264_vfr", "h264_late_start", "hevc_open_gop", "ffv1")


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(indexed, "PART", 8)
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "vpipe-part"]


def reader_of(path: Path, threads: int) -> FrameReader:
    reader = FrameReader(path, size=(32, 24))
    reader._threads = threads  # as if the pictures were large
    return reader


def by_one(path: Path, fps: Fraction | None = FPS) -> tuple[FrameReader, list[WalkedFrame]]:
    reader = reader_of(path, 1)
    return reader, list(walked(reader.walk(), reader.converter(), reader.info.time_base, fps))


def plain(frame: WalkedFrame) -> tuple[Any, ...]:
    image = None if frame.image is None else frame.image.tobytes()
    assert frame.small is not None
    return (*(getattr(frame, name) for name in ("index", "time_s", "pts", "damaged", "lasts_s", "ticks")),
            frame.small.tobytes(), image)  # fmt: skip


def same(path: Path, threads: int = 3, fps: Fraction | None = FPS) -> list[WalkedFrame]:
    ours, theirs = reader_of(path, threads), by_one(path, fps)
    seen = list(look(ours, fps))
    assert [plain(one) for one in seen] == [plain(one) for one in theirs[1]]
    assert ours.warnings == theirs[0].warnings
    ours_times, their_times = ours.timeline(), theirs[0].timeline()
    assert list(ours_times.times) == list(their_times.times)
    assert (ours_times.duration_s, ours_times.exact) == (their_times.duration_s, their_times.exact)
    return seen


@pytest.mark.parametrize("name", RECIPES)
def test_every_kind_of_file(numbered: dict[str, Path], name: str) -> None:
    assert len(same(numbered[name])) == 60


@pytest.mark.parametrize("name", WHOLE)
def test_these_are_read_in_parts(numbered: dict[str, Path], name: str) -> None:
    reader = reader_of(numbered[name], 2)
    assert len(parts(reader._packet_scan())) > 2
    assert list(reader.in_parts(lambda times: lambda index, picture: index)) == list(range(60))


@pytest.mark.parametrize("threads", [2, 5, 40])
def test_any_number_of_threads_and_no_grid(numbered: dict[str, Path], threads: int) -> None:
    same(numbered["h264_vfr"], threads)
    assert all(one.image is None for one in same(numbered["h264_vfr"], threads, None))


def test_results_that_wait(numbered: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Later parts stop when little more may wait, and go on."""
    monkeypatch.setattr(indexed, "AHEAD", 1)
    monkeypatch.setattr(indexed, "AT_ONCE", 1)
    same(numbered["h264_cfr"])
    same(numbered["hevc_open_gop"])


@pytest.mark.parametrize("at", [0.2, 0.5, 0.95])
def test_damage_is_told_as_one_decoder_tells_it(tmp_path: Path, at: float) -> None:
    path = write(tmp_path / "a.mp4", Recipe(".mp4", "libx264", {"g": "10", "bf": "2"}))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
    hit = packets[int(at * len(packets))]
    content = bytearray(path.read_bytes())
    assert hit.pos is not None
    content[hit.pos + 5 : hit.pos + hit.size] = bytes(hit.size - 5)
    path.write_bytes(content)
    reader = reader_of(path, 2)
    with pytest.raises(Mismatch):
        list(reader.in_parts(lambda times: lambda index, picture: index))
    ours, (theirs, alone) = reader_of(path, 3), by_one(path)
    seen = list(look(ours, FPS))
    assert ours.warnings == theirs.warnings
    assert [one.index for one in seen] == list(range(len(seen)))
    assert all(a.time_s <= b.time_s for a, b in pairwise(seen))
    ticks = [tick for one in seen for tick in one.ticks]
    assert ticks == list(range(len(ticks)))
    # One decoder may lose, with a packet, frames from before it that wait to be shown; these are kept.
    known = {one.pts: one for one in seen}
    assert {one.pts for one in alone} <= set(known)
    # What is made up for the rest depends on how many threads a decoder has.
    first = min(one.index for one in alone if one.damaged)
    assert [plain(one)[-2] for one in alone[:first]] == [plain(known[one.pts])[-2] for one in alone[:first]]
    assert any(one.damaged for one in seen)


@pytest.mark.parametrize("keep", [0.4, 0.9])
def test_a_file_that_is_cut(tmp_path: Path, keep: float) -> None:
    options = {"g": "10", "movflags": "+faststart"}
    path = write(tmp_path / "a.mkv", Recipe(".mkv", "libx264", options, time_base=Fraction(1, 1000)))
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content))])
    assert 0 < len(same(path)) < 60


def test_who_stops_early_waits_for_nobody(numbered: dict[str, Path]) -> None:
    frames = look(reader_of(numbered["h264_cfr"], 3), FPS)
    assert [next(frames).index for _ in range(3)] == [0, 1, 2]
    frames.close()


def test_what_fails_in_a_thread_is_raised(numbered: dict[str, Path]) -> None:
    def fails(index: int, picture: av.VideoFrame | None) -> int:
        if index == 30:
            raise MemoryError
        return index

    found: list[int] = []
    with pytest.raises(MemoryError):
        found.extend(reader_of(numbered["h264_cfr"], 3).in_parts(lambda times: fails))
    assert found == list(range(len(found)))
    assert len(found) <= 30


def test_where_it_does_not_pay(numbered: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(reader: FrameReader) -> bool:
        try:
            next(reader.in_parts(lambda times: lambda index, picture: index))
        except Mismatch:
            return True
        return False

    path = numbered["h264_cfr"]
    assert not refused(reader_of(path, 2))
    assert refused(reader_of(path, 1))
    assert refused(reader_of(numbered["h264_one_gop"], 2))
    assert refused(reader_of(numbered["mpeg4_avi_b_frames"], 2))
    before = limits()
    try:
        set_limits(Limits(memory_bytes=1 << 20))
        assert refused(reader_of(path, 2))
    finally:
        set_limits(before)


def test_limits_hold(numbered: dict[str, Path]) -> None:
    before = limits()
    try:
        set_limits(replace(before, frames=20))
        with pytest.raises(InputError) as caught:
            list(look(reader_of(numbered["h264_cfr"], 3), FPS))
    finally:
        set_limits(before)
    assert caught.value.code == "too_large"


@given(keys=st.sets(st.integers(1, 400)), frames=st.integers(1, 400))
def test_parts_are_all_frames_and_begin_with_keyframes(keys: set[int], frames: int) -> None:
    among = sorted(key for key in keys if key < frames)
    scan = cast(PacketScan, SimpleNamespace(keys=[0, *among], pts=range(frames)))
    found = parts(scan)
    assert [index for part in found for index in part] == list(range(frames))
    assert all(part.start in (0, *among) for part in found)
    assert len(found) == 1 or min(len(part) for part in found) >= indexed.PART


@settings(max_examples=300)
@given(
    steps=st.lists(st.integers(1, 500), max_size=40),
    first=st.integers(0, 1000),
    unit=st.fractions(Fraction(1, 90000), Fraction(1, 10), max_denominator=90000),
    fps=st.none() | st.fractions(Fraction(1, 10), 60, max_denominator=1001),
)
def test_ticks_by_index_are_those_of_the_walk(
    steps: list[int], first: int, unit: Fraction, fps: Fraction | None
) -> None:
    ticks = [first, *(first + step for step in accumulate(steps))]
    times = Times(ticks, unit)
    picture = av.VideoFrame.from_ndarray(np.zeros((96, 64), np.uint8), format="gray")
    raws = [RawFrame(index, times[index], tick, picture, False) for index, tick in enumerate(ticks)]
    convert: Callable[[object], None] = lambda frame: None  # noqa: E731
    serial = [one.ticks for one in walked(raws, cast(Any, convert), unit, fps)]
    seen = _by_index(times, cast(Any, convert), fps)
    ours = [seen(raw.index, raw.picture).ticks for raw in reversed(raws)][::-1]
    assert [list(one) for one in ours] == [list(one) for one in serial]
