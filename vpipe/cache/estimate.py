"""What a run will cost before it begins: pairs, time and bytes of one video, from a probe of a few pairs."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpipe import threads
from vpipe.cache import parts
from vpipe.cache.entry import FlowEntry
from vpipe.cache.pipeline import Frames, compute_records
from vpipe.cache.plan import open_source
from vpipe.cache.records import DamagedFile
from vpipe.cache.slots import find_slots
from vpipe.media.frame import Frame
from vpipe.media.source import FrameSource

RUNS, PAIRS_PER_RUN = 4, 4  # that are timed: places in the video, neighbouring pairs at each
# Pairs whose bytes are looked at: a few that move can be most of a still video. Rounds of so many, spread
# evenly and between those of the rounds before, until all are done or the time is up.
ROUND, PROBE_S = 16, 3.0
_OFFSETS = (0.5, 0.0, 0.25, 0.75, 0.125, 0.625)
_DECODED_FRAMES = 48
# What a sealed file holds beside the flow: a row of each table, and the manifest.
_BYTES_PER_FLOW, _BYTES_PER_FILE = 120, 8192


@dataclass(frozen=True)
class Estimate:
    """Of `pairs` flows, `missing` would be computed, in about `seconds`, and take about `bytes` on disk."""

    pairs: int
    missing: int
    seconds: float
    bytes: int


def estimate(entry: FlowEntry, jobs: int) -> Estimate:
    """Probe one video; nothing is written. Raises InputError where it cannot be read."""
    began = time.monotonic()
    pairs = entry.pairs
    planned_s = time.monotonic() - began
    missing = _missing(entry)
    if not missing:
        return Estimate(pairs, 0, planned_s, 0)
    source = open_source(entry.video, entry.params, threads=threads.jobs())
    timed = sorted({k for start in _spread(missing, RUNS, PAIRS_PER_RUN) for k in start})
    frames = {entry.grid[k] for pair in timed for k in (pair, pair + 1)}
    held = _Held(list(source.select(sorted(frames))))

    def sizes_of(frames: Frames, which: list[int]) -> list[int]:
        coming = compute_records(
            frames, entry.grid, which, entry.params, entry.storage, entry.size, jobs=jobs
        )
        return [len(record.blob) for record in coming]

    sizes_of(held, timed[:1])  # compiles the kernels
    began = time.monotonic()
    sizes_of(held, timed)
    compute_s = (time.monotonic() - began) / len(timed) * len(missing)
    sizes: list[int] = []
    for offset in _OFFSETS:
        places = {min(len(missing) - 1, int((k + offset) / ROUND * len(missing))) for k in range(ROUND)}
        sizes += sizes_of(source, [missing[k] for k in sorted(places)])
        if time.monotonic() - began > PROBE_S:
            break
    decode_s = _decoding(source, entry.grid) * (entry.grid[missing[-1] + 1] - entry.grid[missing[0]] + 1)
    # Decoding goes on beside the pairs, on the same cores.
    wall = max(decode_s, compute_s + decode_s / threads.available_cores())
    size = int((np.mean(sizes) + _BYTES_PER_FLOW) * len(missing)) + _BYTES_PER_FILE
    return Estimate(pairs, len(missing), planned_s + wall, size)


def _spread(pairs: Sequence[int], places: int, length: int) -> list[Sequence[int]]:
    """`places` runs of `length` of the pairs, evenly over all of them; they overlap where there are few."""
    starts = np.linspace(0, max(0, len(pairs) - length), places).round().astype(int)
    return [pairs[start : start + length] for start in starts.tolist()]


class _Held:
    """Frames that are decoded already, as a source of frames."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self._frames = {frame.index: frame for frame in frames}

    def select(self, indices: Sequence[int]) -> Iterator[Frame]:
        return (self._frames[index] for index in indices if index in self._frames)


def _missing(entry: FlowEntry) -> list[int]:
    try:
        if entry.path is not None and entry.grid:
            return []
    except DamagedFile:
        return list(range(entry.pairs))
    places, _ = parts.find_flows(entry.slot.work, entry.slot.name)
    return [pair for pair in range(entry.pairs) if pair not in places]


def _decoding(source: FrameSource, grid: tuple[int, ...]) -> float:
    """CPU seconds to decode and convert one frame, with every grid frame converted."""
    began, count = time.process_time(), 0
    every = max(1, round((grid[-1] - grid[0]) / max(1, len(grid) - 1)))
    for frame in source.frames(every=every):
        count = frame.index + 1
        if count >= _DECODED_FRAMES:
            break
    return (time.process_time() - began) / max(1, count)


def cache_bytes(root: Path) -> int:
    """Bytes of everything in a cache's flow folder."""
    total = 0
    for slot in find_slots(root)[0]:
        total += slot.sealed.stat().st_size if slot.sealed.exists() else 0
        if slot.work.is_dir():
            total += sum(entry.stat().st_size for entry in os.scandir(slot.work))
    return total
