"""TV-L1's kernels that read pictures: values and derivatives, edge weights, the warp and the data term."""

from __future__ import annotations

import numpy as np

from vpipe.flow.jit import kernel
from vpipe.flow.simd import (
    LANES,
    add,
    at,
    div,
    estimating,
    even,
    exact,
    floor,
    load,
    maximum,
    minimum,
    mul,
    odd,
    splat,
    spread,
    sqrt,
    store,
    store_quarter,
    sub,
    swap_halves,
    swap_quarters,
    within,
    zip_high,
    zip_low,
)
from vpipe.flow.tvl1_planes import FLAT, GX, GY, IG, IW, MARGIN, TINY, WEIGHTED, C, V


@kernel(forceinline=True)
def _inverse(gx, gy, one):
    """One over the squared gradient; zero where that is rounding."""
    square = add(mul(gx, gx), mul(gy, gy))
    return mul(within(square, splat(FLAT), splat(np.float32(np.inf))), div(one, add(splat(TINY), square)))


@kernel(forceinline=True)
def _interleaved(to, i, a, b, c, d):
    """Stores a0 b0 c0 d0 a1 b1 ... from i on: 64 floats."""
    ac, bd = zip_low(a, c), zip_low(b, d)
    store(to, i, zip_low(ac, bd))
    store(to, i + LANES, zip_high(ac, bd))
    ac, bd = zip_high(a, c), zip_high(b, d)
    store(to, i + 2 * LANES, zip_low(ac, bd))
    store(to, i + 3 * LANES, zip_high(ac, bd))


@kernel()
def picture_texels(picture, width, height, five_point, zero_outside, texels):
    """Fills `texels` from `picture`, float32 (height + 2 (MARGIN + 2), width + 2 (MARGIN + 2) + LANES), flat,
    the values repeated beyond its borders. Derivatives: (-1, 0, 1)/2, or (1, -8, 0, 8, -1)/12.
    `zero_outside`: texels of the margin are zero, else they go on as the picture does.
    """
    estimating()
    stride = width + 2 * (MARGIN + 2) + LANES
    columns = width + 2 * MARGIN
    pitch = 4 * (columns + LANES)
    near = splat(np.float32(2 / 3 if five_point else 0.5))
    far = splat(np.float32(1 / 12 if five_point else 0))
    zero = splat(np.float32(0))
    for y in range(height + 2 * MARGIN):
        to = y * pitch
        for j in range(0, columns, LANES):
            i = (y + 2) * stride + j + 2
            value = load(picture, i)
            gx = sub(
                mul(near, sub(load(picture, i + 1), load(picture, i - 1))),
                mul(far, sub(load(picture, i + 2), load(picture, i - 2))),
            )
            gy = sub(
                mul(near, sub(load(picture, i + stride), load(picture, i - stride))),
                mul(far, sub(load(picture, i + 2 * stride), load(picture, i - 2 * stride))),
            )
            _interleaved(texels, to + 4 * j, value, gx, gy, zero)
        if zero_outside:
            inside = MARGIN <= y < height + MARGIN
            for x in range(4 * MARGIN if inside else 4 * columns):
                texels[to + x] = 0
            if inside:
                for x in range(4 * (width + MARGIN), 4 * columns):
                    texels[to + x] = 0


@kernel(forceinline=True)
def _texels(texels, i):
    """Sixteen texels as three vectors: values, d/dx, d/dy."""
    a, b = load(texels, i), load(texels, i + LANES)
    c, d = load(texels, i + 2 * LANES), load(texels, i + 3 * LANES)
    ab, cd = even(a, b), even(c, d)
    ab_, cd_ = odd(a, b), odd(c, d)
    return even(ab, cd), even(ab_, cd_), odd(ab, cd)


@kernel()
def edge_weights(texels, width, height, edge, a, s):
    """IW = 1 + edge |grad I| / 255, at most 10, of the first picture."""
    estimating()
    one, most, tiny = splat(np.float32(1)), splat(np.float32(10)), splat(TINY)
    scale = splat(np.float32(edge / 255))
    pitch = 4 * (width + 2 * MARGIN + LANES)
    for r in range(height):
        for j in range(0, width, LANES):
            _, gx, gy = _texels(texels, (r + MARGIN) * pitch + 4 * (MARGIN + j))
            square = add(tiny, add(mul(gx, gx), mul(gy, gy)))
            slope = mul(square, div(one, sqrt(square)))
            store(a, LANES + r * WEIGHTED * s + IW * s + j, minimum(most, add(one, mul(scale, slope))))


@kernel(forceinline=True)
def _weights(to, i, f, one):
    """Bicubic weights of the taps -1, 0, 1, 2 at fractions f (Keys 1981, a = -0.75 as in OpenCV)."""
    a = splat(np.float32(-0.75))
    g = sub(one, f)
    before = mul(mul(a, f), mul(g, g))
    after = mul(mul(a, g), mul(f, f))
    here = add(mul(mul(sub(mul(splat(np.float32(1.25)), f), splat(np.float32(2.25))), f), f), one)
    _interleaved(to, i, before, here, sub(sub(one, here), add(before, after)), after)


@kernel()
def linearise(first, second, width, height, blend, zero_outside, a, s, row_planes, line):
    """Warps `second` by U and V and writes C, GX, GY; `first`, `second`: texels; `line`: line_length(width).

    GX, GY = (1 - blend) * the warped derivatives of the second picture + blend * those of the first.
    Where a point leaves the picture: no data term; or (`zero_outside`) what the zeros of the margin give.
    """
    exact()
    pitch = 4 * (width + 2 * MARGIN + LANES)
    room = width + LANES
    wx, wy, left, top, inside = 4 * room, 8 * room, 12 * room, 13 * room, 14 * room
    one, blend_ = splat(np.float32(1)), splat(blend)
    lanes = splat(np.float32(LANES))
    lowest = splat(np.float32(1 - MARGIN))
    most_x, most_y = splat(np.float32(width + 1.75)), splat(np.float32(height + 1.75))
    edge = np.float32(4 * MARGIN if zero_outside else 0)
    low, last_x, last_y = (
        splat(-edge),
        splat(np.float32(width - 1) + edge),
        splat(np.float32(height - 1) + edge),
    )
    for x in range(LANES):
        line[x] = x
    ramp = load(line, 0)
    for x in range(4 * width, 4 * room):
        line[x] = 0
    for r in range(height):
        here = LANES + r * row_planes * s
        y, x_ = splat(np.float32(r)), ramp
        for j in range(0, width, LANES):
            px = add(x_, load(a, here + j))
            py = add(y, load(a, here + V * s + j))
            x_ = add(x_, lanes)
            store(line, inside + j, mul(within(px, low, last_x), within(py, low, last_y)))
            px = minimum(maximum(px, lowest), most_x)
            py = minimum(maximum(py, lowest), most_y)
            whole_x, whole_y = floor(px), floor(py)
            store(line, left + j, whole_x)
            store(line, top + j, whole_y)
            _weights(line, wx + 4 * j, sub(px, whole_x), one)
            _weights(line, wy + 4 * j, sub(py, whole_y), one)
        for x in range(width):
            i = (int(at(line, top + x)) - 1 + MARGIN) * pitch + 4 * (int(at(line, left + x)) - 1 + MARGIN)
            w = wy + 4 * x
            rows = add(
                add(
                    mul(splat(at(line, w)), load(second, i)),
                    mul(splat(at(line, w + 1)), load(second, i + pitch)),
                ),
                add(
                    mul(splat(at(line, w + 2)), load(second, i + 2 * pitch)),
                    mul(splat(at(line, w + 3)), load(second, i + 3 * pitch)),
                ),
            )
            taps = mul(spread(load(line, wx + 4 * x)), rows)
            pairs = add(taps, swap_halves(taps))
            store_quarter(line, 4 * x, add(pairs, swap_quarters(pairs)))
        for j in range(0, width, LANES):
            i = here + j
            value, gx, gy = _texels(line, 4 * j)
            value0, gx0, gy0 = _texels(first, (r + MARGIN) * pitch + 4 * (MARGIN + j))
            counts = load(line, inside + j)
            gx = mul(counts, add(gx, mul(blend_, sub(gx0, gx))))
            gy = mul(counts, add(gy, mul(blend_, sub(gy0, gy))))
            moved = add(mul(gx, load(a, i)), mul(gy, load(a, i + V * s)))
            store(a, i + IG * s, _inverse(gx, gy, one))
            store(a, i + GX * s, gx)
            store(a, i + GY * s, gy)
            store(a, i + C * s, sub(mul(counts, sub(value, value0)), moved))
        for k in range(width, (width + LANES - 1) // LANES * LANES):
            for plane in (C, GX, GY):
                a[here + plane * s + k] = 0
