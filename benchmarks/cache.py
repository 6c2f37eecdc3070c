"""The flow cache against what people store today, a pair of q95 JPEGs of each flow: bytes and reading speed.

    python -m benchmarks.cache [--clips ../shared/clips] [--json FILE] [--preset accurate] [--short-side 256]

Bytes: 16 consecutive flows of every clip in CLIPS, summed, but those whose mean flow is under 0.1 px.
Speed: random clips of 64 flows to float32 in px, checksums verified, warm, one thread; the sides take turns
on each clip; median of 9 rounds.

Aims: standard at most 2.1 times the JPEG bytes and 1/33 of float32, error 0.08 px; high at most 1/14 of
float32, error 0.0157 px; packed at most 0.95 times JPEG and 0.6 times standard; reading 1.1 times as fast.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import zstandard

from vpipe.cache.packing import write_packed
from vpipe.cache.records import ZSTD_LEVEL, Grid, encode
from vpipe.cache.sealed import SealedFile
from vpipe.cache.writing import write_sealed
from vpipe.flow.methods import compute
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage
from vpipe.media.source import FrameSource

# clip -> the first of its 16 flows
CLIPS = {
    "R6llTwEh07w.mp4": 143,
    "hmdb51_Turnk_r_Pippi_Michel_cartwheel_f_cm_np2_le_med_6.avi": 33,
    "mmaction2_demo.mp4": 131,
    "mmaction2_struct.mp4": 141,
    "skv_bikes.mp4": 116,
    "tc_av1_video.mkv": 54,
    "tc_nasa_13013.mp4": 154,
    "tc_nasa_13013_hdr.mp4": 154,
    "v_SoccerJuggling_g23_c01.avi": 111,
    "v_ZNVhz7ctTq0.mp4": 201,
}
FLOWS = 16
STILL_PX = 0.1
BOUND_PX = 20.0
QUALITY = 95
READ, REPEATS, RUNS = 64, 8, 9
Flows = npt.NDArray[np.float32]


def flows_of(clip: Path, first: int, params: FlowParams) -> Flows:
    """Float32 (16, 2, H, W), px."""
    source = FrameSource(clip, short_side_px=params.short_side_px, color="gray")
    frames = [frame.image for frame in source.select(range(first, first + FLOWS + 1))]
    return np.stack([compute(a, b, params) for a, b in pairwise(frames)])


def as_jpegs(flows: Flows) -> list[tuple[bytes, bytes]]:
    """What denseflow stores: [-bound, bound] to 0..255, u and v apart."""
    pictures = np.rint((flows + BOUND_PX) * (255 / (2 * BOUND_PX))).clip(0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, QUALITY]
    coded = [[cv2.imencode(".jpg", plane, quality)[1].tobytes() for plane in pair] for pair in pictures]
    return [(u, v) for u, v in coded]


def from_jpegs(pairs: list[tuple[bytes, bytes]], size: tuple[int, int]) -> Flows:
    width, height = size
    out = np.empty((len(pairs), 2, height, width), np.float32)
    for flow, pair in zip(out, pairs, strict=True):
        for plane, coded in zip(flow, pair, strict=True):
            picture: Any = cv2.imdecode(np.frombuffer(coded, np.uint8), cv2.IMREAD_GRAYSCALE)
            np.copyto(plane, picture)
        np.multiply(flow, np.float32(2 * BOUND_PX / 255), out=flow)
        np.subtract(flow, np.float32(BOUND_PX), out=flow)
    return out


def sealed_of(flows: Flows, storage: Storage, path: Path) -> SealedFile:
    count, _, height, width = flows.shape
    facts = {"sha256": "0" * 64, "warnings": []}
    grid = Grid(tuple(range(count + 1)), tuple(range(count + 1)), Fraction(1, 25), (width, height), facts)
    records = (encode(k, flow, storage, grid.size) for k, flow in enumerate(flows))
    recipe = {"key": "0" * 64, "decode": {}, "flow": {}, "engine": {}}
    write_sealed(path, records, grid, storage, recipe, {})
    return SealedFile(path)


def stored_bytes(sealed: SealedFile) -> int:
    return int(sealed.index.places[:, 1].sum())


def largest_error(sealed: SealedFile, flows: Flows) -> float:
    """In px, inside the bound."""
    back = sealed.read(range(len(flows)))
    inside = np.abs(flows) <= sealed.storage.bound_px
    return float(np.abs(back - flows)[inside].max())


def measure(clip: Path, first: int, params: FlowParams, folder: Path) -> dict[str, Any]:
    """Bytes of one clip's flows in every form."""
    flows = flows_of(clip, first, params)
    standard = sealed_of(flows, Storage("standard", BOUND_PX), folder / f"{clip.stem}.standard")
    high = sealed_of(flows, Storage("high"), folder / f"{clip.stem}.high")
    write_packed(folder / f"{clip.stem}.packed", standard, folder / "spool")
    jpegs = as_jpegs(flows)
    inside = np.abs(flows) <= BOUND_PX
    jpeg_error = np.abs(from_jpegs(jpegs, standard.grid.size) - flows)[inside].max()
    row: dict[str, Any] = {
        "clip": clip.name,
        "size": f"{standard.grid.size[0]}x{standard.grid.size[1]}",
        "mean_px": float(np.hypot(flows[:, 0], flows[:, 1]).mean()),
        "float32": flows.nbytes,
        "jpeg": sum(len(u) + len(v) for u, v in jpegs),
        "standard": stored_bytes(standard),
        "high": stored_bytes(high),
        "packed": stored_bytes(SealedFile(folder / f"{clip.stem}.packed")),
        "error_standard_px": largest_error(standard, flows),
        "error_high_px": largest_error(high, flows),
        "error_jpeg_px": float(jpeg_error),
    }
    for level in range(3, 10):
        began = time.perf_counter()
        coder = zstandard.ZstdCompressor(level=level)
        row[f"level {level}"] = sum(len(coder.compress(standard.codes(k).tobytes())) for k in range(FLOWS))
        row[f"ms {level}"] = (time.perf_counter() - began) / FLOWS * 1000
    return row


def reading(folder: Path, rows: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds that 64 flows of every clip take, each side: medians; also with two threads."""
    rng = np.random.default_rng(0)
    sides: dict[str, list[Callable[[], object]]] = {"standard": [], "jpeg": [], "high": [], "packed": []}
    for row in rows:
        stem = Path(row["clip"]).stem
        flows = SealedFile(folder / f"{stem}.high").read(range(FLOWS))
        flows = np.concatenate([flows] * REPEATS)
        start = int(rng.integers(0, len(flows) - READ))
        pairs = range(start, start + READ)
        jpegs = as_jpegs(flows)[start : start + READ]
        standard = sealed_of(flows, Storage("standard", BOUND_PX), folder / f"{stem}.long")
        write_packed(folder / f"{stem}.long.packed", standard, folder / "spool")
        files = {
            "standard": standard,
            "high": sealed_of(flows, Storage("high"), folder / f"{stem}.long.high"),
            "packed": SealedFile(folder / f"{stem}.long.packed"),
        }
        for name, file in files.items():
            sides[name].append(lambda file=file, pairs=pairs: file.read(pairs))  # type: ignore[misc]
        size = standard.grid.size
        sides["jpeg"].append(lambda jpegs=jpegs, size=size: from_jpegs(jpegs, size))  # type: ignore[misc]
    found: dict[str, float] = {}
    for name in ("standard", "high", "packed"):
        rounds = [_round(sides[name], sides["jpeg"]) for _ in range(RUNS + 1)][1:]  # the first warms up
        found[name] = statistics.median(mine for mine, _ in rounds)
        found["jpeg"] = statistics.median(theirs for _, theirs in rounds)
        found[f"jpeg/{name}"] = statistics.median(theirs / mine for mine, theirs in rounds)
    found["jpeg/jpeg"] = 1.0
    return found | _two_threads(sides["standard"])


def _round(mine: list[Callable[[], object]], theirs: list[Callable[[], object]]) -> tuple[float, float]:
    """Seconds for all clips; the two sides take turns at each."""
    taken = [(_seconds(a), _seconds(b)) for a, b in zip(mine, theirs, strict=True)]
    return sum(a for a, _ in taken), sum(b for _, b in taken)


def _two_threads(readers: list[Callable[[], object]]) -> dict[str, float]:
    """How many times as fast two threads are at once as one after the other; and a loop that cannot share."""

    def gain(work: Callable[[], object]) -> float:
        with ThreadPoolExecutor(2) as pool:
            ratios = []
            for _ in range(RUNS):
                one = _seconds(lambda: [work(), work()])
                two = _seconds(lambda: [job.result() for job in [pool.submit(work) for _ in range(2)]])
                ratios.append(one / two)
        return statistics.median(ratios)

    data = bytes(1 << 24)
    return {
        "two readers": gain(lambda: [read() for read in readers]),
        "two of a loop without a lock": gain(lambda: [hashlib.sha256(data).digest() for _ in range(8)]),
    }


def _seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def report(rows: list[dict[str, Any]], left_out: list[dict[str, Any]], seconds: dict[str, float]) -> None:
    def ratio(row: dict[str, Any], a: str, b: str) -> float:
        return row[a] / row[b]

    total: dict[str, Any] = {
        key: sum(row[key] for row in rows)
        for key in rows[0]
        if isinstance(rows[0][key], int) or key.startswith("ms ")
    }
    for key in ("error_standard_px", "error_high_px", "error_jpeg_px"):
        total[key] = max(row[key] for row in rows)
    total |= {"clip": "all", "size": "", "mean_px": statistics.mean(row["mean_px"] for row in rows)}
    head = "std/jpeg  f32/std  packed/jpeg  packed/std  f32/high   err std  err high  err jpeg"
    print(f"{'clip':28s} {'size':>9s}  mean px  {head}")
    for row in [*rows, total]:
        print(
            f"{row['clip'][:28]:28s} {row['size']:>9s}  {row['mean_px']:7.2f}"
            f"  {ratio(row, 'standard', 'jpeg'):8.2f}  {ratio(row, 'float32', 'standard'):7.1f}"
            f"  {ratio(row, 'packed', 'jpeg'):11.2f}  {ratio(row, 'packed', 'standard'):10.2f}"
            f"  {ratio(row, 'float32', 'high'):8.1f}  {row['error_standard_px']:8.4f}"
            f"  {row['error_high_px']:8.4f}  {row['error_jpeg_px']:8.3f}"
        )
    for row in left_out:
        print(f"{row['clip'][:28]:28s} {row['size']:>9s}  {row['mean_px']:7.2f}  left out: nearly still")
    print("\nZstd level  bytes/jpeg  f32/bytes  ms a flow")
    for level in range(3, 10):
        chosen = "  <- used" if level == ZSTD_LEVEL else ""
        size, spent = total[f"level {level}"], total[f"ms {level}"] / len(rows)
        print(
            f"{level:10d}  {size / total['jpeg']:10.2f}  {total['float32'] / size:9.1f}  {spent:9.2f}{chosen}"
        )
    print("\n64 flows of each clip to float32, one thread   flows/s   times JPEG")
    for name in ("jpeg", "standard", "high", "packed"):
        rate = READ * len(rows) / seconds[name]
        print(f"{name:46s} {rate:8.0f}  {seconds[f'jpeg/{name}']:10.2f}")
    for name in ("two readers", "two of a loop without a lock"):
        print(f"{name}: {seconds[name]:.2f} times one thread")


@contextmanager
def _one_cv_thread() -> Iterator[None]:
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    yield
    cv2.setNumThreads(threads)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, default=Path("../shared/clips"))
    parser.add_argument("--preset", default="accurate")
    parser.add_argument("--short-side", type=int, default=256)
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    options = parser.parse_args()
    params = FlowParams.preset(options.preset, short_side_px=options.short_side)
    missing = [name for name in CLIPS if not (options.clips / name).is_file()]
    if missing:
        parser.error(f"{options.clips}: has no {missing[0]}: name the folder with --clips")
    with tempfile.TemporaryDirectory() as temporary, _one_cv_thread():
        folder = Path(temporary)
        measured = [measure(options.clips / name, first, params, folder) for name, first in CLIPS.items()]
        rows = [row for row in measured if row["mean_px"] >= STILL_PX]
        seconds = reading(folder, rows)
    report(rows, [row for row in measured if row not in rows], seconds)
    if options.json:
        found = {"params": params.to_dict(), "engine": params.engine(), "clips": measured, "seconds": seconds}
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
