"""Where TV-L1's kernels keep their numbers, of one pyramid level. H rows, W columns, two layouts:

`planes`: the unknowns of a level, flat. Row r is ten or eleven rows of `pitch` floats, one a plane, so that
all one row needs lies together (planes of their own would fall on the same cache sets):

    16 zeros | W values | at least 16 of padding        U V P11 P12 P21 P22 C GX GY IG [IW]

U, V: the flow. P11, P12 and P21, P22: the dual variables of U and V. C, GX, GY: the linearised data term,
rho = C + GX U + GY V. IG: one over the squared gradient. IW: one over the weight of the total variation. The
padding of a row is inert: the gradient is zero there, U and V repeat their last value, P stays zero.

`texels`: a picture for interpolation, flat. Texel (y, x) is four floats: value, d/dx, d/dy, 0; MARGIN texels
on every side. One row of a bicubic patch is then four texels: one vector.
"""

from __future__ import annotations

import numpy as np

from vpipe.flow.simd import LANES

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
    """Floats of scratch that `linearise` needs: texels, weights in x and y (four each), left, top, inside."""
    return 15 * (width + LANES)
