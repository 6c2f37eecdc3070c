"""Reading the clips of a plan: only the frames and the flow that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vpipe.media import FrameSource
from vpipe.recognition.preprocess import resize_flow
from vpipe.recognition.sampling import ClipPlan

if TYPE_CHECKING:
    from vpipe.cache import FlowEntry
    from vpipe.models import Stream

Progress = Callable[[int, int], None]  # (done, total) flow pairs


@dataclass(frozen=True)
class FlowUse:
    """What the flow cache did for one video."""

    path: Path | None  # of the sealed file; None while flow of some pairs is missing
    pairs: int  # that were needed
    computed: int
    reused: int

    def to_json(self) -> dict[str, object]:
        return {"path": self.path, "pairs": self.pairs, "computed": self.computed, "reused": self.reused}


def rgb_clips(source: FrameSource, grid: Sequence[int], plan: ClipPlan) -> Iterator[np.ndarray]:
    """Clips (T, H, W, 3) uint8 in the order of the plan; each frame is decoded once, unused ones let go."""
    wanted = sorted({grid[k] for start in plan.starts for k in plan.frames(start)})
    decoded = source.select(wanted)
    held: dict[int, np.ndarray] = {}
    for start in plan.starts:
        frames = [grid[k] for k in plan.frames(start)]
        held = {index: image for index, image in held.items() if index >= frames[0]}
        while frames[-1] not in held:
            frame = next(decoded)
            held[frame.index] = frame.image
        yield np.stack([held[index] for index in frames])


def open_flow(path: Path, stream: Stream, cache_dir: Path | None, device: str = "cpu") -> FlowEntry:
    """The flow of one video by the recipe of a flow stream; what is missing is computed on `device`."""
    # Here, because the cache brings in h5py and the flow kernels, and RGB models need neither.
    from vpipe.cache import FlowCache
    from vpipe.flow.quantise import Storage

    storage = Storage("standard", stream.bound)
    return FlowCache(cache_dir).entry(path, stream.flow_params, storage, device=device)


def flow_clips(entry: FlowEntry, plan: ClipPlan, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Clips (T, h, w, 2) float32, px of `size` (width, height), of pairs that are in the cache already."""
    width, height = size
    for start in plan.starts:
        clip = np.zeros((plan.clip_length - 1, height, width, 2), dtype=np.float32)
        pairs = [k for k in plan.pairs(start) if k is not None]
        if pairs:
            clip[: len(pairs)] = resize_flow(entry.read(pairs), size)
        yield clip


def ensure_flow(entry: FlowEntry, pairs: Sequence[int], *, jobs: int, progress: Progress | None) -> FlowUse:
    """Has the flows `pairs` in the cache; a video with a single grid frame has none, which is fine."""
    if not pairs:
        return FlowUse(entry.path, 0, 0, 0)
    everything = len(pairs) == entry.pairs
    counts = entry.ensure(None if everything else pairs, jobs=jobs, progress=progress)
    return FlowUse(entry.path, counts.pairs, counts.computed, counts.reused)


def needed_pairs(plan: ClipPlan) -> list[int]:
    """The flows of all clips of a plan, ascending."""
    return sorted({k for start in plan.starts for k in plan.pairs(start) if k is not None})
