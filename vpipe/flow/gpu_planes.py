"""What the CUDA kernels of TV-L1 share: how the work is cut up, and where the numbers lie.

A program works on one tile of ROWS x COLUMNS pixels of one frame or of one pair. What is kept between them:

`planes`, float32 (slots, height, blocks, PLANES, BLOCK): the unknowns of the pairs at work, one slot a pair.
Of BLOCK pixels of a row all planes lie together: a plane is a constant away from another. U and V, the flow,
and P11 P12 P21 P22, the duals of U and of V, are there twice, as two sides: a step reads one and writes the
other, so that no program waits for its neighbour. Flow and duals change sides each on their own: a median
moves the flow alone. Then C GX GY, the linearised data term rho = C + GX U + GY V, and IW, one over the
weight of the total variation. What lies beyond the width of a row is never used.

`textures`, float32 (frames, 3, height + 2, width + 2): a picture and its derivatives, one pixel of margin.

`state`, int32 (slots, STATE), where iterations are measured (`epsilon` above 0), so that pairs go their own
ways without a word from the host: the sides that flow and duals are on, how many iterations the next sweep does
(0: none), whether it is known to be the last, whether the warp is finished, and the iterations done on this level. Elsewhere all pairs take the
same steps, and the host says what side is in turn.
"""

# Triton types the kernels, from the arguments they are called with.
# mypy: allow-untyped-defs, no-check-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton
import triton.language as tl

# What the launches of all kernels but the sweeps say: two pixels for each thread were fastest, and few tiles reach
# beyond the picture.
TILE: dict[str, Any] = {"ROWS": 4, "COLUMNS": 32, "num_warps": 2}

PLANES, BLOCK = 16, 32
SIDE = tl.constexpr(6)  # planes of one side
DUALS = tl.constexpr(2)  # of which these are before P11
C, GX, GY, IW = tl.constexpr(12), tl.constexpr(13), tl.constexpr(14), tl.constexpr(15)
NEXT = tl.constexpr(BLOCK)  # from a plane to the next
# A smaller squared gradient is rounding, not picture (OpenCV's FLT_EPSILON); it moves nothing.
FLAT = tl.constexpr(1.2e-7)
TINY = tl.constexpr(1e-20)  # under a square root or a division, so that zero stays zero
_ROOM = tl.constexpr(PLANES * BLOCK)  # of a block
# The columns of `state`.
FLOW, DUAL, COUNT, LAST, FINISHED, ITERATIONS = (tl.constexpr(k) for k in range(6))
STATE = tl.constexpr(8)


def kernel(function: Callable[..., None]) -> Any:
    """One compilation serves all sizes: Triton would make others where a number is 1 or divisible by 16."""
    numbers = [name for name, kind in function.__annotations__.items() if kind == "tl.int32"]
    return triton.jit(do_not_specialize=numbers)(function)


@triton.jit
def tile_of(width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """The columns (1, COLUMNS) and the rows (ROWS, 1) of this program."""
    across = tl.cdiv(width, COLUMNS)
    tile = tl.program_id(0)
    x = tile % across * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    y = tile // across * ROWS + tl.arange(0, ROWS)[:, None]
    return x, y


@triton.jit
def slot_of(planes, slot, height, pitch):
    return planes + slot.to(tl.int64) * height * pitch


@triton.jit
def place_of(x, y, pitch):
    """Where in a slot the pixel (x, y) of plane 0 is; `pitch`: floats from row to row."""
    return y * pitch + x // NEXT * _ROOM + x % NEXT


@triton.jit
def clamp(value, low, high):
    return tl.minimum(tl.maximum(value, low), high)


@triton.jit
def between(x, scale, length):
    """Where OpenCV's bilinear resize looks for output `x`: position and fraction, inside the picture."""
    at = (x.to(tl.float32) + 0.5) * scale - 0.5
    whole = tl.floor(at)
    part = at - whole
    index = whole.to(tl.int32)
    part = tl.where((index < 0) | (index >= length - 1), 0.0, part)
    return clamp(index, 0, length - 1), part


@triton.jit
def side_of(state, slot, column: tl.constexpr, side, MEASURED: tl.constexpr):
    """The side that this pair's flow (column FLOW) or duals (DUAL) are on; `side`: what the host says."""
    if MEASURED:
        side = tl.load(state + slot * STATE + column)
    return side
