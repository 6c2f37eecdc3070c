"""The steps of TV-L1 on one level, for CUDA, in Triton; `vpipe.flow.gpu_level` puts them together."""

# Triton types the kernels, from the arguments they are called with.
# mypy: allow-untyped-defs, no-check-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from vpipe.flow.gpu_planes import (
    DUALS,
    FLAT,
    GX,
    GY,
    IW,
    NEXT,
    SIDE,
    TINY,
    C,
    between,
    clamp,
    kernel,
    place_of,
    slot_of,
    tile_of,
    total_of,
)

# Rows that a thread of `iterate` goes down: what it computes of the next row serves twice.
MARCH = 4


@kernel
def begin(
    planes, coarser, textures, first, lo: tl.int32, width: tl.int32, height: tl.int32, pitch: tl.int32,
    from_width: tl.int32, from_height: tl.int32, scale_x: tl.float32, scale_y: tl.float32,
    grow: tl.float32, edge: tl.float32,
    COARSEST: tl.constexpr, WEIGHTED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Fills side 0 of slot s for pair lo + s: U and V from the coarser flow, the duals zero; and IW.

    coarser: float32 (pairs, 2, from_height, from_width). first: int32 (pairs,), frames. `grow` multiplies
    the interpolated flow. IW = 1 + edge |grad I| / 255, at most 10, of the first picture.
    """
    x, y = tile_of(width, ROWS, COLUMNS)
    inside = (x < width) & (y < height)
    slot = tl.program_id(1)
    pair = (lo + slot).to(tl.int64)
    to = slot_of(planes, slot, height, pitch) + place_of(x, y, pitch)
    zero = tl.zeros((ROWS, COLUMNS), tl.float32)
    for k in tl.static_range(4):
        tl.store(to + (DUALS + k) * NEXT, zero, mask=inside)
    if COARSEST:
        tl.store(to, zero, mask=inside)
        tl.store(to + NEXT, zero, mask=inside)
    else:
        left, part_x = between(x, scale_x, from_width)
        top, part_y = between(y, scale_y, from_height)
        right = tl.minimum(left + 1, from_width - 1)
        upper = top * from_width
        lower = tl.minimum(top + 1, from_height - 1) * from_width
        for k in tl.static_range(2):
            flow = coarser + (2 * pair + k) * from_width * from_height
            above = tl.load(flow + upper + left) * (1 - part_x) + tl.load(flow + upper + right) * part_x
            below = tl.load(flow + lower + left) * (1 - part_x) + tl.load(flow + lower + right) * part_x
            value = above * (1 - part_y) + below * part_y
            tl.store(to + k * NEXT, value * grow, mask=inside)
    if WEIGHTED:
        of = (width + 2) * (height + 2)
        at = textures + tl.load(first + pair).to(tl.int64) * 3 * of + (y + 1) * (width + 2) + x + 1
        gx = tl.load(at + of, mask=inside, other=0.0)
        gy = tl.load(at + 2 * of, mask=inside, other=0.0)
        weight = 1 + edge * tl.sqrt(gx * gx + gy * gy + TINY)
        tl.store(to + IW * NEXT, tl.minimum(weight, 10.0), mask=inside)


@triton.jit
def _cubic(f, TAP: tl.constexpr):
    """Bicubic weight of tap -1, 0, 1 or 2 at the fraction f (Keys 1981, a = -0.75 as in OpenCV)."""
    if TAP == -1:
        weight = -0.75 * f * (1 - f) * (1 - f)
    elif TAP == 0:
        weight = (1.25 * f - 2.25) * f * f + 1
    elif TAP == 1:
        weight = (1.25 * (1 - f) - 2.25) * (1 - f) * (1 - f) + 1
    else:
        weight = -0.75 * (1 - f) * f * f
    return weight


@kernel
def linearise(
    planes, textures, first, second, sums, finished, lo: tl.int32,
    width: tl.int32, height: tl.int32, pitch: tl.int32, slots: tl.int32, side: tl.int32, blend: tl.float32,
    ZERO_OUTSIDE: tl.constexpr, MEASURED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Warps the second picture of each pair by U and V: C, GX, GY; and no pair is finished any more.

    GX, GY = (1 - blend) * the warped derivatives of the second picture + blend * those of the first. Where a
    point leaves the picture: no data term; or (ZERO_OUTSIDE) what a picture that is zero out there gives.
    """
    x, y = tile_of(width, ROWS, COLUMNS)
    inside = (x < width) & (y < height)
    slot = tl.program_id(1)
    pair = lo + slot
    to = slot_of(planes, slot, height, pitch) + place_of(x, y, pitch)
    u = tl.load(to + side * (SIDE * NEXT), mask=inside, other=0.0)
    v = tl.load(to + side * (SIDE * NEXT) + NEXT, mask=inside, other=0.0)
    px, py = x + u, y + v
    # So far outside that no tap reaches the picture: the zeros out there need not be looked up.
    reach = 16 if ZERO_OUTSIDE else 0
    seen = (px >= -reach) & (px <= width - 1 + reach) & (py >= -reach) & (py <= height - 1 + reach)
    counts = seen.to(tl.float32)
    px = clamp(px, -3.0, width + 1.75)
    py = clamp(py, -3.0, height + 1.75)
    left, top = tl.floor(px), tl.floor(py)
    fx, fy = px - left, py - top
    column, row = left.to(tl.int32), top.to(tl.int32)
    of = (width + 2) * (height + 2)
    frame = textures + tl.load(second + pair).to(tl.int64) * 3 * of + (width + 2) + 1
    value = tl.zeros((ROWS, COLUMNS), tl.float32)
    gx = tl.zeros((ROWS, COLUMNS), tl.float32)
    gy = tl.zeros((ROWS, COLUMNS), tl.float32)
    for j in tl.static_range(-1, 3):
        for i in tl.static_range(-1, 3):
            weight = _cubic(fx, i) * _cubic(fy, j)
            tx, ty = column + i, row + j
            if ZERO_OUTSIDE:
                taken = inside & (tx >= 0) & (tx < width) & (ty >= 0) & (ty < height)
            else:
                taken = inside
                tx, ty = clamp(tx, -1, width), clamp(ty, -1, height)
            at = frame + ty * (width + 2) + tx
            value += weight * tl.load(at, mask=taken, other=0.0)
            gx += weight * tl.load(at + of, mask=taken, other=0.0)
            gy += weight * tl.load(at + 2 * of, mask=taken, other=0.0)
    at = textures + tl.load(first + pair).to(tl.int64) * 3 * of + (y + 1) * (width + 2) + x + 1
    gx = counts * (gx + blend * (tl.load(at + of, mask=inside, other=0.0) - gx))
    gy = counts * (gy + blend * (tl.load(at + 2 * of, mask=inside, other=0.0) - gy))
    difference = counts * (value - tl.load(at, mask=inside, other=0.0))
    steep = gx * gx + gy * gy >= FLAT
    gx, gy = tl.where(steep, gx, 0.0), tl.where(steep, gy, 0.0)
    tl.store(to + C * NEXT, difference - gx * u - gy * v, mask=inside)
    tl.store(to + GX * NEXT, gx, mask=inside)
    tl.store(to + GY * NEXT, gy, mask=inside)
    if MEASURED:
        tile = tl.program_id(0)
        tl.store(sums + (side * slots + slot) * tl.num_programs(0) + tile, float("inf"))
        if tile == 0:
            tl.store(finished + slot, 0)


# The iteration


@triton.jit
def _primal(at, here, p11_left, p12_above, p21_left, p22_above, step, theta, FROM: tl.constexpr):
    """U and V at the points `at`: the data term's threshold step, then theta times the divergence.

    Returns both, the duals there, and the squared change.
    """
    u = tl.load(at + FROM * SIDE * NEXT, mask=here, other=0.0)
    v = tl.load(at + (FROM * SIDE + 1) * NEXT, mask=here, other=0.0)
    p11 = tl.load(at + (FROM * SIDE + DUALS) * NEXT, mask=here, other=0.0)
    p12 = tl.load(at + (FROM * SIDE + DUALS + 1) * NEXT, mask=here, other=0.0)
    p21 = tl.load(at + (FROM * SIDE + DUALS + 2) * NEXT, mask=here, other=0.0)
    p22 = tl.load(at + (FROM * SIDE + DUALS + 3) * NEXT, mask=here, other=0.0)
    gx = tl.load(at + GX * NEXT, mask=here, other=0.0)
    gy = tl.load(at + GY * NEXT, mask=here, other=0.0)
    rho = tl.load(at + C * NEXT, mask=here, other=0.0) + gx * u + gy * v
    t = tl.clamp(rho / (gx * gx + gy * gy + TINY), -step, step)
    du = theta * (p11 - p11_left + p12 - p12_above) - t * gx
    dv = theta * (p21 - p21_left + p22 - p22_above) - t * gy
    return u + du, v + dv, p11, p12, p21, p22, du * du + dv * dv


@triton.jit
def _dual(to, here, u, v, u_right, v_right, u_below, v_below, p11, p12, p21, p22, tau, stretch):
    """Writes the duals from P11 at `to` on: a semi-implicit step along the forward gradient of U and V."""
    ux, uy, vx, vy = u_right - u, u_below - u, v_right - v, v_below - v
    nu = 1 / (1 + stretch * tl.sqrt(ux * ux + uy * uy + TINY))
    nv = 1 / (1 + stretch * tl.sqrt(vx * vx + vy * vy + TINY))
    tl.store(to, nu * (p11 + tau * ux), mask=here)
    tl.store(to + NEXT, nu * (p12 + tau * uy), mask=here)
    tl.store(to + 2 * NEXT, nv * (p21 + tau * vx), mask=here)
    tl.store(to + 3 * NEXT, nv * (p22 + tau * vy), mask=here)


@triton.jit
def _advance(
    slot, x, y, width, height, pitch, step, theta, tau,
    FROM: tl.constexpr, WEIGHTED: tl.constexpr, MARCH: tl.constexpr,
):  # fmt: skip
    """One iteration of the MARCH rows from each of `y` on. Returns the squared change of each column in them.

    The duals of a row need U and V of that row, of the pixels right of it and of the row below, which is the
    next one: what is computed there is kept for it.
    """
    at, right, left = (
        slot + place_of(x, y, pitch),
        slot + place_of(x + 1, y, pitch),
        slot + place_of(x - 1, y, pitch),
    )
    P11: tl.constexpr = (FROM * SIDE + DUALS) * NEXT
    P12: tl.constexpr = P11 + NEXT
    P21: tl.constexpr = P11 + 2 * NEXT
    P22: tl.constexpr = P11 + 3 * NEXT
    TO: tl.constexpr = (1 - FROM) * SIDE * NEXT
    in_row, has_left, has_right = x < width, (x < width) & (x > 0), x + 1 < width
    inside, above = y < height, (y < height) & (y > 0)
    p12_right = tl.load(right - pitch + P12, mask=has_right & above, other=0.0)
    p22_right = tl.load(right - pitch + P22, mask=has_right & above, other=0.0)
    u, v, p11, p12, p21, p22, change = _primal(
        at, in_row & inside,
        tl.load(left + P11, mask=has_left & inside, other=0.0),
        tl.load(at - pitch + P12, mask=in_row & above, other=0.0),
        tl.load(left + P21, mask=has_left & inside, other=0.0),
        tl.load(at - pitch + P22, mask=in_row & above, other=0.0), step, theta, FROM,
    )  # fmt: skip
    changes = tl.zeros_like(change)
    for _ in range(MARCH):
        here, beside = in_row & (y < height), has_right & (y < height)
        y += 1
        left += pitch
        u_right, v_right, _p11, p12_right, _p21, p22_right, _change = _primal(
            right, beside, p11, p12_right, p21, p22_right, step, theta, FROM
        )
        below = in_row & (y < height)
        u_below, v_below, p11_below, p12_below, p21_below, p22_below, change_below = _primal(
            at + pitch, below,
            tl.load(left + P11, mask=has_left & (y < height), other=0.0), p12,
            tl.load(left + P21, mask=has_left & (y < height), other=0.0), p22, step, theta, FROM,
        )  # fmt: skip
        stretch = tau
        if WEIGHTED:
            stretch = tau * tl.load(at + IW * NEXT, mask=here, other=1.0)
        # No slope across the picture's border.
        _dual(
            at + TO + DUALS * NEXT, here, u, v, tl.where(beside, u_right, u), tl.where(beside, v_right, v),
            tl.where(below, u_below, u), tl.where(below, v_below, v), p11, p12, p21, p22, tau, stretch,
        )  # fmt: skip
        tl.store(at + TO, u, mask=here)
        tl.store(at + TO + NEXT, v, mask=here)
        changes += tl.where(here, change, 0.0)
        at += pitch
        right += pitch
        u, v, change = u_below, v_below, change_below
        p11, p12, p21, p22 = p11_below, p12_below, p21_below, p22_below
    return changes


@triton.jit
def _copy(slot, x, y, width, height, pitch, FROM: tl.constexpr, MARCH: tl.constexpr):
    """One side of the MARCH rows from each of `y` on, to the other."""
    at = slot + place_of(x, y, pitch)
    for row in range(MARCH):
        inside = (x < width) & (y + row < height)
        for k in range(SIDE):
            point = at + row * pitch + k * NEXT
            value = tl.load(point + FROM * SIDE * NEXT, mask=inside)
            tl.store(point + (1 - FROM) * SIDE * NEXT, value, mask=inside)


@kernel
def iterate(
    planes, present, steps, sums, finished, iterations,
    width: tl.int32, height: tl.int32, pitch: tl.int32, slots: tl.int32,
    theta: tl.float32, tau: tl.float32, limit: tl.float32,
    FROM: tl.constexpr, WEIGHTED: tl.constexpr, MEASURED: tl.constexpr,
    MARCH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """One iteration of every pair at work, from side FROM to the other.

    present: int32 (1,), slots with a pair. steps: float32 (slots,), lambda theta. tau: the dual step over
    theta. MEASURED: a pair whose last sum is at most `limit` is finished; `iterations` counts those of each.
    """
    slot = tl.program_id(1)
    if slot < tl.load(present):
        x, y = tile_of(width, ROWS // MARCH, COLUMNS)
        y *= MARCH
        pair = slot_of(planes, slot, height, pitch)
        step = tl.load(steps + slot)
        if MEASURED:
            tile, tiles = tl.program_id(0), tl.num_programs(0)
            sums_to = sums + ((1 - FROM) * slots + slot) * tiles + tile
            total = total_of(sums, FROM, slots, slot, tiles)
            if total > limit:
                changes = _advance(pair, x, y, width, height, pitch, step, theta, tau, FROM, WEIGHTED, MARCH)
                tl.store(sums_to, tl.sum(changes))
                if tile == 0:
                    tl.store(iterations + slot, tl.load(iterations + slot) + 1)
            else:
                tl.store(sums_to, -1.0)
                if total >= 0:
                    _copy(pair, x, y, width, height, pitch, FROM, MARCH)
                    if tile == 0:
                        tl.store(finished + slot, 1)
        else:
            _advance(pair, x, y, width, height, pitch, step, theta, tau, FROM, WEIGHTED, MARCH)


@kernel
def finish(
    planes, out, lo: tl.int32, width: tl.int32, height: tl.int32, pitch: tl.int32, side: tl.int32,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """U and V of slot s into `out`, float32 (pairs, 2, height, width), of pair lo + s."""
    x, y = tile_of(width, ROWS, COLUMNS)
    inside = (x < width) & (y < height)
    slot = tl.program_id(1)
    at = slot_of(planes, slot, height, pitch) + place_of(x, y, pitch) + side * (SIDE * NEXT)
    to = out + (lo + slot).to(tl.int64) * 2 * width * height + y * width + x
    tl.store(to, tl.load(at, mask=inside), mask=inside)
    tl.store(to + width * height, tl.load(at + NEXT, mask=inside), mask=inside)
