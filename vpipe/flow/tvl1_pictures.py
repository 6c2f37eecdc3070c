"""TV-L1's kernels that read pictures: derivatives, edge weights, the warp and the data term.

Bicubic interpolation is linear in the picture, and so are the derivatives. So the derivatives of a picture
are never stored: interpolating them is interpolating the picture with the derivatives of the weights.
"""

from __future__ import annotations

import numpy as np

from vpipe.flow.jit import kernel
from vpipe.flow.simd import (
    LANES,
    add,
    at,
    choose,
    div,
    estimating,
    exact,
    floor,
    load,
    lowest,
    maximum,
    minimum,
    mul,
    same,
    splat,
    sqrt,
    store,
    sub,
    within,
)
from vpipe.flow.tvl1_planes import FLAT, GX, GY, IG, IW, MARGIN, OUTSIDE, SIDE, TINY, WEIGHTED, C, V

# No helper here that takes an array may branch: numba counts the references to the array around a branch, by
# calls that LLVM cannot drop, and a call spills every vector.


@kernel(forceinline=True)
def _inverse(gx, gy, one):
    """One over the squared gradient; zero where that is rounding."""
    square = add(mul(gx, gx), mul(gy, gy))
    return mul(within(square, splat(FLAT), splat(np.float32(np.inf))), div(one, add(splat(TINY), square)))


@kernel(forceinline=True)
def _stencil(five_point):
    """(near, far) of the derivative near * (I[1] - I[-1]) - far * (I[2] - I[-2])."""
    if five_point:
        return splat(np.float32(2 / 3)), splat(np.float32(1 / 12))
    return splat(np.float32(1 / 2)), splat(np.float32(0))


@kernel(forceinline=True)
def _slope(picture, i, step, near, far):
    """The derivative at i, along the axis that `step` steps along."""
    return sub(
        mul(near, sub(load(picture, i + step), load(picture, i - step))),
        mul(far, sub(load(picture, i + 2 * step), load(picture, i - 2 * step))),
    )


@kernel()
def edge_weights(picture, stride, width, height, five_point, edge, a, s):
    """IW = 1 + edge |grad I| / 255, at most 10, of the first picture."""
    estimating()
    one, most, tiny = splat(np.float32(1)), splat(np.float32(10)), splat(TINY)
    scale = splat(np.float32(edge / 255))
    near, far = _stencil(five_point)
    for r in range(height):
        for j in range(0, width, LANES):
            i = (r + MARGIN) * stride + SIDE + j
            gx, gy = _slope(picture, i, 1, near, far), _slope(picture, i, stride, near, far)
            square = add(tiny, add(mul(gx, gx), mul(gy, gy)))
            slope = mul(square, div(one, sqrt(square)))
            store(a, LANES + r * WEIGHTED * s + IW * s + j, minimum(most, add(one, mul(scale, slope))))


@kernel(forceinline=True)
def _weights(f, one):
    """Bicubic weights of the taps -1, 0, 1, 2 at fractions f (Keys 1981, a = -0.75 as in OpenCV)."""
    a = splat(np.float32(-0.75))
    g = sub(one, f)
    before = mul(mul(a, f), mul(g, g))
    after = mul(mul(a, g), mul(f, f))
    here = add(mul(mul(sub(mul(splat(np.float32(1.25)), f), splat(np.float32(2.25))), f), f), one)
    return before, here, sub(sub(one, here), add(before, after)), after


@kernel(forceinline=True)
def _only_inside(weights, whole, last):
    """The weights, zero for taps outside of 0 ... last; the tap 0 is at `whole`."""
    first, one = splat(np.float32(0)), splat(np.float32(1))
    after = add(whole, one)
    return (
        mul(weights[0], within(sub(whole, one), first, last)),
        mul(weights[1], within(whole, first, last)),
        mul(weights[2], within(after, first, last)),
        mul(weights[3], within(add(after, one), first, last)),
    )


@kernel(forceinline=True)
def _slopes(w, near, far):
    """The weights of the taps -3 ... 4 that give the derivative of what the weights `w` interpolate."""
    return (
        mul(far, w[0]),
        sub(mul(far, w[1]), mul(near, w[0])),
        sub(mul(far, w[2]), mul(near, w[1])),
        add(mul(near, sub(w[0], w[2])), mul(far, w[3])),
        sub(mul(near, sub(w[1], w[3])), mul(far, w[0])),
        sub(mul(near, w[2]), mul(far, w[1])),
        sub(mul(near, w[3]), mul(far, w[2])),
        sub(splat(np.float32(0)), mul(far, w[3])),
    )


@kernel(forceinline=True)
def _across(picture, i, w):
    """Sixteen neighbours of one row, interpolated in x by the weights of the taps -1 ... 2."""
    value = add(mul(w[0], load(picture, i - 1)), mul(w[1], load(picture, i)))
    return add(add(value, mul(w[2], load(picture, i + 1))), mul(w[3], load(picture, i + 2)))


@kernel(forceinline=True)
def _across_slope(picture, i, w):
    """Likewise their derivatives in x, by the weights of `_slopes` for the taps -2 ... 3."""
    slope = add(mul(w[1], load(picture, i - 2)), mul(w[2], load(picture, i - 1)))
    slope = add(add(slope, mul(w[3], load(picture, i))), mul(w[4], load(picture, i + 1)))
    return add(add(slope, mul(w[5], load(picture, i + 2))), mul(w[6], load(picture, i + 3)))


@kernel(forceinline=True)
def _patch(picture, i, stride, x, dx, y, dy):
    """Values and derivatives in x and y of sixteen neighbours; x, y: weights; dx, dy: those of `_slopes`."""
    row = _across(picture, i - stride, x)
    value, gy = mul(y[0], row), mul(dy[2], row)
    row = _across(picture, i, x)
    value, gy = add(value, mul(y[1], row)), add(gy, mul(dy[3], row))
    row = _across(picture, i + stride, x)
    value, gy = add(value, mul(y[2], row)), add(gy, mul(dy[4], row))
    row = _across(picture, i + 2 * stride, x)
    value, gy = add(value, mul(y[3], row)), add(gy, mul(dy[5], row))
    gy = add(gy, mul(dy[1], _across(picture, i - 2 * stride, x)))
    gy = add(gy, mul(dy[6], _across(picture, i + 3 * stride, x)))
    gx = mul(y[0], _across_slope(picture, i - stride, dx))
    gx = add(gx, mul(y[1], _across_slope(picture, i, dx)))
    gx = add(gx, mul(y[2], _across_slope(picture, i + stride, dx)))
    return value, add(gx, mul(y[3], _across_slope(picture, i + 2 * stride, dx))), gy


@kernel(forceinline=True)
def _ends(picture, i, w):
    """The share of the taps -3 and 4 in a derivative in x."""
    return add(mul(w[0], load(picture, i - 3)), mul(w[7], load(picture, i + 4)))


@kernel(forceinline=True)
def _rim(picture, i, stride, x, dx, y, dy):
    """What the taps -3 and 4 add to the derivatives in x and y of `_patch`."""
    gx = add(mul(y[0], _ends(picture, i - stride, dx)), mul(y[1], _ends(picture, i, dx)))
    gx = add(gx, mul(y[2], _ends(picture, i + stride, dx)))
    gx = add(gx, mul(y[3], _ends(picture, i + 2 * stride, dx)))
    above, below = _across(picture, i - 3 * stride, x), _across(picture, i + 4 * stride, x)
    return gx, add(mul(dy[0], above), mul(dy[7], below))


@kernel()
def linearise(
    first, second, stride, width, height, five_point, blend, zero_outside, a, s, row_planes, points
):  # fmt: skip
    """Warps `second` by U and V and writes C, GX, GY, IG; points: scratch.

    GX, GY = (1 - blend) * the warped derivatives of the second picture + blend * those of the first.
    Where a point leaves the picture: no data term; or (`zero_outside`) what a picture with derivatives, all
    zero out there, gives. Flow is smooth: most often sixteen neighbours fetch sixteen neighbours, at one
    offset; else each offset is fetched for all sixteen.
    """
    exact()
    zero, one, blend_ = splat(np.float32(0)), splat(np.float32(1)), splat(blend)
    near, far = _stencil(five_point)
    lanes = splat(np.float32(LANES))
    last_column, last_row = splat(np.float32(width - 1)), splat(np.float32(height - 1))
    lowest_ = splat(np.float32(-OUTSIDE))
    most_x, most_y = splat(np.float32(width + OUTSIDE - 1.25)), splat(np.float32(height + OUTSIDE - 1.25))
    around = splat(np.float32(4 * OUTSIDE if zero_outside else 0))
    low, last_x, last_y = sub(zero, around), add(last_column, around), add(last_row, around)
    all_in_x, all_in_y = sub(last_column, splat(np.float32(2))), sub(last_row, splat(np.float32(2)))
    for x in range(LANES):
        points[x] = x
    ramp = load(points, 0)
    for r in range(height):
        here = LANES + r * row_planes * s
        y, x_ = splat(np.float32(r)), ramp
        for j in range(0, width, LANES):
            i = here + j
            px, py = add(x_, load(a, i)), add(y, load(a, i + V * s))
            counts = mul(within(px, low, last_x), within(py, low, last_y))
            px = minimum(maximum(px, lowest_), most_x)
            py = minimum(maximum(py, lowest_), most_y)
            whole_x, whole_y = floor(px), floor(py)
            wx, wy = _weights(sub(px, whole_x), one), _weights(sub(py, whole_y), one)
            if zero_outside:
                taps_inside = mul(within(whole_x, one, all_in_x), within(whole_y, one, all_in_y))
                if same(taps_inside, zero) != 0:
                    wx = _only_inside(wx, whole_x, last_column)
                    wy = _only_inside(wy, whole_y, last_row)
            dx, dy = _slopes(wx, near, far), _slopes(wy, near, far)
            offset_x = sub(whole_x, x_)
            store(points, 0, offset_x)
            store(points, LANES, whole_y)
            value = gx = gy = zero
            waiting = (1 << min(LANES, width - j)) - 1
            while waiting != 0:
                lane = lowest(waiting)
                to_x, to_y = at(points, lane), at(points, LANES + lane)
                these = same(offset_x, splat(to_x)) & same(whole_y, splat(to_y)) & waiting
                waiting ^= these
                from_ = (int(to_y) + MARGIN) * stride + SIDE + j + int(to_x)
                new, new_x, new_y = _patch(second, from_, stride, wx, dx, wy, dy)
                if five_point:
                    more_x, more_y = _rim(second, from_, stride, wx, dx, wy, dy)
                    new_x, new_y = add(new_x, more_x), add(new_y, more_y)
                value, gx, gy = choose(these, new, value), choose(these, new_x, gx), choose(these, new_y, gy)
            there = (r + MARGIN) * stride + SIDE + j
            if blend > 0:
                gx = add(gx, mul(blend_, sub(_slope(first, there, 1, near, far), gx)))
                gy = add(gy, mul(blend_, sub(_slope(first, there, stride, near, far), gy)))
            gx, gy = mul(counts, gx), mul(counts, gy)
            moved = add(mul(gx, load(a, i)), mul(gy, load(a, i + V * s)))
            store(a, i + IG * s, _inverse(gx, gy, one))
            store(a, i + GX * s, gx)
            store(a, i + GY * s, gy)
            store(a, i + C * s, sub(mul(counts, sub(value, load(first, there))), moved))
            x_ = add(x_, lanes)
        for k in range(width, (width + LANES - 1) // LANES * LANES):
            for plane in (C, GX, GY):
                a[here + plane * s + k] = 0
