"""One level of the pyramid on a CUDA device: the flow of many pairs, from that of the coarser level.

All pairs take the same steps at the same time; one kernel does one step for all of them, and the host only starts
kernels. Where an iteration's change ends a warp (`epsilon` above 0), the pairs go their own ways: `state`, on the
device, says how far each is, and the host learns a block of iterations late that all are finished.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vpipe.flow import gpu_kernels as kernels
from vpipe.flow import gpu_sweep
from vpipe.flow.gpu_median import median
from vpipe.flow.gpu_planes import BLOCK, FINISHED, ITERATIONS, PLANES, STATE, TILE
from vpipe.flow.gpu_recording import Recordings
from vpipe.flow.params import FlowParams

# Warps that a device should have to choose from: with fewer, strips are cut shorter. Where pairs end at different
# times, twice as many, as fewer and fewer of the pairs have work.
_WARPS_AT_WORK = 2600
_LEAST_ROWS = 16  # of a strip: more of a shorter one is halo than picture


@dataclass(frozen=True)
class Scale:
    """The size of one level."""

    width: int
    height: int

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
class Strips:
    """How a sweep of so many stages cuts one level: `across` x `down` strips of `rows` rows."""

    across: int
    down: int
    rows: int


def strips(scale: Scale, stages: int, slots: int, *, measured: bool) -> Strips:
    """Long ones, as the halo above and below is done for nothing, but enough to fill a device."""
    columns = gpu_sweep.STRIP_COLUMNS - 2 * stages
    across = max(1, math.ceil((scale.width - 2 * stages) / columns))
    down = math.ceil(_WARPS_AT_WORK * (1 + measured) / (slots * across))
    rows = max(_LEAST_ROWS, math.ceil(scale.height / down))
    return Strips(across, math.ceil(scale.height / rows), rows)


@dataclass(frozen=True)
class Pairs:
    """The pairs of a queue, at most `slots`, all on the device.

    first, second: int32 (slots,), frames. present: int32 (1,), how many there are; count: the same, for the host.
    """

    first: Tensor
    second: Tensor
    present: Tensor
    count: int

    @property
    def slots(self) -> int:
        return len(self.first)


class LevelSolver:
    """Owns the planes that `slots` pairs are worked on in; `scales` are those it will be asked for."""

    def __init__(
        self, scales: Sequence[Scale], params: FlowParams, slots: int, device: torch.device, records: Recordings
    ) -> None:
        self._params = params
        self.measured = params.epsilon > 0
        self._on_gpu = device.type == "cuda"
        self._slots, self._records = slots, records
        self._planes = torch.zeros(slots * max(s.slot for s in scales), device=device)
        self._steps = torch.zeros(slots, device=device)
        self._state = torch.zeros((slots, STATE.value), dtype=torch.int32, device=device)
        sizes = sweeps(params.inner_iterations)
        cuts = [self._strips(scale, stages) for scale in scales for stages in sizes]
        most = max(cut.across * cut.down for cut in cuts)
        self._sums = torch.zeros(slots * most * gpu_sweep.SUMS.value if self.measured else 1, device=device)
        self._looked = torch.zeros((2, *self._state.shape), dtype=torch.int32, pin_memory=self._on_gpu)
        self._looks = [torch.cuda.Event(), torch.cuda.Event()] if self._on_gpu else []
        # The sides that flow and duals are on, where all pairs take the same steps.
        self._flow = self._dual = 0
        self._iterations = torch.zeros((), dtype=torch.int64, device=device)

    @property
    def measured_work(self) -> int:
        """Pixels times iterations so far, where iterations are measured. Waits for the device."""
        return int(self._iterations)

    def solve(self, scale: Scale, pairs: Pairs, textures: Tensor, lambdas: Tensor, coarser: Tensor | None) -> Tensor:
        """The flow of `pairs` on the level `scale`, float32 (slots, 2, height, width).

        textures: float32 (frames, 3, height + 2, width + 2). lambdas: float32 (slots,). coarser: the flow on
        the next coarser level; None on the coarsest.
        """
        params = self._params
        torch.mul(lambdas, params.theta, out=self._steps)
        self._begin(scale, pairs, textures, coarser)
        for _ in range(params.warps):
            kernels.linearise[scale.tiles, pairs.slots](
                self._planes, pairs.present, self._state, textures, pairs.first, pairs.second,
                scale.width, scale.height, scale.pitch, self._flow, params.blend,
                ZERO_OUTSIDE=params.zero_outside == 1, MEASURED=self.measured, **TILE,
            )  # fmt: skip
            self._iterate(scale, pairs)
            if params.median_after:
                self._median(scale, pairs, everyone=True)
        out = torch.empty((pairs.slots, 2, scale.height, scale.width), device=self._planes.device)
        kernels.finish[scale.tiles, pairs.slots](
            self._planes, pairs.present, self._state, out, scale.width, scale.height, scale.pitch, self._flow,
            MEASURED=self.measured, **TILE,
        )  # fmt: skip
        if self.measured:
            iterations = self._state[: pairs.count, ITERATIONS.value].sum()
            self._iterations += iterations * (scale.width * scale.height)
        return out

    def fixed_iterations(self) -> int:
        """Of one pair on one level, where they are not measured."""
        return self._params.warps * self._params.outer_iterations * self._params.inner_iterations

    def _begin(self, scale: Scale, pairs: Pairs, textures: Tensor, coarser: Tensor | None) -> None:
        params = self._params
        self._flow = self._dual = 0
        height, width = (scale.height, scale.width) if coarser is None else coarser.shape[2:]
        kernels.begin[scale.tiles, pairs.slots](
            self._planes, pairs.present, self._state, self._planes if coarser is None else coarser, textures,
            pairs.first, scale.width, scale.height, scale.pitch, width, height,
            width / scale.width, height / scale.height, 1 / params.scale_step, params.edge / 255,
            COARSEST=coarser is None, WEIGHTED=params.edge > 0, MEASURED=self.measured, **TILE,
        )  # fmt: skip

    def _iterate(self, scale: Scale, pairs: Pairs) -> None:
        """The iterations of one warp: blocks of `inner_iterations`, a median before each or after all."""
        for block in range(self._params.outer_iterations):
            if not self.measured:
                self._block(scale, pairs)
                continue
            self._records.replay((scale, pairs.slots), lambda: self._block(scale, pairs))
            if self._all_finished(pairs, block):
                return

    def _block(self, scale: Scale, pairs: Pairs) -> None:
        """A median and `inner_iterations` iterations of the pairs at work."""
        sizes = sweeps(self._params.inner_iterations)
        moved = not self._params.median_after and self._median(scale, pairs, everyone=False)
        if self.measured:
            self._say_begin(pairs, sizes[0], moved=moved, everyone=False)
        for stages, following in zip(sizes, [*sizes[1:], 0], strict=True):
            self._sweep(scale, pairs, stages)
            if self.measured:
                self._judge(scale, pairs, stages, following)
        if self.measured:
            # Of pairs whose last sweep went too far, the part that should have been.
            self._sweep(scale, pairs, sizes[0])
            self._judge(scale, pairs, sizes[0], 0)

    def _sweep(self, scale: Scale, pairs: Pairs, stages: int) -> None:
        params, cut = self._params, self._strips(scale, stages)
        gpu_sweep.sweep[cut.across * cut.down, pairs.slots](
            self._planes, pairs.present, self._state, self._steps, self._sums,
            scale.width, scale.height, scale.pitch, cut.rows, self._flow, self._dual,
            params.theta, params.tau / params.theta,
            WEIGHTED=params.edge > 0, MEASURED=self.measured, STAGES=stages,
            COLUMNS=gpu_sweep.STRIP_COLUMNS, num_warps=1,
        )  # fmt: skip
        if not self.measured:
            self._flow, self._dual = 1 - self._flow, 1 - self._dual

    def _strips(self, scale: Scale, stages: int) -> Strips:
        return strips(scale, stages, self._slots, measured=self.measured)

    def _judge(self, scale: Scale, pairs: Pairs, stages: int, following: int) -> None:
        cut = self._strips(scale, stages)
        gpu_sweep.judge[(pairs.slots,)](
            pairs.present, self._state, self._sums, cut.across * cut.down, following,
            self._params.epsilon**2 * scale.width * scale.height, num_warps=1,
        )  # fmt: skip

    def _say_begin(self, pairs: Pairs, stages: int, *, moved: bool, everyone: bool) -> None:
        gpu_sweep.begin_block[(pairs.slots,)](
            pairs.present, self._state, stages, int(moved), int(everyone), num_warps=1
        )

    def _median(self, scale: Scale, pairs: Pairs, *, everyone: bool) -> bool:
        """Whether there is one. everyone: pairs that are finished, too."""
        if self._params.median == 1:
            return False
        median[scale.tiles, pairs.slots, 2](
            self._planes, pairs.present, self._state, scale.width, scale.height, scale.pitch, self._flow,
            SIZE=self._params.median, MEASURED=self.measured, EVERYONE=everyone, **TILE,
        )  # fmt: skip
        if not self.measured:
            self._flow = 1 - self._flow
        elif everyone:
            self._say_begin(pairs, 0, moved=True, everyone=True)
        return True

    def _all_finished(self, pairs: Pairs, looks: int) -> bool:
        """Whether all pairs were, a block ago: the device has another to do while the host waits for that.

        looks: how often it was asked since the warp began.
        """
        if not self._on_gpu:
            return bool(self._state[: pairs.count, FINISHED.value].all())
        now, before = looks % 2, (looks + 1) % 2
        self._looked[now].copy_(self._state, non_blocking=True)
        self._looks[now].record()
        if looks == 0:
            return False
        self._looks[before].synchronize()
        return bool(self._looked[before, : pairs.count, FINISHED.value].all())


def sweeps(iterations: int) -> list[int]:
    """How many iterations each sweep of a block does: as alike as can be, the longer ones first."""
    count = math.ceil(iterations / gpu_sweep.MOST_STAGES)
    return [iterations // count + (k < iterations % count) for k in range(count)]
