"""The loops of TV-L1, over planes of one pyramid level; `vpipe.flow.tvl1_engine` says what is done with them.

Two layouts (H rows, W columns):

`planes`: the unknowns of one level, flat. Row r is eleven rows of `pitch` floats, one a plane, so that all
one row needs lies together (planes of their own would fall on the same cache sets):

    16 zeros | W values | at least 16 of padding        U V P11 P12 P21 P22 C GX GY IG IW

U, V: the flow. P11, P12 and P21, P22: the dual variables of U and V. C, GX, GY: the linearised data term,
rho = C + GX U + GY V. IG: one over the squared gradient. IW: one over the weight of the total variation. The
padding of a row is inert: the gradient is zero there, U and V repeat their last value, P stays zero.

`texels`: a picture for interpolation, flat. Texel (y, x) is four floats: value, d/dx, d/dy, 0; MARGIN texels
on every side. One row of a bicubic patch is then four texels: one vector.
"""

from __future__ import annotations

import math
from typing import Any

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
    total,
    within,
    zip_high,
    zip_low,
)

U, V, P11, P12, P21, P22, C, GX, GY, IG, IW = range(11)
# How many of them a row holds, without and with edge weights.
PLAIN, WEIGHTED = IG + 1, IW + 1
MARGIN = 4
# What is added under a square root or a division so that zero stays zero.
TINY = np.float32(1e-20)
# A smaller squared gradient is rounding, not picture (OpenCV's FLT_EPSILON); it moves nothing.
FLAT = np.float32(1.2e-7)


def pitch_of(width: int) -> int:
    """Floats from one plane's row to the next plane's; an odd number of cache lines, to spread over sets."""
    lines = 2 + -(-width // LANES)
    return LANES * (lines + 1 - lines % 2)


def texels_length(width: int, height: int) -> int:
    """Floats of a picture's texels."""
    return (height + 2 * MARGIN) * 4 * (width + 2 * MARGIN + LANES)


def line_length(width: int) -> int:
    """Floats of scratch that `linearise` needs: five of a row of texels' worth, less one."""
    return 15 * (width + LANES)


@kernel(forceinline=True)
def _inverse(gx, gy, one):
    """One over the squared gradient; zero where that is rounding."""
    square = add(mul(gx, gx), mul(gy, gy))
    return mul(within(square, splat(FLAT), splat(np.float32(np.inf))), div(one, add(splat(TINY), square)))


@kernel(forceinline=True)
def _primal(a, i, s, p12_above, p22_above, step, minus_step, theta):
    """One vector of U and V: the data term's threshold step, then theta times the divergence of the duals."""
    u = load(a, i)
    v = load(a, i + V * s)
    div_u = add(sub(load(a, i + P11 * s), load(a, i + P11 * s - 1)), sub(load(a, i + P12 * s), p12_above))
    div_v = add(sub(load(a, i + P21 * s), load(a, i + P21 * s - 1)), sub(load(a, i + P22 * s), p22_above))
    gx = load(a, i + GX * s)
    gy = load(a, i + GY * s)
    rho = add(load(a, i + C * s), add(mul(gx, u), mul(gy, v)))
    inverse = load(a, i + IG * s)
    t = minimum(maximum(mul(rho, inverse), minus_step), step)
    u_new = add(sub(u, mul(t, gx)), mul(theta, div_u))
    v_new = add(sub(v, mul(t, gy)), mul(theta, div_v))
    store(a, i, u_new)
    store(a, i + V * s, v_new)
    du = sub(u_new, u)
    dv = sub(v_new, v)
    return u_new, v_new, add(mul(du, du), mul(dv, dv))


@kernel(forceinline=True)
def _dual(a, i, s, u_below, v_below, p12, p22, tau, inverse_weight, one):
    """One vector of the duals: a semi-implicit step along the forward gradient of U and V."""
    u = load(a, i)
    v = load(a, i + V * s)
    tiny = splat(TINY)
    ux = sub(load(a, i + 1), u)
    vx = sub(load(a, i + V * s + 1), v)
    uy = sub(u_below, u)
    vy = sub(v_below, v)
    uu = add(tiny, add(mul(ux, ux), mul(uy, uy)))
    vv = add(tiny, add(mul(vx, vx), mul(vy, vy)))
    length_u, length_v = mul(uu, div(one, sqrt(uu))), mul(vv, div(one, sqrt(vv)))
    stretch = mul(tau, inverse_weight)
    nu = div(one, add(one, mul(stretch, length_u)))
    nv = div(one, add(one, mul(stretch, length_v)))
    store(a, i + P11 * s, mul(nu, add(load(a, i + P11 * s), mul(tau, ux))))
    store(a, i + P12 * s, mul(nu, add(p12, mul(tau, uy))))
    store(a, i + P21 * s, mul(nv, add(load(a, i + P21 * s), mul(tau, vx))))
    store(a, i + P22 * s, mul(nv, add(p22, mul(tau, vy))))


def _sweep(weighted: bool, measured: bool) -> Any:
    @kernel()
    def sweep(a, width, height, s, step, theta, tau, count, errors):
        """`count` iterations in one sweep over the rows: iteration n works one row behind iteration n-1.

        Rows stay in the cache for all of them. Within an iteration the duals of row r-1 follow as soon as U
        and V of row r are known. errors[n] becomes the sum of squared changes of U and V (where measured).
        """
        if measured:
            exact()  # where to stop hangs on the last digits
        else:
            estimating()
        one = splat(np.float32(1))
        zero = splat(np.float32(0))
        plus, minus = splat(step), splat(-step)
        theta_, tau_ = splat(theta), splat(tau)
        vectors = (width + LANES - 1) // LANES
        row = (WEIGHTED if weighted else PLAIN) * s
        for n in range(count):
            errors[n] = 0
        for front in range(height + count):
            for n in range(count):
                r = front - n
                if r < 0 or r > height:
                    continue
                here = LANES + r * row
                above = here - row
                change = zero
                if r == 0:
                    for j in range(vectors):
                        i = here + LANES * j
                        _, _, d = _primal(a, i, s, zero, zero, plus, minus, theta_)
                        if measured:
                            change = add(change, d)
                elif r < height:
                    for j in range(vectors):
                        i = here + LANES * j
                        k = above + LANES * j
                        p12 = load(a, k + P12 * s)
                        p22 = load(a, k + P22 * s)
                        u, v, d = _primal(a, i, s, p12, p22, plus, minus, theta_)
                        if measured:
                            change = add(change, d)
                        weight = load(a, k + IW * s) if weighted else one
                        _dual(a, k, s, u, v, p12, p22, tau_, weight, one)
                else:
                    for j in range(vectors):
                        k = above + LANES * j
                        weight = load(a, k + IW * s) if weighted else one
                        _dual(
                            a, k, s, load(a, k), load(a, k + V * s), load(a, k + P12 * s),
                            load(a, k + P22 * s), tau_, weight, one,
                        )  # fmt: skip
                if r < height:
                    _repeat_last(a, here, s, width)
                if r > 0:
                    store(a, above + P12 * s + width, zero)
                    store(a, above + P22 * s + width, zero)
                if measured:
                    errors[n] += total(change)

    return sweep


def _climb(weighted: bool) -> Any:
    @kernel()
    def climb(a, width, height, s, step, theta, tau, errors):
        """One iteration from the last row up, measured: as `sweep` with a count of one.

        After a sweep down the last rows are still in the cache. The duals of row r follow U and V of row r.
        """
        exact()
        one = splat(np.float32(1))
        zero = splat(np.float32(0))
        plus, minus = splat(step), splat(-step)
        theta_, tau_ = splat(theta), splat(tau)
        vectors = (width + LANES - 1) // LANES
        row = (WEIGHTED if weighted else PLAIN) * s
        errors[0] = 0
        for r in range(height - 1, -1, -1):
            here = LANES + r * row
            above = here - row if r > 0 else here
            below = here + row if r < height - 1 else here
            change = zero
            for j in range(vectors):
                i = here + LANES * j
                k = above + LANES * j
                p12 = load(a, k + P12 * s) if r > 0 else zero
                p22 = load(a, k + P22 * s) if r > 0 else zero
                _, _, d = _primal(a, i, s, p12, p22, plus, minus, theta_)
                change = add(change, d)
            _repeat_last(a, here, s, width)
            for j in range(vectors):
                i = here + LANES * j
                k = below + LANES * j
                weight = load(a, i + IW * s) if weighted else one
                _dual(
                    a, i, s, load(a, k), load(a, k + V * s), load(a, i + P12 * s), load(a, i + P22 * s),
                    tau_, weight, one,
                )  # fmt: skip
            store(a, here + P12 * s + width, zero)
            store(a, here + P22 * s + width, zero)
            errors[0] += total(change)

    return climb


@kernel(forceinline=True)
def _repeat_last(a, i, s, width):
    store(a, i + width, splat(at(a, i + width - 1)))
    store(a, i + V * s + width, splat(at(a, i + V * s + width - 1)))


# By name, for numba keeps no kernel on disk that closes over another.
_sweep_plain, _sweep_weighted = _sweep(False, True), _sweep(True, True)
_climb_plain, _climb_weighted = _climb(False), _climb(True)


def _until(weighted: bool) -> Any:
    @kernel()
    def until(a, width, height, s, step, theta, tau, count, limit, errors):
        """Up to `count` iterations; fewer once the sum of squared changes of one is at most `limit`, exactly.

        One too many costs parity: a solver that stops an iteration late differs by 0.005 px everywhere. So as
        many are swept together as will surely not bring the change under its limit, going by how fast it
        shrinks. Returns the last change.
        """
        done = 0
        before = change = np.float64(np.inf)
        together = 1
        at_bottom = False
        while done < count and change > limit:
            together = min(together, count - done)
            if together == 1 and at_bottom:
                if weighted:
                    _climb_weighted(a, width, height, s, step, theta, tau, errors)
                else:
                    _climb_plain(a, width, height, s, step, theta, tau, errors)
                at_bottom = False
            else:
                if weighted:
                    _sweep_weighted(a, width, height, s, step, theta, tau, together, errors)
                else:
                    _sweep_plain(a, width, height, s, step, theta, tau, together, errors)
                at_bottom = True
            done += together
            before = change
            change = np.float64(errors[0])
            for n in range(1, together):
                change = min(change, np.float64(errors[n]))
            if change > limit:
                shrink = 0.5
                if change < before < np.inf:
                    shrink = min((change / before) ** (1 / together), 0.9)
                together = max(1, min(int(0.8 * math.log(limit / change) / math.log(shrink)), MOST_PER_SWEEP))
        return change

    return until


@kernel()
def _pad(a, width, height, s, row):
    """Repeats the last values of U and V into the padding, as a sweep keeps them."""
    exact()
    for r in range(height):
        _repeat_last(a, LANES + r * row, s, width)


_SWEEPS = {weighted: _sweep(weighted, False) for weighted in (False, True)}
_UNTIL = {weighted: _until(weighted) for weighted in (False, True)}
# The most iterations one sweep carries: beyond this the rows in flight outgrow the cache of one core.
MOST_PER_SWEEP = 15


def iterate(
    planes: Any, width: int, height: int, pitch: int, step: Any, theta: Any, tau: Any, count: int,
    limit: float, weighted: bool,
) -> float:  # fmt: skip
    """Up to `count` iterations; fewer once the sum of squared changes of one is at most `limit` (0: all).

    step: lambda theta. tau: the dual step over theta. Returns the last sum, infinity if not measured.
    """
    errors = np.zeros(MOST_PER_SWEEP, np.float32)
    _pad(planes, width, height, pitch, pitch * (WEIGHTED if weighted else PLAIN))
    if limit > 0:
        last: float = _UNTIL[weighted](planes, width, height, pitch, step, theta, tau, count, limit, errors)
        return last
    for done in range(0, count, MOST_PER_SWEEP):
        together = min(MOST_PER_SWEEP, count - done)
        _SWEEPS[weighted](planes, width, height, pitch, step, theta, tau, together, errors)
    return math.inf


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
