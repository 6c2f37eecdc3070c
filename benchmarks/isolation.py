"""What decoding in a process of its own costs `vpipe flow`: whole commands, turn by turn with and without it.

python -m benchmarks.isolation [--seconds 60] [--rounds 7] [--jobs 2] [--json FILE]

Both sides are the same command with an empty cache, from the start of Python to the end of the last process.
CPU time is that of all processes. The cost is the median over the rounds of with / without - 1.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

RATE = Fraction(30)
SIZE = (426, 240)
RECIPES = {
    "tvl1, the default recipe": [],
    "dis, every frame": ["--method", "dis", "--fps", "native", "--short-side", "128"],
}


def write_video(path: Path, seconds: int) -> None:
    """A picture of coloured noise that pans."""
    import numpy as np  # here: the commands that are measured import what they need

    from vpipe.media import VideoWriter

    width, height = SIZE
    noise = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    picture = noise.repeat(8, 0).repeat(8, 1)[:height, :width]
    with VideoWriter(path, width, height, fps=RATE) as writer:
        for index in range(seconds * int(RATE)):
            writer.write(np.ascontiguousarray(np.roll(picture, (index // 3, 2 * index), (0, 1))))


def command(isolated: str, *arguments: str) -> None:
    """One `vpipe` command in this process; prints the CPU seconds of this process and its children."""
    if isolated == "without":
        _decode_here()
    from vpipe.cli.main import main as vpipe
    from vpipe.media import decoders

    sys.argv = ["vpipe", *arguments]
    try:
        vpipe()
    except SystemExit as end:
        if end.code:
            raise
    for worker in decoders._idle:
        worker.close()  # and wait: their time counts
    whose = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    print(sum(u.ru_utime + u.ru_stime for u in map(resource.getrusage, whose)))


def _decode_here() -> None:
    from vpipe import workers
    from vpipe.cache import plan
    from vpipe.media.reading import FrameReader

    class InThisProcess(FrameReader):
        """FrameReader with the rest of what a cache entry asks of FrameSource."""

        def grid(self, fps: Fraction | None) -> list[int]:
            return self.timeline().grid(fps)

        def require_motion(self) -> None:
            pass

    setattr(plan, "FrameSource", InThisProcess)  # noqa: B010 - the name that the cache opens videos by
    setattr(workers, "begin_early", lambda module: None)  # noqa: B010


def run_once(isolated: str, video: Path, recipe: list[str], jobs: int) -> tuple[float, float]:
    """Wall and CPU seconds."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["flow", str(video), *recipe, "--cache-dir", folder, "-j", str(jobs), "-q"]
        run = [sys.executable, "-m", "benchmarks.isolation", "--command", isolated, *arguments]
        begin = time.perf_counter()
        done = subprocess.run(run, stdout=subprocess.PIPE, check=True, text=True)
        return time.perf_counter() - begin, float(done.stdout.splitlines()[-1])


def compare(video: Path, recipe: list[str], rounds: int, jobs: int) -> dict[str, Any]:
    for isolated in ("without", "with"):
        run_once(isolated, video, recipe, jobs)  # compiles the kernels, warms the page cache
    times: dict[str, list[tuple[float, float]]] = {"without": [], "with": []}
    for number in range(rounds):
        for isolated in ("without", "with") if number % 2 else ("with", "without"):
            times[isolated].append(run_once(isolated, video, recipe, jobs))
    result: dict[str, Any] = {}
    for column, name in enumerate(("wall", "cpu")):
        pairs = [(a[column], b[column]) for a, b in zip(times["without"], times["with"], strict=True)]
        costs = sorted(b / a - 1 for a, b in pairs)
        result[f"{name}_s_without"] = round(statistics.median(a for a, _ in pairs), 3)
        result[f"{name}_s_with"] = round(statistics.median(b for _, b in pairs), 3)
        result[f"{name}_cost"] = round(statistics.median(costs), 4)
        result[f"{name}_cost_of_each_pair"] = [round(cost, 4) for cost in costs]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        write_video(video, options.seconds)
        for name, recipe in RECIPES.items():
            found[name] = compare(video, recipe, options.rounds, options.jobs)
            print(name, json.dumps(found[name]))
    if options.json is not None:
        conditions = {
            "what": "cost of decoding in a process of its own, whole `vpipe flow` commands in pairs",
            "video": f"{options.seconds} s of {SIZE[0]}x{SIZE[1]} at {RATE} fps, H.264, generated",
            "jobs": options.jobs,
            "rounds": options.rounds,
            "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        }
        options.json.write_text(json.dumps(conditions | {"recipes": found}, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--command"]:
        command(*sys.argv[2:])
    else:
        main()
