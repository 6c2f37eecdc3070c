"""Decoded frames as plain data."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Frame:
    """One decoded frame as plain data.

    index: 0-based. time_s: seconds since the first frame. pts: as stored. image: uint8 (H, W, 3) RGB or
    (H, W) gray, C-contiguous. damaged: the decoder repaired it, or data right before it was lost.
    """

    index: int
    time_s: Fraction
    pts: int | None
    image: NDArray[np.uint8]
    damaged: bool = False


@dataclass(frozen=True)
class WalkedFrame:
    """One frame of a walk.

    index, time_s, pts, damaged: as in `Frame`. lasts_s: how long the file says that it stays, seconds; 0
    where it does not say. small: as `small_picture` makes it; None where the frame was left out (see
    `thinning`). ticks: the k for which it is the frame nearest to k / fps (see `walking`), as many in all as
    in `Timeline.grid`. image: as in `Frame`; None where there is no such k.
    """

    index: int
    time_s: Fraction
    pts: int | None
    damaged: bool
    lasts_s: Fraction
    small: NDArray[np.uint8] | None
    ticks: range
    image: NDArray[np.uint8] | None
