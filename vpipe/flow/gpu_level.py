"""One level of the pyramid on a CUDA device: the flow of a batch of pairs, from that of the coarser level.

All pairs of a batch take the same steps at the same time; one kernel does one step for all of them. The host
only starts kernels. Iterations are recorded as CUDA graphs, so that starting them does not bound the speed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vpipe.flow import gpu_kernels as kernels
from vpipe.flow.gpu_median import median
from vpipe.flow.gpu_planes import BLOCK, PLANES, TILE
from vpipe.flow.params import FlowParams

# Iterations recorded together where they may end early, so at most twice as many run for nothing.
_PIECE = 10


@dataclass(frozen=True)
class Scale:
    """The size of one level, and how many pairs are at work on it together."""

    width: int
    height: int
    slots: int

    @property
    def pitch(self) -> int:
        """Floats from row to row, of all planes."""
        return -(-self.width // BLOCK) * BLOCK * PLANES

    @property
    def slot(self) -> int:
        """Floats of one pair."""
        return self.height * self.pitch

    @property
    def tiles(self) -> int:
        return tiles(self.width, self.height)


def tiles(width: int, height: int) -> int:
    """The programs that one picture takes."""
    return -(-width // TILE["COLUMNS"]) * -(-height // TILE["ROWS"])


@dataclass(frozen=True)
class Batch:
    """Pairs lo to lo + count of a queue on one level.

    textures: float32 (frames, 3, height + 2, width + 2). first, second: int32 (pairs,), frames. lambdas:
    float32 (pairs,).
    """

    scale: Scale
    textures: Tensor
    first: Tensor
    second: Tensor
    lambdas: Tensor
    lo: int
    count: int


class LevelSolver:
    """Owns the planes that pairs are worked on in; `scales` are those it will be asked for."""

    def __init__(self, scales: Sequence[Scale], params: FlowParams, device: torch.device) -> None:
        self._params = params
        self._measured = params.epsilon > 0
        self._on_gpu = device.type == "cuda"
        slots = max(s.slots for s in scales)
        self._planes = torch.zeros(max(s.slots * s.slot for s in scales), device=device)
        self._steps = torch.zeros(slots, device=device)
        self._sums = torch.zeros(2 * max(s.slots * s.tiles for s in scales), device=device)
        self._present = torch.zeros(1, dtype=torch.int32, device=device)
        self._finished, self._iterations = torch.zeros((2, slots), dtype=torch.int32, device=device)
        self._looked = torch.zeros((2, slots), dtype=torch.int32, pin_memory=self._on_gpu)
        self._looks = [torch.cuda.Event(), torch.cuda.Event()] if self._on_gpu else []
        self._graphs: dict[Any, torch.cuda.CUDAGraph] = {}
        self._compiled: set[Any] = set()
        self._side = 0  # the newest of the two copies of flow and duals
        self._fixed_work = 0
        self._measured_work = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def pixel_iterations(self) -> int:
        """Work done so far: iterations of one pixel. Waits for the device."""
        return self._fixed_work + int(self._measured_work)

    def solve(self, batch: Batch, coarser: Tensor | None, out: Tensor) -> None:
        """The flow of `batch`, into its place in `out`, float32 (pairs, 2, height, width).

        coarser: the flow of all pairs of the queue on the next coarser level; None on the coarsest.
        """
        scale, params = batch.scale, self._params
        self._present.fill_(batch.count)
        steps = batch.lambdas[batch.lo : batch.lo + batch.count] * params.theta
        self._steps[: batch.count].copy_(steps)
        self._iterations.zero_()
        self._begin(batch, coarser)
        for _ in range(params.warps):
            self._linearise(batch)
            self._iterate(batch)
            if params.median_after:
                self._median(scale, measured=False)
        kernels.finish[scale.tiles, batch.count](
            self._planes, out, batch.lo, scale.width, scale.height, scale.pitch, self._side, **TILE
        )
        if self._measured:
            self._measured_work += self._iterations[: batch.count].sum() * (scale.width * scale.height)
        else:
            iterations = params.warps * params.outer_iterations * params.inner_iterations
            self._fixed_work += iterations * scale.width * scale.height * batch.count

    def _begin(self, batch: Batch, coarser: Tensor | None) -> None:
        scale, params = batch.scale, self._params
        self._side = 0
        height, width = (scale.height, scale.width) if coarser is None else coarser.shape[2:]
        kernels.begin[scale.tiles, batch.count](
            self._planes, self._planes if coarser is None else coarser, batch.textures, batch.first, batch.lo,
            scale.width, scale.height, scale.pitch, width, height,
            width / scale.width, height / scale.height, 1 / params.scale_step, params.edge / 255,
            COARSEST=coarser is None, WEIGHTED=params.edge > 0, **TILE,
        )  # fmt: skip

    def _linearise(self, batch: Batch) -> None:
        scale, params = batch.scale, self._params
        kernels.linearise[scale.tiles, batch.count](
            self._planes, batch.textures, batch.first, batch.second, self._sums, self._finished, batch.lo,
            scale.width, scale.height, scale.pitch, scale.slots, self._side, params.blend,
            ZERO_OUTSIDE=params.zero_outside == 1, MEASURED=self._measured, **TILE,
        )  # fmt: skip

    def _iterate(self, batch: Batch) -> None:
        """The iterations of one warp: blocks of `inner_iterations`, a median before each or after all."""
        params, inner = self._params, self._params.inner_iterations
        pieces = [_PIECE] * (inner // _PIECE) + [inner % _PIECE] * (inner % _PIECE > 0)
        looks = 0
        for _ in range(params.outer_iterations):
            if not params.median_after:
                self._median(batch.scale, measured=self._measured)
            for count in pieces if self._measured else [inner]:
                self._piece(batch.scale, count)
                if self._measured:
                    if self._all_finished(batch.count, looks):
                        return
                    looks += 1

    def _piece(self, scale: Scale, count: int) -> None:
        """`count` iterations of the pairs at work on `scale`."""
        params = self._params

        def launch() -> None:
            for n in range(count):
                kernels.iterate[scale.tiles, scale.slots](
                    self._planes, self._present, self._steps, self._sums, self._finished, self._iterations,
                    scale.width, scale.height, scale.pitch, scale.slots,
                    params.theta, params.tau / params.theta, params.epsilon**2 * scale.width * scale.height,
                    FROM=self._side ^ (n & 1), WEIGHTED=params.edge > 0, MEASURED=self._measured,
                    MARCH=kernels.MARCH, **TILE,
                )  # fmt: skip

        self._replay((scale, count, self._side), launch)
        self._side ^= count & 1

    def _replay(self, key: Any, launch: Callable[[], None]) -> None:
        """`launch` starts kernels and nothing else; from the second time on a recording of it is replayed."""
        if not self._on_gpu or key not in self._compiled:
            self._compiled.add(key)  # at the first launch kernels may compile, which cannot be recorded
            launch()
            return
        if key not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                launch()
            finally:
                graph.capture_end()
            self._graphs[key] = graph
        self._graphs[key].replay()

    def _all_finished(self, pairs: int, looks: int) -> bool:
        """Whether all pairs were, a piece ago: the device has another to do while the host waits for that.

        looks: how often it was asked since the warp began.
        """
        if not self._on_gpu:
            return bool(self._finished[:pairs].all())
        now, before = looks % 2, (looks + 1) % 2
        self._looked[now].copy_(self._finished, non_blocking=True)
        self._looks[now].record()
        if looks == 0:
            return False
        self._looks[before].synchronize()
        return bool(self._looked[before, :pairs].all())

    def _median(self, scale: Scale, *, measured: bool) -> None:
        params = self._params
        if params.median == 1:
            return
        median[scale.tiles, scale.slots, 2](
            self._planes, self._present, self._sums, scale.width, scale.height, scale.pitch,
            scale.slots, self._side, params.epsilon**2 * scale.width * scale.height,
            SIZE=params.median, MEASURED=measured, **TILE,
        )  # fmt: skip
        self._side ^= 1
