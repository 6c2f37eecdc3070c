"""TV-L1 against OpenCV's DualTVL1: speed, accuracy, scaling, and `vpipe flow` as a whole.

    python -m benchmarks.flow [--shared DIR] [--per-kind 8] [--json FILE]

One interleaved run, one thread each side: pair by pair, OpenCV (defaults) and then each preset, every step
from two pictures to the flow inside the timed figure; speed is the ratio of the summed times over the pairs.
With `clips` and `flow_pairs` beside the checkout the pairs are those of flow_pairs.csv at short side 256 and
the five of Middlebury; without them they are the generated ones. Times move with the machine, ratios little.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numba
import numpy as np
import numpy.typing as npt

from benchmarks.flow_pairs import KINDS, Pair, end_point_error, from_clips, generated, middlebury
from vpipe.cache.records import encode
from vpipe.cache.store import FlowCache
from vpipe.flow.methods import FlowFrame, compute, flow_between
from vpipe.flow.params import PRESETS, FlowParams
from vpipe.flow.quantise import Storage
from vpipe.media import FrameSource
from vpipe.media.reading import FrameReader
from vpipe.synth.write import SynthOptions, write_untrimmed

SHARED = Path(__file__).resolve().parents[2] / "shared"
ASKED = {"parity": 25, "accurate": 45, "fast": 100}
ASKED_THROUGHPUT = {"accurate": 0.85, "fast": 0.75}
THREADS = 2
Flow = npt.NDArray[np.float32]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shared", type=Path, default=SHARED, help="folder with clips/ and flow_pairs/")
    parser.add_argument("--per-kind", type=int, default=8, help="generated pairs of each kind of motion")
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=60, help="length of the video for `vpipe flow`")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    made = list(generated(options.per_kind, options.seed))
    real = _real_pairs(options.shared)
    warm = made[0]
    for preset in PRESETS:
        compute(warm.first, warm.second, FlowParams.preset(preset))
    results: dict[str, Any] = {"opencv": cv2.__version__, "numba": numba.__version__}
    results["speed"] = speed(real or made, "real" if real else "generated")
    results["generated"] = by_kind(made)
    pictures = [p for pair in (real or made)[:6] for p in (pair.first, pair.second)]
    results["scaling"] = scaling(pictures)
    results["throughput"] = throughput(options.seconds)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


def _real_pairs(shared: Path) -> list[Pair]:
    if not (shared / "clips").is_dir() or not (shared / "flow_pairs").is_dir():
        print(f"{shared}: no clips/ and flow_pairs/ there; generated pairs instead\n")
        return []
    return [*middlebury(shared / "flow_pairs"), *from_clips(shared / "clips")]


def opencv() -> Callable[[Pair], Flow]:
    """OpenCV's DualTVL1 with its defaults."""
    contrib: Any = cv2  # its type stubs leave out the flow factories
    engine = contrib.optflow.DualTVL1OpticalFlow_create()

    def flow(pair: Pair) -> Flow:
        engine.setScalesNumber(5)  # a small picture lowers it for good
        found: Flow = engine.calc(pair.first, pair.second, None).transpose(2, 0, 1)
        return found

    return flow


def presets() -> dict[str, Callable[[Pair], Flow]]:
    def ours(params: FlowParams) -> Callable[[Pair], Flow]:
        return lambda pair: compute(pair.first, pair.second, params)

    return {name: ours(FlowParams.preset(name)) for name in PRESETS}


def speed(pairs: Sequence[Pair], what: str) -> dict[str, Any]:
    """Times, speed-ups, distances to OpenCV and, where there is truth, end-point errors."""
    methods = {"opencv": opencv()} | presets() | {"dis": lambda p: compute(p.first, p.second, _dis())}
    rows: list[dict[str, Any]] = []
    print(f"{len(pairs)} {what} pairs, one thread: ms (times OpenCV) | EPE px | mean distance to OpenCV px")
    for pair in pairs:
        row: dict[str, Any] = {"pair": pair.name, "size": list(pair.first.shape[::-1])}
        flows = {}
        for name, method in methods.items():
            start = time.perf_counter()
            flows[name] = method(pair)
            row[f"{name}_ms"] = 1000 * (time.perf_counter() - start)
            if pair.truth is not None:
                row[f"{name}_epe"] = end_point_error(flows[name], pair.truth)
        row["parity_distance"] = float(np.hypot(*(flows["parity"] - flows["opencv"])).mean())
        rows.append(row)
        print(_line(row), flush=True)
    totals = {name: sum(row[f"{name}_ms"] for row in rows) for name in methods}
    summary: dict[str, Any] = {
        "times_opencv": {name: totals["opencv"] / totals[name] for name in methods},
        "parity_distance_mean": statistics.mean(row["parity_distance"] for row in rows),
        "parity_distance_worst": max(row["parity_distance"] for row in rows),
    }
    known = [row for row in rows if "opencv_epe" in row]
    summary["epe"] = {name: statistics.mean(row[f"{name}_epe"] for row in known) for name in methods}
    summary["parity_epe_off"] = max(abs(row["parity_epe"] - row["opencv_epe"]) for row in known)
    print("\nmethod    times OpenCV   asked   mean EPE px")
    for name in methods:
        asked = f">= {ASKED[name]}" if name in ASKED else ""
        print(f"{name:9} {summary['times_opencv'][name]:9.1f} {asked:>9} {summary['epe'][name]:11.3f}")
    print(
        f"parity to OpenCV: mean {summary['parity_distance_mean']:.4f} px, worst pair "
        f"{summary['parity_distance_worst']:.4f}, EPE off by at most {summary['parity_epe_off']:.4f}\n"
    )
    return {"pairs": rows, **summary}


def _line(row: dict[str, Any]) -> str:
    times = " ".join(
        f"{name} {row[f'{name}_ms']:.1f} ({row['opencv_ms'] / row[f'{name}_ms']:.0f}x)" for name in PRESETS
    )
    errors = " ".join(
        f"{name} {row[f'{name}_epe']:.3f}" for name in ("opencv", *PRESETS) if f"{name}_epe" in row
    )
    size = "x".join(map(str, row["size"]))
    return (
        f"{row['pair']:22} {size:8} opencv {row['opencv_ms']:6.0f} {times} | {errors or '-'} | "
        f"{row['parity_distance']:.4f}"
    )


def _dis() -> FlowParams:
    return FlowParams.preset("accurate", method="dis")


def by_kind(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Mean end-point error by kind of motion."""
    methods = {"opencv": opencv()} | presets()
    table = {
        kind: {
            name: statistics.mean(
                end_point_error(method(p), p.truth) for p in pairs if p.kind == kind and p.truth is not None
            )
            for name, method in methods.items()
        }
        for kind in KINDS
    }
    table["mean"] = {name: statistics.mean(table[kind][name] for kind in KINDS) for name in methods}
    print(f"generated pairs, mean EPE px ({len(pairs) // len(KINDS)} of each kind)")
    print(f"{'':12}" + "".join(f"{name:>10}" for name in methods))
    for kind, row in table.items():
        print(f"{kind:12}" + "".join(f"{row[name]:10.3f}" for name in methods))
    print()
    return table


@numba.njit(nogil=True)  # type: ignore[untyped-decorator,unused-ignore]
def _arithmetic(rounds: int) -> float:
    """A fixed amount of arithmetic that touches no memory."""
    x = 0.5
    for _ in range(rounds):
        x = x * 1.0000001 + 1e-9
    return x


def scaling(pictures: Sequence[npt.NDArray[np.uint8]], runs: int = 7) -> dict[str, float]:
    """Throughput of two threads over that of one, of the engine and of plain arithmetic, interleaved."""
    params = FlowParams.preset("accurate")
    jobs = [(pictures[i], pictures[i + 1]) for i in range(0, len(pictures) - 1, 2)] * 2
    rounds = 30_000_000

    def engine(threads: int) -> float:
        return _rate(threads, [functools.partial(compute, a, b, params) for a, b in jobs])

    def arithmetic(threads: int) -> float:
        return _rate(threads, [lambda: _arithmetic(rounds)] * 8)

    _arithmetic(10)
    found: dict[str, list[float]] = {"engine": [], "arithmetic": [], "ratio": []}
    for _ in range(runs):
        ours = engine(THREADS) / engine(1)
        fixed = arithmetic(THREADS) / arithmetic(1)
        for name, value in (("engine", ours), ("arithmetic", fixed), ("ratio", ours / fixed)):
            found[name].append(value)
    medians = {name: statistics.median(values) for name, values in found.items()}
    print(
        f"scaling to {THREADS} threads, median of {runs}: engine {medians['engine']:.2f}, "
        f"arithmetic {medians['arithmetic']:.2f}, ratio {medians['ratio']:.3f} (asked >= 0.93)\n"
    )
    return medians


def _rate(threads: int, work: Sequence[Callable[[], Any]]) -> float:
    with ThreadPoolExecutor(threads) as pool:
        start = time.perf_counter()
        for done in [pool.submit(job) for job in work]:
            done.result()
        return len(work) / (time.perf_counter() - start)


def throughput(seconds: int) -> dict[str, Any]:
    """`vpipe flow` from the first decoded frame to the sealed file, against the engine alone."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        options = SynthOptions(seed=5, fps=Fraction(30), size=(340, 256))
        write_untrimmed(Path(folder), 1, seconds / 60, options)
        video = next(Path(folder).glob("*.mp4"))
        for preset, asked in ASKED_THROUGHPUT.items():
            params = FlowParams.preset(preset)
            frames = [frame.image.copy() for frame in FrameSource(video, color="gray").frames()]
            shares = []
            for run in range(3):
                engine = _engine_rate(frames, params)
                entry = FlowCache(Path(folder) / f"{preset}-{run}").entry(video, params, Storage())
                start = time.perf_counter()
                counts = entry.ensure(jobs=THREADS)
                whole = counts.computed / (time.perf_counter() - start)
                shares.append((whole / engine, whole, engine))
            share, whole, engine = statistics.median_low(shares)
            stages = _stages(video, frames, params)
            results[preset] = {"share": share, "pairs_per_s": whole, "engine_pairs_per_s": engine, **stages}
            print(
                f"vpipe flow, {preset}, {len(frames)} frames 340x256, {THREADS} threads: {whole:.1f} "
                f"pairs/s of the engine's {engine:.1f}: {share:.2f} (asked >= {asked})\n  CPU per pair: "
                + ", ".join(f"{name} {value:.2f} ms" for name, value in stages.items())
            )
    return results


def _engine_rate(frames: Sequence[npt.NDArray[Any]], params: FlowParams) -> float:
    """Pairs per second of the engine alone on frames in memory, a frame's own work shared by its pairs."""
    seconds = 0.0
    for start in range(0, len(frames) - 1, 100):  # pyramids of a hundred frames are held at once
        ready = [FlowFrame(frame, params) for frame in frames[start : start + 101]]
        work = [functools.partial(flow_between, a, b) for a, b in pairwise(ready)]
        seconds += len(work) / _rate(THREADS, work)
    return (len(frames) - 1) / seconds


def _stages(video: Path, frames: Sequence[npt.NDArray[Any]], params: FlowParams) -> dict[str, float]:
    """CPU milliseconds per pair of each stage on one thread. Decoding is done by a process of its own."""
    start = time.thread_time()
    count = sum(1 for _ in FrameReader(video, color="gray").frames())
    decode = (time.thread_time() - start) / count
    start = time.thread_time()
    for _ in FrameSource(video, color="gray").frames():
        pass
    receive = (time.thread_time() - start) / count
    some = [FlowFrame(frame, params) for frame in frames[:60]]
    start = time.thread_time()
    flows = [flow_between(a, b) for a, b in pairwise(some)]
    engine = (time.thread_time() - start) / len(flows)
    start = time.thread_time()
    for pair, flow in enumerate(flows):
        encode(pair, flow, Storage(), (flow.shape[2], flow.shape[1]))
    store = (time.thread_time() - start) / len(flows)
    stages = {"decode": decode, "receive": receive, "engine": engine, "quantise and compress": store}
    return {stage: 1000 * seconds for stage, seconds in stages.items()}


if __name__ == "__main__":
    main()
