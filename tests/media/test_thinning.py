"""Frames that a pass leaves out: none that the grid or another frame needs, and the rest is what it was."""

from __future__ import annotations

import os
import subprocess
from array import array
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.media.numbered import RECIPES, Recipe, jittered, write
from tests.media.test_shots import texture
from vpipe.media import FrameSource, VideoWriter, indexed
from vpipe.media.disposable import Disposable
from vpipe.media.frame import WalkedFrame
from vpipe.media.indexed import Mismatch
from vpipe.media.reading import FrameReader
from vpipe.media.shots import ShotDetector
from vpipe.media.stream import StreamSource
from vpipe.media.thinning import GAP_S, Nearest, Thinning
from vpipe.media.walking import look, walked

FPS = Fraction(8)
SMALL = (12, 10)  # px: an eighth of the numbered videos
X265 = "log-level=none:keyint=24:pools=none:wpp=0:frame-threads=1:bframes="
MORE = {
    "h264_regular": Recipe(".mp4", "libx264", {"x264-params": "bframes=3:b-adapt=0:keyint=250"}),
    "h264_placebo": Recipe(".mp4", "libx264", {"x264-params": "bframes=8:b-pyramid=none:keyint=40:ref=6"}),
    "h264_strict_pyramid": Recipe(".mkv", "libx264", {"x264-params": "bframes=7:b-pyramid=strict:b-adapt=0"}),
    "h264_slices": Recipe(".mp4", "libx264", {"x264-params": "slices=4:bframes=3:keyint=30"}),
    "h264_interlaced": Recipe(".mp4", "libx264", {"x264-params": "tff=1:bframes=3:keyint=30"}),
    "h264_60": Recipe(".mp4", "libx264", {"g": "30", "bf": "3"}, rate=Fraction(60)),
    "h264_slow": Recipe(".mp4", "libx264", {"g": "30", "bf": "3"}, rate=Fraction(10)),
    "h264_vfr_mkv": Recipe(".mkv", "libx264", {"bf": "4"}, jittered(60, 7), time_base=Fraction(1, 1000)),
    "hevc_pyramid": Recipe(".mp4", "libx265", {"x265-params": X265 + "4:b-pyramid=1"}),
    "hevc_mkv": Recipe(".mkv", "libx265", {"x265-params": X265 + "3"}, time_base=Fraction(1, 1000)),
    "hevc_layers": Recipe(".mp4", "libx265", {"x265-params": X265 + "3:temporal-layers=3"}),
}
THINNED = {  # kinds that have frames to leave out, in containers whose packets are frames
    *("h264_b_frames", "h264_ntsc", "h264_open_gop", "h264_open_gop_mkv", "h264_one_gop", "h264_vfr"),
    *("h264_gap", "h264_late_start", "hevc_open_gop"),
    *(MORE.keys() - {"h264_slow", "hevc_layers"}),
}


@pytest.fixture(autouse=True)
def short_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indexed, "PART", 8)


@pytest.fixture(scope="module")
def videos(numbered: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("thinned")
    return numbered | {name: write(folder / f"{name}{r.suffix}", r) for name, r in MORE.items()}


def reader_of(path: Path, threads: int = 1) -> FrameReader:
    reader = FrameReader(path, size=SMALL)
    reader._threads = threads  # as if the pictures were large
    return reader


def whole(path: Path) -> tuple[FrameReader, list[WalkedFrame]]:
    """Every frame decoded."""
    reader = reader_of(path)
    return reader, list(walked(reader.walk(), reader.converter(), reader.info.time_base, FPS))


def content(frame: WalkedFrame) -> tuple[object, ...]:
    image = None if frame.image is None else frame.image.tobytes()
    small = None if frame.small is None else frame.small.tobytes()
    return frame.index, frame.time_s, frame.pts, frame.damaged, list(frame.ticks), image, small


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", [*RECIPES, *MORE])
def test_what_is_decoded_is_what_it_would_be(videos: dict[str, Path], name: str, threads: int) -> None:
    ours, (theirs, known) = reader_of(videos[name], threads), whole(videos[name])
    seen = list(look(ours, FPS))
    left = {one.index for one in seen if one.small is None}
    assert [content(one)[:6] for one in seen] == [content(one)[:6] for one in known]
    assert [content(one) for one in seen if one.index not in left] == [
        content(one) for one in known if one.index not in left
    ]
    assert bool(left) == (name in THINNED)
    assert not left & {index + 1 for index in left}
    times = [one.time_s for one in known]
    assert all(times[index + 1] - times[index - 1] <= GAP_S for index in left)
    assert ours.warnings == theirs.warnings
    assert list(ours.timeline().times) == list(theirs.timeline().times)
    assert ours.timeline().duration_s == theirs.timeline().duration_s


def test_how_much_is_left_out(videos: dict[str, Path]) -> None:
    """Two of four frames may go, 8 of 30 are on the grid: 22 / 30 of half of 60."""
    seen = list(look(reader_of(videos["h264_regular"]), FPS))
    assert 20 <= sum(one.small is None for one in seen) <= 24


def piped(path: Path) -> list[WalkedFrame]:
    reading, writing = os.pipe()
    with subprocess.Popen(["cat", path], stdout=writing):
        os.close(writing)
        try:
            return list(StreamSource(reading, size=SMALL).walk(FPS))
        finally:
            os.close(reading)


@pytest.mark.parametrize("name", [*RECIPES, *MORE])
def test_from_a_stream_it_is_the_same(videos: dict[str, Path], name: str) -> None:
    if name.startswith(("mpeg4_avi", "h264_avi", "mjpeg")):
        pytest.skip("AVI: times of a file are repaired by a look at all of it")
    assert [content(one) for one in piped(videos[name])] == [
        content(one) for one in look(reader_of(videos[name]), FPS)
    ]


def copied(source: Path, target: Path, first: int = 0, lost: tuple[int, ...] = (), **options: str) -> Path:
    """The packets of a video, in the order of decoding, from one on and without some."""
    with av.open(str(source)) as theirs, av.open(str(target), "w", options=options) as ours:
        stream = ours.add_stream_from_template(theirs.streams.video[0])
        packets = [packet for packet in theirs.demux(video=0) if packet.size]
        begin = packets[first].dts
        for number, packet in enumerate(packets):
            if number < first or number in lost:
                continue
            assert packet.pts is not None
            assert packet.dts is not None
            packet.pts, packet.dts = packet.pts - (begin or 0), packet.dts - (begin or 0)
            packet.stream = stream
            ours.mux(packet)
    return target


def odd(name: str, videos: dict[str, Path], folder: Path) -> Path:
    """Whole files that cannot be read in parts."""
    mkv = folder / "odd.mkv"
    if name == "open_gop_from_within":
        with av.open(str(videos["hevc_open_gop"])) as container:
            keys = [p.is_keyframe for p in container.demux(video=0) if p.size]
        return copied(videos["hevc_open_gop"], mkv, keys.index(True, 1))
    if name == "intra_refresh":
        parameters = {"x264-params": "intra-refresh=1:keyint=15:bframes=3:b-adapt=0"}
        return write(folder / "odd.mp4", Recipe(".mp4", "libx264", parameters))
    path = copied(videos["h264_regular"], folder / "odd.mp4", movflags="+faststart")
    data = bytearray(path.read_bytes())  # the edit list ends half a second early
    entry = data.index(b"elst") + 12
    data[entry : entry + 4] = (1500).to_bytes(4, "big")
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["open_gop_from_within", "intra_refresh", "edit_list"])
def test_files_that_are_decoded_whole_pass_over_the_same_frames(
    videos: dict[str, Path], tmp_path: Path, name: str
) -> None:
    path = odd(name, videos, tmp_path)
    seen = [content(one) for threads in (1, 3) for one in look(reader_of(path, threads), FPS)]
    half = len(seen) // 2
    assert seen[:half] == seen[half:] == [content(one) for one in piped(path)]
    if name != "edit_list":  # a stream learns only at its end that frames are hidden; files know before
        assert any(one[-1] is None for one in seen)


def test_behind_damage_the_grid_takes_the_nearest_that_is_left(
    videos: dict[str, Path], tmp_path: Path
) -> None:
    """A keyframe is lost, and the frames that need it with it: what stood before stands for longer."""
    with av.open(str(videos["hevc_pyramid"])) as container:
        keys = [packet.is_keyframe for packet in container.demux(video=0) if packet.size]
    path = copied(videos["hevc_pyramid"], tmp_path / "lost.mkv", lost=(keys.index(True, 1),))
    known = [(one.pts, list(one.ticks)) for one in whole(path)[1]]
    assert max(len(ticks) for _, ticks in known) > 2
    with pytest.raises(Mismatch):
        list(reader_of(path).in_parts(lambda times: lambda index, picture: index, FPS))
    for threads in (1, 3):
        assert [(one.pts, list(one.ticks)) for one in look(reader_of(path, threads), FPS)] == known


@pytest.mark.parametrize("flags", ["frag_keyframe+empty_moov", "+faststart"])
def test_from_a_stream_that_is_decoded_as_it_comes(tmp_path: Path, flags: str) -> None:
    path = write(tmp_path / "a.mp4", Recipe(".mp4", "libx264", {"bf": "3", "g": "30", "movflags": flags}))
    seen = [content(one) for one in look(reader_of(path), FPS)]
    assert [content(one) for one in piped(path)] == seen
    assert None in [one[-1] for one in seen]


@pytest.mark.parametrize("name", ["h264_b_frames", "h264_placebo", "h264_strict_pyramid", "h264_slices",
                                  "h264_interlaced", "h264_intra_refresh", "h264_ts", "h264_avi_b_frames",
                                  "hevc_open_gop", "hevc_pyramid", "hevc_mkv"])  # fmt: skip
def test_disposable_packets_are_those_that_ffmpeg_skips(videos: dict[str, Path], name: str) -> None:
    with av.open(str(videos[name])) as container:
        told = Disposable(container.streams.video[0])
        packets = [packet for packet in container.demux(video=0) if packet.size]
        disposable = [bool(told(packet)) for packet in packets]
    with av.open(str(videos[name])) as container:
        container.streams.video[0].codec_context.skip_frame = "NONREF"
        kept = sum(1 for _ in container.decode(video=0))
    assert kept == len(packets) - sum(disposable)
    assert any(disposable) == (name != "h264_intra_refresh")


@pytest.mark.parametrize("hit", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("threads", [1, 3])
def test_damage_is_told_as_before(tmp_path: Path, hit: float, threads: int) -> None:
    """A packet that is decoded is broken: one decoder goes on with all frames."""
    path = write(tmp_path / "a.mp4", Recipe(".mp4", "libx264", {"g": "10", "bf": "2"}))
    with av.open(str(path)) as container:
        told = Disposable(container.streams.video[0])
        packets = [p for p in container.demux(video=0) if p.size and not told(p)]
    broken = packets[int(hit * len(packets))]
    data = bytearray(path.read_bytes())
    assert broken.pos is not None
    data[broken.pos + 5 : broken.pos + broken.size] = bytes(broken.size - 5)
    path.write_bytes(data)
    ours, (theirs, _) = reader_of(path, threads), whole(path)
    seen = list(look(ours, FPS))
    assert ours.warnings == theirs.warnings
    assert [one.index for one in seen] == list(range(len(seen)))
    assert all(one.small is not None for one in seen[next(i for i, one in enumerate(seen) if one.damaged) :])


@pytest.mark.parametrize("name", ["h264_regular", "h264_b_frames"])
@pytest.mark.parametrize("lost", [5, 13, 23, 58])
def test_frames_are_left_out_by_their_packets_alone(videos: dict[str, Path], name: str, lost: int) -> None:
    """A frame that the index has and the decoder does not give, as of two fields, is a mismatch."""
    reader = reader_of(videos[name], 2)
    scan = reader._packet_scan()
    pts = array("q", sorted([*scan.pts, scan.pts[lost] + 1]))
    reader._scan = replace(scan, pts=pts, keys=[key + (key > lost) for key in scan.keys])
    with pytest.raises(Mismatch):
        list(reader.in_parts(lambda times: lambda index, picture: index, FPS))
    assert [content(one)[:3] for one in look(reader, FPS)] == [
        content(one)[:3] for one in whole(videos[name])[1]
    ]


def film(path: Path, cuts: list[int], frames: int, options: dict[str, str]) -> Path:
    """Shots of cameras that pan, large enough to be thinned."""
    with VideoWriter(path, 768, 768, fps=Fraction(30), crf=23, options=options) as writer:
        for k in range(frames):
            shot = sum(k >= cut for cut in cuts)
            part = texture(shot)[40:136, 8 + 2 * (k - [0, *cuts][shot]) :][:, :96]
            writer.write(np.repeat(cv2.resize(part, (768, 768))[:, :, None], 3, axis=2))
    return path


@pytest.mark.parametrize(
    ("options", "off"), [({"x264-params": "scenecut=40"}, 0), ({"x264-params": "scenecut=0:b-adapt=0"}, 1)]
)
def test_cuts_of_a_thinned_film(tmp_path: Path, options: dict[str, str], off: int) -> None:
    """Where the encoder saw the cut, it is found at its frame, else at most one later."""
    cuts = [21, 50, 83, 102, 131]
    path = film(tmp_path / "film.mp4", cuts, 160, options | {"preset": "veryfast"})
    shots, found = ShotDetector(), []
    seen = list(FrameSource(path, size=(96, 96), threads=2).walk(FPS))
    for one in seen:
        if one.small is not None:
            found += shots.add(one.small, one.index, float(one.time_s))
    found += shots.close()
    assert sum(one.small is None for one in seen) > 30
    assert len(found) == len(cuts)
    assert all(cut <= one.frame <= cut + off for cut, one in zip(cuts, found, strict=True))
    assert all(one.time_s == pytest.approx(one.frame / 30) for one in found)


@st.composite
def orders(draw: st.DrawFn) -> list[tuple[int, bool]]:
    """(PTS, disposable) in the order of decoding: groups of B-frames of any shape between frames."""
    found, pts = [(draw(st.integers(-50, 50)), False)], 0
    pts = found[0][0]
    for _ in range(draw(st.integers(1, 12))):
        steps = draw(st.lists(st.integers(1, 120), min_size=1, max_size=8))
        times = [pts + sum(steps[: k + 1]) for k in range(len(steps))]
        pts = times[-1]
        found.append((pts, draw(st.booleans()) and len(times) == 1))
        inner = draw(st.permutations(times[:-1]))
        found += [(time, draw(st.booleans())) for time in inner]
    return found


@settings(max_examples=500)
@given(order=orders(), fps=st.fractions(Fraction(1, 2), 40, max_denominator=1001), cut=st.integers(0, 30))
def test_nothing_that_the_grid_needs_is_left_out(
    order: list[tuple[int, bool]], fps: Fraction, cut: int
) -> None:
    unit = Fraction(1, 1000)
    origin = order[0][0]
    thinning = Thinning(fps, unit, origin)
    left = [pts for pts, disposable in order if thinning.leaves_out(pts, disposable)]
    assert set(left) == thinning.left <= {pts for pts, disposable in order if disposable}
    shown = sorted(pts for pts, _ in order)
    assert shown[0] not in left
    assert shown[-1] not in left
    nearest = Nearest(fps, unit, origin)
    first_not = [nearest.first_not(a, b) for a, b in pairwise(shown)]
    for place, pts in enumerate(shown):
        if pts in left:
            assert first_not[place - 1] == first_not[place]
            assert shown[place - 1] not in left
            assert shown[place + 1] not in left
            assert (shown[place + 1] - shown[place - 1]) * unit <= GAP_S
    # Who begins at a later frame that all others lie on one side of decides alike.
    start = min(cut, len(order) - 1)
    if all((a < order[start][0]) == (k < start) or k == start for k, (a, _) in enumerate(order)):
        again = Thinning(fps, unit, origin)
        from_there = [pts for pts, disposable in order[start:] if again.leaves_out(pts, disposable)]
        assert from_there == [pts for pts in left if pts > order[start][0]]


def lengths(*units: bytes) -> bytes:
    return b"".join(len(unit).to_bytes(4, "big") + unit for unit in units)


class _Setup:
    """What `Disposable` looks at, of a stream that no encoder here makes."""

    def __init__(self, name: str, extradata: bytes) -> None:
        self.codec_context, self.name, self.extradata = self, name, extradata


AVCC = b"\1\x64\0\x1f\xff\xe1\0"
HVCC = b"\1" + bytes(20) + b"\x0f" + b"\0"


@pytest.mark.parametrize(
    ("codec", "setup", "data", "expected"),
    [
        ("h264", AVCC, lengths(b"\x01slice"), True),
        ("h264", AVCC, lengths(b"\x06sei", b"\x01slice", b"\x01slice"), True),
        ("h264", AVCC, lengths(b"\x01slice", b"\x21slice"), False),  # a second field that is referred to
        ("h264", AVCC, lengths(b"\x06sei"), False),  # no picture at all
        ("h264", AVCC, lengths(b"\x01slice") + b"\0\0", False),  # lengths that do not fit
        ("h264", AVCC, b"\xff\xff\xff\xff\x01", False),
        ("h264", AVCC, lengths(b"\x01slice", b"\x14view"), False),
        ("h264", AVCC, lengths(b"\x68parameters", b"\x01slice"), False),  # that later pictures need
        ("h264", AVCC, lengths(b"\x01slice", b"\x0aend"), False),
        ("hevc", HVCC, lengths(b"\x4e\x01sei", b"\x00\x01slice", b"\x7c\x01dolby"), True),
        ("hevc", HVCC, lengths(b"\x00\x01slice", b"\x48\x01end"), False),
        ("hevc", HVCC, lengths(b"\x44\x01parameters", b"\x00\x01slice"), False),
        ("h264", b"", b"\0\0\0\1\x06sei\0\0\1\x01slice", True),
        ("h264", b"", b"\0\0\0\1\x41slice", False),
        ("h264", b"\1", lengths(b"\x01slice"), False),  # a set-up that is cut off
        ("hevc", HVCC, lengths(b"\x00\x01slice"), True),
        ("hevc", HVCC, lengths(b"\x02\x01slice"), False),
        ("hevc", HVCC, lengths(b"\x26\x01slice"), False),
        ("hevc", HVCC.replace(b"\x0f", b"\x17"), lengths(b"\x00\x01slice"), False),  # two layers
        ("hevc", b"", b"\0\0\1\x00\x01slice", False),
        ("vp9", b"", b"\0\0\1\x01slice", False),
    ],
)
def test_packets_by_hand(codec: str, setup: bytes, data: bytes, expected: bool) -> None:
    packet = av.Packet(data)
    assert Disposable(_Setup(codec, setup))(packet) is expected  # type: ignore[arg-type]


@settings(max_examples=200)
@given(codec=st.sampled_from(["h264", "hevc"]), setup=st.binary(max_size=30), data=st.binary(max_size=60))
def test_any_bytes_are_survived(codec: str, setup: bytes, data: bytes) -> None:
    for extradata in (setup, AVCC, HVCC):
        assert Disposable(_Setup(codec, extradata))(av.Packet(data)) in (True, False)  # type: ignore[arg-type]
