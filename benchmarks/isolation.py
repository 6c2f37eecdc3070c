"""What decoding in a process of its own costs `vpipe flow`: whole runs, turn by turn with and without it.

python -m benchmarks.isolation [--seconds 60] [--rounds 5] [--jobs 2]
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import numpy as np

from vpipe import threads
from vpipe.cache import FlowCache, plan
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage
from vpipe.media import FrameSource, VideoWriter, decoders
from vpipe.media.reading import FrameReader

RATE = Fraction(30)
SIZE = (426, 240)
RECIPES = {
    "tvl1, the default recipe": FlowParams.preset("accurate", short_side_px=128, fps=Fraction(8)),
    "dis, every frame": FlowParams.preset("accurate", method="dis", short_side_px=128, fps=None),
}


class InThisProcess(FrameReader):
    """FrameReader with the rest of what a cache entry asks of FrameSource."""

    def grid(self, fps: Fraction | None) -> list[int]:
        return self.timeline().grid(fps)

    def require_motion(self) -> None:
        pass


def write_video(path: Path, seconds: int) -> None:
    """A picture of coloured noise that pans."""
    width, height = SIZE
    noise = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    picture = noise.repeat(8, 0).repeat(8, 1)[:height, :width]
    with VideoWriter(path, width, height, fps=RATE) as writer:
        for index in range(seconds * int(RATE)):
            writer.write(np.ascontiguousarray(np.roll(picture, (index // 3, 2 * index), (0, 1))))


def run_once(video: Path, params: FlowParams, source: type, jobs: int) -> tuple[float, float]:
    """Wall and CPU seconds of computing all flow of a video into an empty cache; decoders included."""
    setattr(plan, "FrameSource", source)  # noqa: B010 - the name that the cache opens videos by
    _end_decoders()
    with tempfile.TemporaryDirectory() as folder:
        wall, cpu = time.perf_counter(), _cpu_s()
        FlowCache(Path(folder)).entry(video, params, Storage("standard")).ensure(jobs=jobs)
        _end_decoders()
        wall = time.perf_counter() - wall
    return wall, _cpu_s() - cpu


def _end_decoders() -> None:
    """Have the next run begin its own, and their time counted with ours."""
    for worker in decoders._idle:
        worker.close()
    decoders._idle.clear()


def _cpu_s() -> float:
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, whose))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    options = parser.parse_args()
    threads.set_jobs(options.jobs)
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(video, options.seconds)
        print(
            f"{options.seconds} s of {SIZE[0]}x{SIZE[1]} at {RATE} fps, {options.jobs} jobs; median seconds"
        )
        for name, params in RECIPES.items():
            run_once(video, params, InThisProcess, options.jobs)  # compiles the kernels
            times: dict[type, list[tuple[float, float]]] = {InThisProcess: [], FrameSource: []}
            for _ in range(options.rounds):
                for source, measured in times.items():
                    measured.append(run_once(video, params, source, options.jobs))
            within, apart = (
                [statistics.median(column) for column in zip(*measured, strict=True)]
                for measured in times.values()
            )
            wall, cpu = (b / a - 1 for a, b in zip(within, apart, strict=True))
            print(f"{name}: in this process {within[0]:.2f} wall, {within[1]:.2f} CPU;", end=" ")
            print(f"in its own {apart[0]:.2f} wall, {apart[1]:.2f} CPU: {wall:+.1%} wall, {cpu:+.1%} CPU")


if __name__ == "__main__":
    main()
