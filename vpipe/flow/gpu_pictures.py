"""Kernels of one picture: its pyramid and its derivatives, for CUDA, in Triton."""

# Triton types the kernels, from the arguments they are called with.
# mypy: allow-untyped-defs, no-check-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import triton
import triton.language as tl

from vpipe.flow.gpu_planes import between, clamp, kernel, tile_of


@triton.jit
def _smoothing(weights, part, k, taps):
    """Weight of tap `k` of `taps` + 1: a blur by `weights`, then interpolation at the fraction `part`."""
    here = tl.load(weights + k, mask=k < taps, other=0.0)
    before = tl.load(weights + k - 1, mask=k > 0, other=0.0)
    return (1 - part) * here + part * before


@kernel
def reduce(
    finer, shown, coarser, weights, taps: tl.int32, scale: tl.float32,
    from_width: tl.int32, from_height: tl.int32, width: tl.int32, height: tl.int32,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """The next level of the pyramid: blurred by `weights` (float32 (taps,), odd), sampled at `scale` px.

    finer: uint8 or float32 (frames, from_height, from_width); coarser: float32 (frames, height, width). shown: int32
    (1,), frames that there are; the others are left alone.
    """
    frame = tl.program_id(1).to(tl.int64)
    if frame < tl.load(shown):
        x, y = tile_of(width, ROWS, COLUMNS)
        finer += frame * from_width * from_height
        left, part_x = between(x, scale, from_width)
        top, part_y = between(y, scale, from_height)
        value = tl.zeros((ROWS, COLUMNS), tl.float32)
        for j in range(taps + 1):
            row = clamp(top + (j - taps // 2), 0, from_height - 1) * from_width
            line = tl.zeros((ROWS, COLUMNS), tl.float32)
            for i in range(taps + 1):
                column = clamp(left + (i - taps // 2), 0, from_width - 1)
                line += _smoothing(weights, part_x, i, taps) * tl.load(finer + row + column).to(tl.float32)
            value += _smoothing(weights, part_y, j, taps) * line
        inside = (x < width) & (y < height)
        tl.store(coarser + frame * width * height + y * width + x, value, mask=inside)


@triton.jit
def _pixel(picture, x, y, width, height):
    """The picture, its border repeated."""
    at = clamp(y, 0, height - 1) * width + clamp(x, 0, width - 1)
    return tl.load(picture + at).to(tl.float32)


@kernel
def texture(
    pictures, shown, textures, width: tl.int32, height: tl.int32,
    FIVE_POINT: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """`textures` of `pictures`, uint8 or float32 (frames, height, width): value, d/dx, d/dy.

    Derivatives: (-1, 0, 1)/2, or (1, -8, 0, 8, -1)/12. The tiles cover the margin too. shown: as in `reduce`.
    """
    frame = tl.program_id(1).to(tl.int64)
    if frame < tl.load(shown):
        column, row = tile_of(width + 2, ROWS, COLUMNS)
        x, y = column - 1, row - 1
        picture = pictures + frame * width * height
        gx = _pixel(picture, x + 1, y, width, height) - _pixel(picture, x - 1, y, width, height)
        gy = _pixel(picture, x, y + 1, width, height) - _pixel(picture, x, y - 1, width, height)
        if FIVE_POINT:
            far_x = _pixel(picture, x + 2, y, width, height) - _pixel(picture, x - 2, y, width, height)
            far_y = _pixel(picture, x, y + 2, width, height) - _pixel(picture, x, y - 2, width, height)
            gx = gx * (2 / 3) - far_x * (1 / 12)
            gy = gy * (2 / 3) - far_y * (1 / 12)
        else:
            gx *= 0.5
            gy *= 0.5
        plane = (width + 2) * (height + 2)
        to = textures + frame * 3 * plane + row * (width + 2) + column
        inside = (column < width + 2) & (row < height + 2)
        tl.store(to, _pixel(picture, x, y, width, height), mask=inside)
        tl.store(to + plane, gx, mask=inside)
        tl.store(to + 2 * plane, gy, mask=inside)
