"""The GPU engine's kernels without a GPU: `python -m tests.flow.gpu_interpreted OUT.npz PART`.

Saves the flows of one of PARTS parts of the cases, or, where PART is `slow`, of the slow ones.

A process of its own, because Triton decides when it is imported whether kernels are compiled or interpreted.
The interpreter takes about 15 ms a program and iteration, hence the small pictures and the large tiles.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import cv2
import numpy as np

from vpipe.flow.params import FlowParams

PARTS = 2  # of nearly as much work, to be run side by side
# Enough of a step of everything to show a fault, and no more.
FEW: dict[str, Any] = {"scales": 2, "warps": 1, "inner_iterations": 3}


@dataclass(frozen=True)
class Case:
    """Flow of consecutive frames (n, H, W) with one recipe, in tiles of so many rows."""

    frames: np.ndarray
    params: FlowParams
    rows: int = 32
    limit_px: float = 0.001


def moving(
    width: int, height: int, count: int = 2, step: float = 1.3, seed: int = 1, noise: float = 0.0
) -> np.ndarray:
    """Frames (count, H, W), uint8, of a texture that moves by (`step`, -0.7 `step`) px and turns."""
    rng = np.random.default_rng(seed)
    grain = sum(s * cv2.resize(rng.random((160 // s, 160 // s), np.float32), (160, 160)) for s in (4, 8, 16))
    frames = []
    for k in range(count):
        turn = cv2.getRotationMatrix2D((80, 80), 1.5 * k, 1)
        turn[:, 2] += (step * k - 40, -0.7 * step * k - 40)
        frames.append(cv2.warpAffine(grain, turn, (width, height), flags=cv2.INTER_CUBIC))
    film = cv2.normalize(np.stack(frames), None, 0, 255, cv2.NORM_MINMAX)
    return np.clip(np.rint(film + noise * rng.standard_normal(film.shape)), 0, 255).astype(np.uint8)


def cases() -> dict[str, Case]:
    preset = FlowParams.preset
    few = {**FEW, "inner_iterations": 2}
    return {
        # The presets as they are, but for four of the five warps of `parity`, which are alike and would take
        # most of a minute. Where a change ends a warp, one iteration more or less is 0.005 px.
        "accurate": Case(moving(20, 16), preset("accurate")),
        "fast": Case(moving(20, 16, noise=4), preset("fast")),
        "parity": Case(moving(20, 16, step=1.0, seed=5), preset("parity", warps=1)),
        # Pairs that end at different times, one of them in the last iteration of a block; several batches.
        "parity, batches": Case(
            np.concatenate([moving(20, 16, 3), moving(20, 16, 1, step=0)]),
            preset("parity", scales=1, warps=2, outer_iterations=2, inner_iterations=5, epsilon=0.07),
            limit_px=0.002,
        ),
        # Tiles, and strips of the sweeps, that meet inside the picture in both directions.
        "tiles": Case(moving(59, 19), preset("accurate", **{**FEW, "inner_iterations": 5}), rows=8),
        "tiles, measured": Case(
            moving(59, 19),
            preset("parity", **{**few, "outer_iterations": 2, "scales": 1}),
            rows=8,
            limit_px=0.002,
        ),
        "deep": Case(
            moving(45, 40, step=4.0), preset("accurate", **{**few, "scales": 4, "inner_iterations": 1})
        ),
        "odd step": Case(moving(45, 37), preset("fast", **few, scale_step=0.37, pyramid_blur=1.1)),
        "half, no blur": Case(moving(41, 35), preset("accurate", **few, scale_step=0.5, pyramid_blur=0)),
        "other numbers": Case(
            moving(33, 27, step=6.0),
            preset("accurate", **few, median=3, derivative=3, edge=0, blend=0.7, zero_outside=1, noise=0),
        ),
        "no median": Case(moving(24, 24), preset("accurate", **few, median=1)),
        "float": Case(moving(29, 23, noise=9).astype(np.float64) / 1.7, preset("fast", **few)),
        "smallest": Case(moving(16, 16), preset("accurate", **few)),
        "far out": Case(
            moving(20, 20, step=60.0), preset("parity", **few, outer_iterations=3, lambda_=5, theta=5)
        ),
    }


def slow_cases() -> dict[str, Case]:
    frames = moving(20, 16, step=1.0, seed=5)
    return {"parity, all warps": Case(frames, FlowParams.preset("parity"), limit_px=0.01)}


def interpreted(case: Case) -> np.ndarray:
    from vpipe.flow import gpu_planes
    from vpipe.flow.gpu import tvl1_gpu

    gpu_planes.TILE["ROWS"] = case.rows
    flow: np.ndarray = tvl1_gpu(case.frames, case.params, "cpu").numpy()
    return flow


def streamed() -> Iterator[tuple[str, np.ndarray]]:
    """`flow_stream` over pairs with a gap and with pictures that are missing; queues of three."""
    from vpipe.flow import batch

    batch.QUEUE_PAIRS = 3
    frames = moving(18, 18, 5)
    params = FlowParams.preset("fast", **FEW, median=1)
    pairs: list[Any] = [
        (0, frames[0], frames[1]), (1, frames[1], frames[2]), (2, frames[2], None), (3, None, frames[4]),
        (4, frames[3], frames[4]), (5, frames[0], frames[4]), (6, None, None),
    ]  # fmt: skip
    for key, flow in batch.flow_stream(pairs, params, "cpu"):
        yield f"stream {key}", np.zeros(0) if flow is None else flow


class Recording:
    """Stands for torch.cuda.CUDAGraph: what is started while it listens is done at `replay`, not before."""

    made: ClassVar[list[Recording]] = []

    def capture_begin(self, capture_error_mode: str) -> None:
        self.launches: list[tuple[Any, Any, Any, Any]] = []
        self.kernels = {(module, name): getattr(module, name) for module, name in recorded()}
        for (module, name), kernel in self.kernels.items():
            setattr(module, name, Listening(kernel, self.launches))
        self.made.append(self)

    def capture_end(self) -> None:
        for (module, name), kernel in self.kernels.items():
            setattr(module, name, kernel)

    def replay(self) -> None:
        for kernel, grid, args, kwargs in self.launches:
            kernel[grid](*args, **kwargs)


class Listening:
    """Stands for a kernel while it is recorded."""

    def __init__(self, kernel: Any, launches: list[tuple[Any, Any, Any, Any]]) -> None:
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return lambda *args, **kwargs: self.launches.append((self.kernel, grid, args, kwargs))


def recorded() -> list[tuple[Any, str]]:
    """The kernels of a block of iterations, as `vpipe.flow.gpu_level` calls them."""
    from vpipe.flow import gpu_level, gpu_sweep

    return [(gpu_level, "median"), *((gpu_sweep, name) for name in ("begin_block", "sweep", "judge"))]


class Moment:
    """Stands for torch.cuda.Event, on a device that is never behind."""

    def record(self) -> None: ...

    def synchronize(self) -> None: ...


def replayed(case: Case) -> np.ndarray:
    """The flow where iterations are recorded and the host looks a block late, as on a GPU."""
    import torch

    from vpipe.flow.gpu import engine_for

    height, width = case.frames.shape[1:]
    solver = engine_for(height, width, case.params, "cpu").solver
    solver._on_gpu = solver._records._on_gpu = True
    solver._looks = [Moment(), Moment()]  # type: ignore[list-item]
    torch.cuda.CUDAGraph = Recording  # type: ignore[misc, assignment]
    flow = interpreted(case)
    assert Recording.made, "nothing was recorded"
    return flow


def main() -> None:
    assert os.environ.get("TRITON_INTERPRET") == "1", "set TRITON_INTERPRET=1: there is no GPU to compile for"
    if sys.argv[2] == "slow":
        part, chosen = None, slow_cases()
    else:
        part = int(sys.argv[2])
        chosen = dict(list(cases().items())[part::PARTS])
    results = {name: interpreted(case) for name, case in chosen.items()}
    if part == PARTS - 1:
        results |= others()
    np.savez(sys.argv[1], **results)


def others() -> dict[str, np.ndarray]:
    """What is no plain case: pictures that stand still, recordings, `flow_stream`."""
    frame = moving(18, 18)
    black = np.zeros_like(frame)
    still = Case(np.concatenate([frame, frame[1:], black]), FlowParams.preset("accurate", **FEW))
    results = {"still": interpreted(still)[[0, 1, 3]], "replayed": replayed(cases()["parity, batches"])}
    return results | dict(streamed())


if __name__ == "__main__":
    main()
