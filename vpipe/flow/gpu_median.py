"""The exact median of 3x3 or 5x5 pixels of U and V, for CUDA, in Triton: minima and maxima, no branch."""

# Triton types the kernels, from the arguments they are called with.
# mypy: allow-untyped-defs, no-check-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from vpipe.flow.gpu_planes import (
    FINISHED,
    FLOW,
    NEXT,
    SIDE,
    STATE,
    clamp,
    kernel,
    place_of,
    side_of,
    slot_of,
    tile_of,
)


@triton.jit
def _sort2(a, b):
    return tl.minimum(a, b), tl.maximum(a, b)


@triton.jit
def _sort3(a, b, c):
    a, b = _sort2(a, b)
    b, c = _sort2(b, c)
    a, b = _sort2(a, b)
    return a, b, c


@triton.jit
def _sort5(a, b, c, d, e):
    a, b = _sort2(a, b)
    d, e = _sort2(d, e)
    c, e = _sort2(c, e)
    c, d = _sort2(c, d)
    a, d = _sort2(a, d)
    a, c = _sort2(a, c)
    b, e = _sort2(b, e)
    b, d = _sort2(b, d)
    b, c = _sort2(b, c)
    return a, b, c, d, e


@triton.jit
def _merge2(a1, a2, b1, b2):
    """Two sorted by two, sorted."""
    low, b1 = _sort2(a1, b1)
    a2, high = _sort2(a2, b2)
    a2, b1 = _sort2(a2, b1)
    return low, a2, b1, high


@triton.jit
def _merge33(a1, a2, a3, b1, b2, b3):
    """Three sorted by three, after Batcher (1968): odd and even ones merged, then neighbours set right."""
    c1, c2, c3, c4 = _merge2(a1, a3, b1, b3)
    d1, d2 = _sort2(a2, b2)
    c2, d1 = _sort2(c2, d1)
    d2, c3 = _sort2(c3, d2)
    return c1, c2, d1, d2, c3, c4


@triton.jit
def _merge34(a1, a2, a3, b1, b2, b3, b4):
    """Three sorted by four, in the same way."""
    c1, c2, c3, c4 = _merge2(a1, a3, b1, b3)
    d1, d2 = _sort2(a2, b2)
    d2, d3 = _sort2(d2, b4)
    c2, d1 = _sort2(c2, d1)
    c3, d2 = _sort2(c3, d2)
    c4, d3 = _sort2(c4, d3)
    return c1, c2, d1, c3, d2, c4, d3


@triton.jit
def _value(at, dx, dy, x, y, width, height, pitch):
    """The pixel at (x + dx, y + dy), the border repeated."""
    return tl.load(at + place_of(clamp(x + dx, 0, width - 1), clamp(y + dy, 0, height - 1), pitch))


@triton.jit
def _column3(at, dx, x, y, width, height, pitch):
    return _sort3(
        _value(at, dx, -1, x, y, width, height, pitch),
        _value(at, dx, 0, x, y, width, height, pitch),
        _value(at, dx, 1, x, y, width, height, pitch),
    )


@triton.jit
def _column5(at, dx, x, y, width, height, pitch):
    return _sort5(
        _value(at, dx, -2, x, y, width, height, pitch),
        _value(at, dx, -1, x, y, width, height, pitch),
        _value(at, dx, 0, x, y, width, height, pitch),
        _value(at, dx, 1, x, y, width, height, pitch),
        _value(at, dx, 2, x, y, width, height, pitch),
    )


@triton.jit
def _median9(at, x, y, width, height, pitch):
    """With sorted columns: the middle one of the largest low, the middle middle and the smallest high."""
    a1, a2, a3 = _column3(at, -1, x, y, width, height, pitch)
    b1, b2, b3 = _column3(at, 0, x, y, width, height, pitch)
    c1, c2, c3 = _column3(at, 1, x, y, width, height, pitch)
    low = tl.maximum(tl.maximum(a1, b1), c1)
    high = tl.minimum(tl.minimum(a3, b3), c3)
    _, middle, _ = _sort3(a2, b2, c2)
    _, median, _ = _sort3(low, middle, high)
    return median


@triton.jit
def _median25(at, x, y, width, height, pitch):
    """Columns sorted, then rows: both stay sorted, so six values are surely under the median and six above.

    Which leaves 13, in rows of 2, 3, 3, 3, 2: merged to six and to seven, of both of which the seventh is
    the median. What is not needed of a sort, the compiler leaves out.
    """
    a1, a2, a3, a4, a5 = _column5(at, -2, x, y, width, height, pitch)
    b1, b2, b3, b4, b5 = _column5(at, -1, x, y, width, height, pitch)
    c1, c2, c3, c4, c5 = _column5(at, 0, x, y, width, height, pitch)
    d1, d2, d3, d4, d5 = _column5(at, 1, x, y, width, height, pitch)
    e1, e2, e3, e4, e5 = _column5(at, 2, x, y, width, height, pitch)
    _, _, _, p4, p5 = _sort5(a1, b1, c1, d1, e1)
    _, _, q3, q4, q5 = _sort5(a2, b2, c2, d2, e2)
    _, r2, r3, r4, _ = _sort5(a3, b3, c3, d3, e3)
    s1, s2, s3, _, _ = _sort5(a4, b4, c4, d4, e4)
    t1, t2, _, _, _ = _sort5(a5, b5, c5, d5, e5)
    i1, i2, i3, i4, i5, i6 = _merge33(q3, q4, q5, s1, s2, s3)
    n1, n2, n3, n4 = _merge2(p4, p5, t1, t2)
    j1, j2, j3, j4, j5, j6, j7 = _merge34(r2, r3, r4, n1, n2, n3, n4)
    least = tl.minimum(j7, tl.maximum(i6, j1))
    least = tl.minimum(least, tl.minimum(tl.maximum(i1, j6), tl.maximum(i2, j5)))
    return tl.minimum(
        least, tl.minimum(tl.maximum(i3, j4), tl.minimum(tl.maximum(i4, j3), tl.maximum(i5, j2)))
    )


@kernel
def median(
    planes, present, state, width: tl.int32, height: tl.int32, pitch: tl.int32, flow: tl.int32,
    SIZE: tl.constexpr, MEASURED: tl.constexpr, EVERYONE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The median of U and V, from one side to the other, of every pair at work; border repeated.

    Axis 2 of the grid: U or V. flow: the side that both are on. MEASURED: that is in `state`; and pairs that are
    finished are left alone but for EVERYONE.
    """
    slot, component = tl.program_id(1), tl.program_id(2)
    at_work = slot < tl.load(present)
    if MEASURED and not EVERYONE:
        at_work = at_work & (tl.load(state + slot * STATE + FINISHED) == 0)
    if at_work:
        x, y = tile_of(width, ROWS, COLUMNS)
        inside = (x < width) & (y < height)
        side = side_of(state, slot, FLOW, flow, MEASURED)
        pair = slot_of(planes, slot, height, pitch)
        at = pair + (side * SIDE + component) * NEXT
        to = pair + ((1 - side) * SIDE + component) * NEXT + place_of(x, y, pitch)
        if SIZE == 5:
            tl.store(to, _median25(at, x, y, width, height, pitch), mask=inside)
        else:
            tl.store(to, _median9(at, x, y, width, height, pitch), mask=inside)
