"""Every case of docs/reliability.md as a file, from generated video and nothing but PyAV."""

from __future__ import annotations

import os
import shutil
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from tests.media.numbered import Recipe, picture, write

H264 = Recipe(".mp4", "libx264", {"g": "10", "bf": "0"}, frames=40)
MS = Fraction(1, 1000)
FIELDS = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
NAMES: tuple[str | bytes, ...] = (
    "with space.mp4", "ünïcødé_日本_🎬.mp4", "-dash.mp4", "new\nline.mp4", "pct_%03d.mp4", "colon:name.mp4",
    "http:fake.mp4", "br[ack]*et?.mp4", "quo'te\".mp4", "UPPER.MP4", "noext", ".hidden.mp4", "pipe|cmd.mp4",
    b"latin1_\xe9.mp4", "n" * 240 + ".mp4", "~.mp4", "$(touch taken).mp4",
)  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What is right to say. code: of the failure, None where the file is done; still: of the commands that
    need motion, where it differs; warnings: that must be there, of those that say something is wrong."""

    code: str | None = None
    still: str | None = None
    warnings: frozenset[str] = frozenset()


OK = Answer()


def warned(*codes: str) -> Answer:
    return Answer(warnings=frozenset(codes))


CUT = warned("ends_early", "corrupt_frames")
GOLDEN: dict[str, Answer] = {
    "ok.mp4": OK,
    "zero_bytes.mp4": Answer("not_a_video"),
    "text.mp4": Answer("not_a_video"),
    "html.mp4": Answer("not_a_video"),
    "random.mp4": Answer("not_a_video"),
    "playlist.m3u8": Answer("not_a_video"),
    "concat.ffconcat": Answer("not_a_video"),
    "elsewhere.mov": Answer("no_frames"),
    "no_moov.mp4": Answer("incomplete"),
    "header_only.mp4": Answer("incomplete"),
    "missing.mp4": Answer("not_found"),
    "dangling.mp4": Answer("not_found"),
    "loop.mp4": Answer("os_error"),
    "folder.mp4": Answer("no_videos"),
    "fifo.mp4": Answer("not_a_regular_file"),
    "socket.mp4": Answer("not_a_regular_file"),
    "/dev/zero": Answer("not_a_regular_file"),
    "closed.mp4": Answer("permission"),
    "cut.mp4": CUT,
    "cut.mkv": warned("ends_early"),
    "cut.avi": warned("ends_early"),
    "bit_flips.mp4": warned("corrupt_frames"),
    "no_keyframe.ts": Answer("no_frames"),
    "no_durations.mp4": Answer("no_frames"),
    "audio_only.mp4": Answer("no_video_stream"),
    "subtitles_only.mkv": Answer("no_video_stream"),
    "cover_art.flac": Answer("no_video_stream"),
    "count_lie.avi": warned("frame_count"),
    "live.mkv": OK,
    "huge.gif": Answer("too_large"),
    "huge.y4m": Answer("too_large"),
    "still.jpg": Answer(None, "single_image", frozenset({"single_image"})),
    "still.png": Answer(None, "single_image", frozenset({"single_image"})),
    "jpg_renamed.mp4": Answer(None, "single_image", frozenset({"single_image"})),
    "one_frame.mp4": Answer(None, "single_image", frozenset({"single_image"})),
    "two_frames.mp4": OK,
    "size_change.ts": warned("size_changed", "timestamps_repaired"),
    "rotated.mp4": OK,
    "two_streams.mkv": warned("several_video_streams"),
    "interlaced.mp4": warned("interlaced"),
    "hdr.mkv": warned("hdr"),
    "odd_size.mkv": OK,
    "tiny_2x2.mkv": OK,
    "alpha.mkv": warned("alpha_ignored"),
    "full_range.avi": OK,
    "picture.gif": warned("alpha_ignored"),
    "vfr.mp4": warned("vfr"),
    "gap.mkv": warned("vfr"),
    "leap.mkv": warned("timestamps_repaired"),
    "raw.h264": warned("timestamps_repaired"),
    "late_start.mkv": OK,
    "wraps.ts": OK,
}
# What is of no concern to a result is said, but not asked for here.
NOTES = frozenset({"non_square_pixels", "vfr", "timestamp_gap", "short_video", "short_for_flow"})


def build(folder: Path) -> None:
    """Fill `folder` with the files of GOLDEN and NAMES."""
    ok = write(folder / "ok.mp4", H264)
    front = index_first(ok, folder / "front.mp4").read_bytes()
    whole = ok.read_bytes()
    for name, content in _plain(whole, front):
        (folder / name).write_bytes(content)
    (folder / "front.mp4").unlink()
    _special(folder)
    _cut(folder)
    _streams(folder)
    _pictures(folder)
    _times(folder)
    for name in NAMES:
        shutil.copy(ok, folder / os.fsdecode(name))


def index_first(source: Path, path: Path) -> Path:
    with av.open(str(source)) as read, av.open(str(path), "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return path


def _plain(whole: bytes, front: bytes) -> Iterator[tuple[str, bytes]]:
    data = front.find(b"mdat") + 4
    random = np.random.default_rng(0)
    yield "zero_bytes.mp4", b""
    yield "text.mp4", b"this is not a video\n" * 200
    yield "html.mp4", b"<!DOCTYPE html><html><head><title>404</title></head></html>"
    yield "random.mp4", random.integers(0, 256, 200_000, np.uint8).tobytes()
    yield "playlist.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nok.mp4\n#EXT-X-ENDLIST\n"
    yield "concat.ffconcat", b"ffconcat version 1.0\nfile ok.mp4\n"
    yield "elsewhere.mov", _elsewhere(whole)
    yield "no_moov.mp4", whole[: whole.rfind(b"moov") - 100]
    yield "header_only.mp4", front[: data + 200]
    yield "cut.mp4", front[: (data + len(front)) // 2]
    flipped = bytearray(front)
    for place in random.integers(data + 2000, len(front), 60):
        flipped[place] ^= 0xFF
    yield "bit_flips.mp4", bytes(flipped)
    yield "no_durations.mp4", _without_durations(front)
    yield "huge.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + b";"
    yield "huge.y4m", b"YUV4MPEG2 W60000 H60000 F25:1 C420\nFRAME\n" + bytes(1000)
    yield "subtitles_only.mkv", b"1\n00:00:00,000 --> 00:00:02,000\nhello\n\n"


def _without_durations(data: bytes) -> bytes:
    """All durations of an MP4 as 0."""
    patched = bytearray(data)
    for tag, offset in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20), (b"elst", 8)):
        at = patched.find(tag)
        if at >= 0:
            patched[at + 4 + offset : at + 8 + offset] = bytes(4)
    return bytes(patched)


def _elsewhere(data: bytes) -> bytes:
    """An MP4 whose data reference names another file, and which has no data of its own."""
    patched = bytearray(data)
    at = patched.find(b"url \0\0\0\x01")
    patched[at : at + 8] = b"url \0\0\0\0"
    start = patched.find(b"mdat") + 4
    patched[start : patched.rfind(b"moov") - 4] = bytes(patched.rfind(b"moov") - 4 - start)
    return bytes(patched)


def _special(folder: Path) -> None:
    (folder / "dangling.mp4").symlink_to(folder / "nothing")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "folder.mp4").mkdir()
    os.mkfifo(folder / "fifo.mp4")
    place = os.getcwd()
    os.chdir(folder)  # the name of a socket must be short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.mp4")
    finally:
        os.chdir(place)
    shutil.copy(folder / "ok.mp4", folder / "closed.mp4")
    (folder / "closed.mp4").chmod(0)


def _cut(folder: Path) -> None:
    for suffix in (".mkv", ".avi"):
        whole = write(folder / f"whole{suffix}", replace(H264, suffix=suffix, frames=90))
        (folder / f"cut{suffix}").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        whole.unlink()
    whole = write(folder / "whole.ts", Recipe(".ts", "libx264", {"g": "1000"}, frames=90))
    data = whole.read_bytes()
    (folder / "no_keyframe.ts").write_bytes(data[len(data) // 2 // 188 * 188 :])
    whole.unlink()
    lie = write(folder / "count_lie.avi", Recipe(".avi", "mpeg4", {"g": "10"}, frames=30))
    data = bytearray(lie.read_bytes())
    for tag, offset in ((b"avih", 24), (b"strh", 40)):
        at = data.find(tag) + offset
        data[at : at + 4] = struct.pack("<I", 999_999)
    lie.write_bytes(bytes(data))


def _silence(container: av.container.OutputContainer, codec: str, kind: str) -> None:
    stream = container.add_stream(codec, rate=44100)
    dtype = np.float32 if kind == "fltp" else np.int16
    frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), dtype), format=kind, layout="mono")
    frame.rate = 44100
    container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _streams(folder: Path) -> None:
    with av.open(str(folder / "audio_only.mp4"), "w") as container:
        _silence(container, "aac", "fltp")
    _, jpeg = cv2.imencode(".jpg", picture(1))
    with av.open(str(folder / "cover_art.flac"), "w") as container:
        sound = container.add_stream("flac", rate=44100)
        art = container.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 160, 96, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        packet = av.Packet(jpeg.tobytes())
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = art, 0, 0, True
        container.mux(packet)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.int16), format="s16", layout="mono")
        frame.rate = 44100
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with av.open(str(folder / "two_streams.mkv"), "w") as container:
        streams = [container.add_stream("libx264", rate=30) for _ in range(2)]
        for stream, (width, height) in zip(streams, [(160, 96), (320, 192)], strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(20):
            for stream in streams:
                image = picture(index, stream.width, stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    with av.open(str(folder / "live.mkv"), "w", options={"live": "1"}) as container:
        _encode(container, "libx264", (160, 96), 30)


def _encode(
    container: av.container.OutputContainer,
    codec: str,
    size: tuple[int, int],
    frames: int,
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    mark: str = "",
) -> None:
    stream = container.add_stream(codec, rate=30, options=options or {})
    stream.width, stream.height, stream.pix_fmt = (*size, pix_fmt)
    if mark == "hdr":
        stream.codec_context.color_trc = 16
    for index in range(frames):
        frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24").reformat(format=pix_fmt)
        if mark == "hdr":
            frame.color_trc = 16
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _pictures(folder: Path) -> None:
    for name in ("still.jpg", "still.png"):
        cv2.imwrite(str(folder / name), picture(5))
    shutil.copy(folder / "still.jpg", folder / "jpg_renamed.mp4")
    write(folder / "one_frame.mp4", replace(H264, frames=1))
    write(folder / "two_frames.mp4", replace(H264, frames=2))
    parts = []
    for size in ((160, 96), (320, 160)):
        with av.open(str(folder / "part.ts"), "w") as container:
            _encode(container, "libx264", size, 20, options={"g": "5"})
        parts.append((folder / "part.ts").read_bytes())
    (folder / "part.ts").unlink()
    (folder / "size_change.ts").write_bytes(b"".join(parts))
    write(folder / "rotated.mp4", replace(H264, rotation=90))
    for name, codec, size, pix_fmt, options, mark in (
        (
            "interlaced.mp4",
            "libx264",
            (160, 96),
            "yuv420p",
            {"flags": "+ildct+ilme", "x264-params": "tff=1"},
            "",
        ),
        ("hdr.mkv", "libx264", (160, 96), "yuv420p10le", {}, "hdr"),
        ("odd_size.mkv", "ffv1", (161, 97), "yuv420p", {}, ""),
        ("tiny_2x2.mkv", "ffv1", (2, 2), "yuv420p", {}, ""),
        ("alpha.mkv", "ffv1", (160, 96), "yuva420p", {}, ""),
        ("full_range.avi", "mjpeg", (160, 96), "yuvj420p", {}, ""),
        ("picture.gif", "gif", (160, 96), "rgb8", {}, ""),
    ):
        with av.open(str(folder / name), "w") as container:
            _encode(container, codec, size, 30, pix_fmt, options, mark)


def _times(folder: Path) -> None:
    def at(name: str, *times_s: float) -> None:
        times = tuple(Fraction(round(1000 * time_s), 1000) for time_s in times_s)
        recipe = Recipe(Path(name).suffix, "libx264", {"g": "10", "bf": "0"}, times, MS, len(times))
        write(folder / name, recipe)

    steady = [index / 30 for index in range(40)]
    at("vfr.mp4", *(index / 30 for index in range(60) if index % 3 != 2))
    at("gap.mkv", *steady[:20], *(5 + time_s for time_s in steady[20:]))
    at("leap.mkv", *steady[:20], *(90_000 + time_s for time_s in steady[20:]))
    at("late_start.mkv", *(10 + time_s for time_s in steady))
    write(folder / "raw.h264", replace(H264, suffix=".h264"))
    with av.open(str(folder / "wraps.ts"), "w", options={"output_ts_offset": "95443"}) as container:
        _encode(container, "libx264", (160, 96), 40)
