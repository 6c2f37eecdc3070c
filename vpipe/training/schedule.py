"""Learning rates as a function of how much of the run is done, so that a resumed run has none to restore.

one-cycle   up from peak / 25 on half a cosine for `warmup` of the run, down to peak / 25,000 on another,
            while the momentum goes the other way (Smith and Topin 2018, as torch's OneCycleLR has it)
cosine      up on a line for `warmup` of the run, down to zero on half a cosine (Loshchilov and Hutter 2017)
step        times `decay` at each of `milestones`, which are shares of the run; the same warm-up
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_START, _END = 1 / 25, 1 / 25_000  # of the peak
_MOMENTUM = (0.85, 0.95)


@dataclass(frozen=True)
class Schedule:
    """kind: one-cycle, cosine or step."""

    kind: str
    warmup: float
    milestones: tuple[float, ...] = ()
    decay: float = 0.1

    def rate(self, done: float, steps: int) -> float:
        """The factor of the peak rate after `done` of `steps` optimiser steps."""
        if self.kind == "one-cycle":
            rising, x = self._cycle(done, steps)
            return _between(_START, 1.0, x) if rising else _between(1.0, _END, x)
        share = min(done / max(steps, 1), 1.0)
        if share < self.warmup:
            return (done + 1) / (self.warmup * steps + 1)
        if self.kind == "cosine":
            return _between(1.0, 0.0, (share - self.warmup) / max(1 - self.warmup, 1e-9))
        return self.decay ** sum(share >= milestone for milestone in self.milestones)

    def momentum(self, done: float, steps: int) -> float | None:
        """Of the optimiser, where the schedule moves it."""
        if self.kind != "one-cycle":
            return None
        low, high = _MOMENTUM
        rising, x = self._cycle(done, steps)
        return _between(high, low, x) if rising else _between(low, high, x)

    def _cycle(self, done: float, steps: int) -> tuple[bool, float]:
        """Whether the rate still rises, and how far the rise or the fall is."""
        last = max(steps, 2) - 1
        top = max(self.warmup * max(steps, 2) - 1, 0.0)
        if done <= top and top > 0:
            return True, done / top
        return False, min((done - top) / max(last - top, 1e-9), 1.0)


def _between(start: float, end: float, x: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * x))
