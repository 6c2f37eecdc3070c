"""The steps of TV-L1 on one level but for its iterations, for CUDA, in Triton; see `vpipe.flow.gpu_level`.

All: present: int32 (1,), slots with a pair; the others are left alone.
"""

# Triton types the kernels, from the arguments they are called with.
# mypy: allow-untyped-defs, no-check-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from vpipe.flow.gpu_planes import (
    COUNT,
    DUAL,
    DUALS,
    FINISHED,
    FLAT,
    FLOW,
    GX,
    GY,
    ITERATIONS,
    IW,
    NEXT,
    SIDE,
    STATE,
    TINY,
    C,
    between,
    clamp,
    kernel,
    place_of,
    side_of,
    slot_of,
    tile_of,
)


@kernel
def begin(
    planes, present, state, coarser, textures, first, width: tl.int32, height: tl.int32, pitch: tl.int32,
    from_width: tl.int32, from_height: tl.int32, scale_x: tl.float32, scale_y: tl.float32,
    grow: tl.float32, edge: tl.float32,
    COARSEST: tl.constexpr, WEIGHTED: tl.constexpr, MEASURED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Fills side 0 of every slot: U and V from the coarser flow, the duals zero; and IW.

    coarser: float32 (pairs, 2, from_height, from_width). first: int32 (pairs,), frames. `grow` multiplies
    the interpolated flow. IW = 1 + edge |grad I| / 255, at most 10, of the first picture.
    """
    slot = tl.program_id(1)
    if slot < tl.load(present):
        x, y = tile_of(width, ROWS, COLUMNS)
        inside = (x < width) & (y < height)
        pair = slot.to(tl.int64)
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
        if MEASURED:
            if tl.program_id(0) == 0:
                tl.store(state + slot * STATE + FLOW, 0)
                tl.store(state + slot * STATE + DUAL, 0)
                tl.store(state + slot * STATE + ITERATIONS, 0)


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
    planes, present, state, textures, first, second,
    width: tl.int32, height: tl.int32, pitch: tl.int32, flow: tl.int32, blend: tl.float32,
    ZERO_OUTSIDE: tl.constexpr, MEASURED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Warps the second picture of each pair by U and V: C, GX, GY; and no pair is finished any more.

    GX, GY = (1 - blend) * the warped derivatives of the second picture + blend * those of the first. Where a
    point leaves the picture: no data term; or (ZERO_OUTSIDE) what a picture that is zero out there gives.
    """
    slot = tl.program_id(1)
    if slot < tl.load(present):
        x, y = tile_of(width, ROWS, COLUMNS)
        inside = (x < width) & (y < height)
        to = slot_of(planes, slot, height, pitch) + place_of(x, y, pitch)
        side = side_of(state, slot, FLOW, flow, MEASURED)
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
        frame = textures + tl.load(second + slot).to(tl.int64) * 3 * of + (width + 2) + 1
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
        at = textures + tl.load(first + slot).to(tl.int64) * 3 * of + (y + 1) * (width + 2) + x + 1
        gx = counts * (gx + blend * (tl.load(at + of, mask=inside, other=0.0) - gx))
        gy = counts * (gy + blend * (tl.load(at + 2 * of, mask=inside, other=0.0) - gy))
        difference = counts * (value - tl.load(at, mask=inside, other=0.0))
        steep = gx * gx + gy * gy >= FLAT
        gx, gy = tl.where(steep, gx, 0.0), tl.where(steep, gy, 0.0)
        tl.store(to + C * NEXT, difference - gx * u - gy * v, mask=inside)
        tl.store(to + GX * NEXT, gx, mask=inside)
        tl.store(to + GY * NEXT, gy, mask=inside)
        if MEASURED:
            if tl.program_id(0) == 0:
                tl.store(state + slot * STATE + FINISHED, 0)
                tl.store(state + slot * STATE + COUNT, 0)


@kernel
def finish(
    planes, present, state, out, width: tl.int32, height: tl.int32, pitch: tl.int32, flow: tl.int32,
    MEASURED: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """U and V of every slot into `out`, float32 (slots, 2, height, width)."""
    slot = tl.program_id(1)
    if slot < tl.load(present):
        x, y = tile_of(width, ROWS, COLUMNS)
        inside = (x < width) & (y < height)
        side = side_of(state, slot, FLOW, flow, MEASURED)
        at = slot_of(planes, slot, height, pitch) + place_of(x, y, pitch) + side * (SIDE * NEXT)
        to = out + slot.to(tl.int64) * 2 * width * height + y * width + x
        tl.store(to, tl.load(at, mask=inside), mask=inside)
        tl.store(to + width * height, tl.load(at + NEXT, mask=inside), mask=inside)
