"""How fast `vpipe detect` with default options goes over a video, beside decoding alone.

One encoded stretch is repeated without encoding it again. Start-up (imports, model) is listed apart. Decoding
alone goes through the same FrameSource, which decodes every frame, looks at no picture and converts none;
detection leaves frames of large videos out (`frames_decoded`). Both are run turn by turn, ROUNDS times;
figures are medians. Other work on the machine takes time from both, but not alike, so the
processor time of all our processes stands beside the clock's: `cpu_times_real_time` is what the clock would
show if all cores were ours and always busy.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.remux import repeat
from benchmarks.untrimmed import MOTIONS, Renderer
from vpipe import threads
from vpipe.detection.detector import DetectorSettings, detect
from vpipe.media import FrameSource, VideoWriter
from vpipe.models import load_model
from vpipe.recognition.precision import resolve_dtype
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.snippets import detection_grid, scan
from vpipe.synth.timing import random_timeline

SEED = 6006
ROUNDS = 3
TICKS_A_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Kind:
    """A video: `encoded_s` seconds are made, repeated to `length_s`."""

    name: str
    size: tuple[int, int]  # (width, height), px
    fps: Fraction
    encoded_s: float
    length_s: float
    vfr: bool = False
    codec: str = "libx264"
    pix_fmt: str = "yuv420p"
    crf: int = 23


KINDS = (
    Kind("340x256 30 fps H.264", (340, 256), Fraction(30), 60, 600),
    Kind("1080p30 H.264", (1920, 1080), Fraction(30), 12, 600),
    Kind("4K60 HEVC 10 bit", (3840, 2160), Fraction(60), 2, 8, codec="libx265", pix_fmt="yuv420p10le"),
    Kind("1080x1920 VFR H.264", (1080, 1920), Fraction(30), 12, 600, vfr=True),
)


def speed(folder: Path, model: str) -> dict[str, Any]:
    """A row for each kind of video."""
    begin = time.perf_counter()
    recognizer = Recognizer(load_model(model), dtype=resolve_dtype("auto", "cpu"), batch_size=8)
    ready_s = time.perf_counter() - begin
    rows = {kind.name: _measure(kind, folder, recognizer) for kind in KINDS}
    return {"jobs": threads.jobs(), "rounds": ROUNDS, "model_ready_s": round(ready_s, 2), **rows}


class Clock:
    """Seconds by the clock, and of the processor by this process and its children, in turn of being taken."""

    def __init__(self) -> None:
        self.wall_s: list[float] = []
        self.cpu_s: list[float] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), processor_s()
        yield
        self.wall_s.append(time.perf_counter() - wall)
        self.cpu_s.append(processor_s() - cpu)


def processor_s() -> float:
    """Of this process, its children that have ended, and those that live; to 10 ms. Linux only."""
    total = sum(os.times()[:4])
    for thread in Path("/proc/self/task").iterdir():
        try:
            children = (thread / "children").read_text().split()
        except FileNotFoundError:  # a thread that has ended since
            continue
        for child in children:
            fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
            total += sum(int(field) for field in fields[11:13]) / TICKS_A_S
    return total


def _measure(kind: Kind, folder: Path, recognizer: Recognizer) -> dict[str, Any]:
    video = _long_video(kind, folder)
    scored = 0

    def count(_: object, inputs: tuple[Any, ...]) -> None:
        nonlocal scored
        scored += inputs[0].shape[0] * inputs[0].shape[1]

    passes, rest, decoding = Clock(), Clock(), Clock()
    for _ in range(ROUNDS):
        scored = 0
        with passes.running(), recognizer.streams[0].network.register_forward_pre_hook(count):
            scanned = scan(video, recognizer, grid=detection_grid(recognizer), jobs=threads.jobs())
        with rest.running():
            segments = detect(scanned.scores, DetectorSettings())
        with decoding.running():
            FrameSource(video, threads=threads.jobs()).timeline(exact=True)
    walked = FrameSource(video, size=recognizer.streams[0].stream.size, threads=threads.jobs())
    seen = [one.small is not None for one in walked.walk(detection_grid(recognizer).fps)]
    video.unlink()
    video_s, cores = scanned.duration_s, threads.jobs()
    wholes = [a + b for a, b in zip(passes.wall_s, rest.wall_s, strict=True)]
    cpu_wholes = [a + b for a, b in zip(passes.cpu_s, rest.cpu_s, strict=True)]
    return {
        "video_s": round(video_s, 1),
        "segments": len(segments),
        "times_real_time": round(video_s / statistics.median(wholes), 1),
        "cpu_times_real_time": round(cores * video_s / statistics.median(cpu_wholes), 1),
        "decoding_alone_times_real_time": round(video_s / statistics.median(decoding.wall_s), 1),
        "share_of_decoding_speed": _share(decoding.wall_s, wholes),
        "share_of_decoding_speed_by_cpu": _share(decoding.cpu_s, cpu_wholes),
        "frames_decoded": round(sum(seen) / len(seen), 3),
        "backbone_frames_per_frame": round(scored / scanned.frames, 3),
        "after_backbone_share": _share(rest.wall_s, wholes, 4),
    }


def _share(parts: list[float], wholes: list[float], digits: int = 3) -> float:
    return round(statistics.median(a / b for a, b in zip(parts, wholes, strict=True)), digits)


def _long_video(kind: Kind, folder: Path) -> Path:
    cv2.setNumThreads(1)
    rng = np.random.default_rng(SEED)
    shrink = 1 if min(kind.size) <= 360 else 4
    small = kind.size[0] // shrink, kind.size[1] // shrink
    show = Renderer(random_timeline(rng, kind.encoded_s, MOTIONS), small, [SEED], False)
    short, long = folder / "short.mp4", folder / "long.mp4"
    width, height = kind.size
    times = [k / kind.fps for k in range(round(kind.encoded_s * kind.fps))]
    if kind.vfr:
        times = [t for k, t in enumerate(times) if k % 5 != 3]
    options = {"preset": "ultrafast"} if kind.codec == "libx265" else {}
    with VideoWriter(
        short,
        width,
        height,
        fps=None if kind.vfr else kind.fps,
        codec=kind.codec,
        pix_fmt=kind.pix_fmt,
        crf=kind.crf,
        options=options,
    ) as writer:
        for t in times:
            picture = show.at(float(t))
            if small != kind.size:
                picture = cv2.resize(picture, kind.size, interpolation=cv2.INTER_CUBIC)
            writer.write(picture, t if kind.vfr else None)
    repeat(short, long, round(kind.length_s / kind.encoded_s))
    short.unlink()
    return long
