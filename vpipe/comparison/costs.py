"""What a contender costs in time, and flow a minute of video; `vpipe.models.sizes` counts the rest."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vpipe.cache import FlowCache
from vpipe.comparison.contenders import Contender
from vpipe.comparison.plan import FLOW, FPS, SIZE_PX, STORAGE
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage
from vpipe.synth.write import SynthOptions, write_untrimmed

RUNS = 15
VIDEO_SIZE = (320, 240)
VIDEO_FPS = Fraction(30)


def clip_of(contender: Contender) -> Tensor:
    """A clip as the network takes it, (1, T, C, S, S)."""
    channels = 2 if contender.modality == "flow" else 3
    generator = torch.Generator().manual_seed(1)
    return torch.randn(1, len(contender.take), channels, SIZE_PX, SIZE_PX, generator=generator)


def milliseconds(network: nn.Module, clip: Tensor, device: str, runs: int = RUNS) -> float:
    """Of one clip through the network, float32, in ms: the fastest run, as others may use the machine."""
    clip = clip.to(device)
    times = []
    with torch.inference_mode():
        for run in range(runs + 3):
            begin = time.perf_counter()
            network(clip)
            if device != "cpu":
                torch.cuda.synchronize(device)
            if run >= 3:  # the first runs are slower
                times.append(time.perf_counter() - begin)
    return 1e3 * min(times)


@dataclass(frozen=True)
class FlowCost:
    """Of one minute of video, decoding included, and on disk in the flow cache."""

    params: FlowParams
    storage: Storage
    seconds: float
    bytes: int
    size: tuple[int, int]

    def to_json(self) -> dict[str, Any]:
        return {
            "recipe": self.params.to_dict(),
            "storage": self.storage.to_dict(),
            "video": f"{VIDEO_SIZE[0]}x{VIDEO_SIZE[1]}, {VIDEO_FPS} fps",
            "flow_size": list(self.size),
            "seconds_a_minute": round(self.seconds, 3),
            "bytes_a_minute": self.bytes,
        }


def flow_costs(
    minutes: float, seed: int, jobs: int, device: str, done: Callable[[int], None]
) -> list[FlowCost]:
    """Flow of a generated video by the flow contender's recipe, and by that of the packaged models.

    Scaled to a minute where the video is shorter.
    """
    packaged = FlowParams.preset("accurate", short_side_px=128, fps=FPS)
    with tempfile.TemporaryDirectory(prefix="vpipe-bench-") as name:
        folder = Path(name)
        options = SynthOptions(seed=seed, fps=VIDEO_FPS, size=VIDEO_SIZE)
        write_untrimmed(folder / "video", 1, minutes, options, done=done)
        (video,) = (folder / "video").glob("*.mp4")
        costs = []
        for params, storage in ((FLOW, STORAGE), (packaged, Storage())):
            cache = FlowCache(folder / "cache")
            cache.entry(video, params, storage, device=device).ensure([0], jobs=jobs)  # kernels are compiled
            entry = FlowCache(folder / "timed").entry(video, params, storage, device=device)
            begin = time.perf_counter()
            entry.ensure(jobs=jobs)
            took = time.perf_counter() - begin
            assert entry.path is not None  # sealed: everything was asked for
            size = entry.path.stat().st_size
            costs.append(FlowCost(params, storage, took / minutes, round(size / minutes), entry.size))
    return costs
