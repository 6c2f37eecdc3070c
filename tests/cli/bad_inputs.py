"""The inputs that people really have, made without any tool but PyAV."""

from __future__ import annotations

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np

NOT_UTF8 = os.fsdecode(b"caf\xe9.mp4")


def make_inputs(folder: Path, make_clip: Callable[..., Path]) -> None:
    """Fill `folder` with one good video and every kind of bad input; see `EXPECTED` in test_bad_input.py."""
    folder.mkdir(parents=True)
    make_clip(folder / "good.mp4")
    make_clip(folder / NOT_UTF8)
    make_clip(folder / "one_frame.mp4", frames=1)
    (folder / "text.mp4").write_text("this is not a video\n" * 200)
    (folder / "empty.mp4").touch()
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo.mp4")
    write_audio(folder / "audio.mp4")
    whole = make_clip(folder / "whole.mp4", frames=120, size=(320, 240), seed=3)
    (folder / "no_index.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    front = index_first(whole, folder / "front.mp4")
    (folder / "truncated.mp4").write_bytes(front.read_bytes()[: front.stat().st_size // 2])
    closed = make_clip(folder / "closed.mp4")
    closed.chmod(0)
    whole.unlink()
    front.unlink()


def write_audio(path: Path) -> None:
    """One second of silence, no picture."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = np.zeros((1, 44100), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 44100
        frame.time_base = Fraction(1, 44100)
        for packet in [*stream.encode(frame), *stream.encode()]:
            container.mux(packet)


def index_first(source: Path, path: Path) -> Path:
    """The same video with its index in front, so that half of the file still has half of the frames."""
    import av

    with (
        av.open(str(source)) as reader,
        av.open(str(path), "w", options={"movflags": "+faststart"}) as writer,
    ):
        stream = reader.streams.video[0]
        copy = writer.add_stream_from_template(stream)
        for packet in reader.demux(stream):
            if packet.dts is not None:
                packet.stream = copy
                writer.mux(packet)
    return path
