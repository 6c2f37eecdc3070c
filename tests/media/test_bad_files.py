"""Files that are no videos, are hurt, or lie: a reason code, or what still decodes with a warning."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.numbered import Recipe, number_of, picture, write
from vpipe.errors import InputError
from vpipe.limits import Limits, set_limits
from vpipe.media import FrameSource, reading
from vpipe.media.first_look import read_head
from vpipe.media.reading import FrameReader
from vpipe.media.source import probe

SMALL = Recipe(".mp4", "libx264", {"g": "10", "bf": "0"}, frames=40)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 numbered frames, H.264, a keyframe every 10, index in front of the data."""
    folder = tmp_path_factory.mktemp("good")
    plain = write(folder / "plain.mp4", SMALL)
    faststart = folder / "good.mp4"
    with av.open(str(plain)) as read, av.open(str(faststart), "w", options={"movflags": "+faststart"}) as out:
        stream = out.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    return faststart


def refused(path: str | Path) -> InputError:
    with pytest.raises(InputError) as caught:
        FrameSource(path)
    assert caught.value.message.isprintable(), "one line"
    assert os.path.basename(path).encode("utf-8", "ignore").decode()[:4] in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "not_a_video"),
        (b"this is not a video\n" * 200, "not_a_video"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "not_a_video"),
        (np.random.default_rng(0).integers(0, 256, 200_000, np.uint8).tobytes(), "not_a_video"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nother.ts\n#EXT-X-ENDLIST\n", "not_a_video"),
        (b"ffconcat version 1.0\nfile other.mp4\n", "not_a_video"),
        (b"GIF89a" + struct.pack("<HH", 65535, 65535) + b"\x80\0\0" + bytes(6) + b";", "too_large"),
        (b"YUV4MPEG2 W60000 H60000 F25:1 C420\nFRAME\n" + bytes(1000), "too_large"),
    ],
)
def test_what_is_no_video_is_refused(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "file.mp4"
    path.write_bytes(content)
    assert refused(path).code == code


def test_names_that_open_nothing(tmp_path: Path) -> None:
    assert refused(tmp_path / "missing.mp4").code == "not_found"
    assert refused(tmp_path).code == "is_directory"
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    assert refused(tmp_path / "loop.mp4").code == "os_error"
    (tmp_path / "dangling.mp4").symlink_to(tmp_path / "nothing")
    assert refused(tmp_path / "dangling.mp4").code == "not_found"


def test_fifos_devices_and_sockets_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.mp4")
    fault = refused(tmp_path / "fifo.mp4")
    assert fault.code == "not_a_regular_file"
    assert "fifo" in fault.message
    assert "device" in refused("/dev/zero").message
    with socket.socket(socket.AF_UNIX) as server:
        place = os.getcwd()
        os.chdir(tmp_path)  # the name of a socket must be short
        try:
            server.bind("sock.mp4")
        finally:
            os.chdir(place)
        assert "socket" in refused(tmp_path / "sock.mp4").message


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tmp_path: Path, good: Path) -> None:
    path = tmp_path / "closed.mp4"
    path.write_bytes(good.read_bytes())
    path.chmod(0)
    assert refused(path).code == "permission"


def test_an_unreadable_file_even_as_root(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*arguments: object, **more: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", deny)
    with pytest.raises(InputError, match="Permission denied") as caught:
        read_head(good)
    assert caught.value.code == "permission"


@pytest.mark.parametrize(
    "name",
    [
        "with space.mp4",
        "-dash.mp4",
        "pct_%03d.mp4",
        "http:fake.mp4",
        "colon:name.mp4",
        "br[ack]*et?.mp4",
        "pipe|cmd.mp4",
        "new\nline.mp4",
        "ünï_日本_🎬.mp4",
        "noext",
        b"latin1_\xe9.mp4",
    ],
)
def test_any_name_works(
    tmp_path: Path, good: Path, name: str | bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(os.fsdecode(name)).write_bytes(good.read_bytes())
    assert len(list(FrameSource(os.fsdecode(name)).frames())) == 40
    assert probe(os.fsdecode(name)).width == 160


def test_a_picture_whose_name_looks_like_a_pattern_is_one_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    monkeypatch.chdir(tmp_path)
    for name, number in (("%03d.jpg", 5), ("001.jpg", 6), ("002.jpg", 7)):
        cv2.imwrite(name, picture(number))
    video = FrameSource("%03d.jpg")
    assert [number_of(frame.image) for frame in video.frames()] == [5]
    assert video.info.is_image
    with pytest.raises(InputError, match="a single image") as caught:
        video.require_motion()
    assert caught.value.code == "single_image"


def test_one_frame_is_no_motion(tmp_path: Path) -> None:
    video = FrameSource(write(tmp_path / "one.mp4", Recipe(".mp4", "libx264", frames=1)))
    assert len(video.timeline()) == 1
    assert video.grid(Fraction(8)) == [0]
    assert [tick for tick, _ in video.resample(Fraction(8))] == [0]
    with pytest.raises(InputError, match="1 frame"):
        video.require_motion()


def test_sound_and_cover_art_are_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mkv"
    with av.open(str(path), "w") as out:
        sound = out.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.float32), format="fltp", layout="mono")
        frame.rate = 44100
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    assert refused(path).code == "no_video_stream"
    import cv2

    _, jpeg = cv2.imencode(".jpg", picture(1))
    cover = tmp_path / "cover.flac"
    with av.open(str(cover), "w") as out:
        sound = out.add_stream("flac", rate=44100)
        art = out.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 160, 96, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.int16), format="s16", layout="mono")
        frame.rate = 44100
        packet = av.Packet(jpeg.tobytes())
        packet.stream, packet.pts, packet.dts, packet.is_keyframe = art, 0, 0, True
        out.mux(packet)
        out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
    with av.open(str(cover)) as container:
        assert len(container.streams.video) == 1
    assert refused(cover).code == "no_video_stream"


def test_a_file_without_its_index_is_incomplete(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.mp4", SMALL).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: whole.rfind(b"moov") - 100])
    assert refused(cut).code == "incomplete"


@pytest.fixture(params=["counted", "from packets"])
def budget(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "EXACT_BUDGET_PX", 0 if request.param == "from packets" else 1 << 60)


def test_a_truncated_video_keeps_what_decodes(tmp_path: Path, good: Path, budget: None) -> None:
    data = good.read_bytes()
    path = tmp_path / "half.mp4"
    path.write_bytes(data[: data.find(b"mdat") + (len(data) - data.find(b"mdat")) // 2])
    video = FrameReader(path)
    frames = list(video.frames())
    assert 5 < len(frames) < 40
    assert [number_of(frame.image) for frame in frames] == list(range(len(frames)))
    assert len(video.timeline()) == len(frames)
    codes = {warning.code: warning.numbers for warning in video.warnings}
    missing = len(data) - path.stat().st_size
    assert codes["ends_early"] == {"decoded": len(frames), "declared": 40, "missing_bytes": missing}
    assert [number_of(f.image) for f in video.select([0, len(frames) - 1])] == [0, len(frames) - 1]


@pytest.mark.parametrize("suffix", [".mkv", ".avi"])
def test_truncation_shows_in_other_containers(tmp_path: Path, suffix: str) -> None:
    whole = write(tmp_path / f"whole{suffix}", Recipe(suffix, "libx264", {"g": "10"}, frames=90))
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    video = FrameSource(cut)
    assert 10 < len(list(video.frames())) < 80
    assert video.partial


def hurt(good: Path, path: Path, number: int) -> Path:
    """Overwrite the middle of the packet of frame `number`."""
    with av.open(str(good)) as container:
        packet = [p for p in container.demux(video=0) if p.size][number]
    data = bytearray(good.read_bytes())
    assert packet.pos is not None
    data[packet.pos + 4 : packet.pos + packet.size] = bytes(
        np.random.default_rng(1).integers(128, 256, packet.size - 4, np.uint8)
    )
    path.write_bytes(bytes(data))
    return path


def test_a_broken_packet_costs_only_what_hangs_on_it(tmp_path: Path, good: Path) -> None:
    video = FrameSource(hurt(good, tmp_path / "hurt.mp4", 13), short_side_px=48)
    frames = list(video.frames())
    clean = [frame for frame in frames if not frame.damaged]
    assert {number_of(frame.image) for frame in clean} >= {*range(13), *range(20, 40)}
    assert any(frame.damaged for frame in frames)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert video.partial
    assert "corrupt_frames" in [warning.code for warning in video.warnings]
    assert len(video.timeline()) == len(frames)
    assert [frame.time_s for frame in frames] == list(video.timeline().times)
    assert [frame.index for frame in video.select(range(len(frames)))] == list(range(len(frames)))


def test_select_stands_in_for_frames_that_packets_promised(
    tmp_path: Path, good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "EXACT_BUDGET_PX", 0)
    video = FrameReader(hurt(good, tmp_path / "hurt.mp4", 13), short_side_px=48)
    assert len(video.timeline()) == 40
    got = list(video.select(range(40)))
    assert [frame.index for frame in got] == list(range(40))
    sound = [frame for frame in got if not frame.damaged]
    assert {frame.index for frame in sound} >= {*range(13), *range(21, 40)}
    assert all(number_of(frame.image) == frame.index for frame in sound)
    assert any(frame.damaged for frame in got[13:20])


def test_flipped_bits_never_raise(tmp_path: Path, good: Path) -> None:
    data = good.read_bytes()
    begin = data.find(b"mdat") + 8
    for seed in range(8):
        random = np.random.default_rng(seed)
        flipped = bytearray(data)
        for place in random.integers(begin + 400, len(data), 60):
            flipped[place] ^= 1 << int(random.integers(8))
        path = tmp_path / f"flipped{seed}.mp4"
        path.write_bytes(bytes(flipped))
        video = FrameSource(path, short_side_px=48)
        frames = list(video.frames())
        times = [frame.time_s for frame in frames]
        assert times == sorted(times) == list(video.timeline().times)
        assert len(list(video.select([0, len(frames) // 2, len(frames) - 1]))) == 3


def test_a_header_that_lies_about_the_count(tmp_path: Path) -> None:
    path = write(tmp_path / "lie.avi", Recipe(".avi", "mpeg4", {"g": "10"}, frames=30))
    data = bytearray(path.read_bytes())
    for tag, offset in ((b"avih", 24), (b"strh", 40)):
        data[data.find(tag) + offset : data.find(tag) + offset + 4] = struct.pack("<I", 999_999)
    path.write_bytes(bytes(data))
    video = FrameSource(path)
    assert len(video.timeline()) == len(list(video.frames())) == 30
    assert {w.code: w.numbers for w in video.warnings} == {
        "frame_count": {"decoded": 30, "declared": 999_999}
    }
    assert not video.partial


def test_a_stream_without_a_keyframe_has_no_decodable_frame(tmp_path: Path) -> None:
    path = write(tmp_path / "whole.ts", Recipe(".ts", "libx264", {"g": "1000"}, frames=90))
    data = path.read_bytes()
    cut = tmp_path / "cut.ts"
    cut.write_bytes(data[len(data) // 2 // 188 * 188 :])
    assert refused(cut).code == "no_frames"


def test_times_without_pts_are_counted_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "raw.h264"
    write(path, Recipe(".h264", "libx264", {"g": "10"}, frames=30))
    video = FrameSource(path)
    assert [frame.time_s for frame in video.frames()] == [i / video.info.rate for i in range(30)]
    assert [warning.code for warning in video.warnings] == ["timestamps_repaired"]


def test_a_change_of_size_is_resized_to_the_first(tmp_path: Path) -> None:
    parts = []
    for number, (width, height) in enumerate([(160, 96), (320, 160)]):
        part = tmp_path / f"part{number}.ts"
        with av.open(str(part), "w") as container:
            stream = container.add_stream("libx264", rate=30, options={"g": "5"})
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for index in range(10):
                image = picture(10 * number + index, width, height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        parts.append(part.read_bytes())
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    video = FrameSource(path)
    frames = list(video.frames())
    assert {frame.image.shape for frame in frames} == {(96, 160, 3)}
    assert [number_of(frame.image) for frame in frames] == list(range(20))
    assert "size_changed" in [warning.code for warning in video.warnings]


def test_the_first_of_several_video_streams_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "two.mkv"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=30) for _ in range(2)]
        for stream, (width, height) in zip(streams, [(160, 96), (320, 192)], strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(5):
            for number, stream in enumerate(streams):
                image = picture(100 * number + index, stream.width, stream.height)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    video = FrameSource(path)
    assert [number_of(frame.image) for frame in video.frames()] == list(range(5))
    assert [(w.code, w.numbers) for w in video.warnings] == [
        ("several_video_streams", {"streams": 2, "stream_index": 0})
    ]


def test_absurd_output_sizes_are_refused(good: Path) -> None:
    with pytest.raises(InputError) as caught:
        FrameSource(good, short_side_px=100_000)
    assert caught.value.code == "too_large"


@pytest.fixture
def small_limits() -> Iterator[Callable[..., None]]:
    """`small_limits(frames=10)`, for the length of a test."""
    yield lambda **numbers: set_limits(Limits(**numbers))
    set_limits(Limits())


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".mkv"])
def test_a_decoder_never_gets_to_allocate_absurd_pictures(
    tmp_path: Path, suffix: str, small_limits: Callable[..., None]
) -> None:
    import cv2

    small_limits(pixels=10_000)
    path = tmp_path / f"big{suffix}"
    if suffix == ".mkv":
        write(path, Recipe(".mkv", "ffv1", frames=2))
    else:
        cv2.imwrite(str(path), picture(1))
    fault = refused(path)
    assert fault.code == "too_large"
    assert "160x96" in fault.message
