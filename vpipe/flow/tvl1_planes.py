"""Where TV-L1's kernels keep their numbers, of one pyramid level. H rows, W columns, two layouts:

`planes`: the unknowns of a level, flat. Row r is ten or eleven rows of `pitch` floats, one a plane, so that
all one row needs lies together (planes of their own would fall on the same cache sets):

    16 zeros | W values | at least 16 of padding        U V P11 P12 P21 P22 C GX GY IG [IW]

U, V: the flow. P11, P12 and P21, P22: the dual variables of U and V. C, GX, GY: the linearised data term,
rho = C + GX U + GY V. IG: one over the squared gradient. IW: one over the weight of the total variation. The
padding of a row is inert: the gradient is zero there, U and V repeat their last value, P stays zero.

`picture`: gray values for interpolation, flat, repeated beyond the borders: MARGIN rows above and below,
SIDE columns left and at least as many right.
"""

from __future__ import annotations

import numpy as np

from vpipe.flow.simd import LANES

U, V, P11, P12, P21, P22, C, GX, GY, IG, IW = range(11)
# How many of them a row holds, without and with edge weights.
PLAIN, WEIGHTED = IG + 1, IW + 1
# A point of interpolation lies at most OUTSIDE px from a picture; its taps and their derivatives reach as far
# as MARGIN, and a vector of them may begin or end a vector further to the side.
OUTSIDE = 3
MARGIN = OUTSIDE + 3
SIDE = 2 * LANES
# What is added under a square root or a division so that zero stays zero.
TINY = np.float32(1e-20)
# A smaller squared gradient is rounding, not picture (OpenCV's FLT_EPSILON); it moves nothing.
FLAT = np.float32(1.2e-7)


def pitch_of(width: int) -> int:
    """Floats from one plane's row to the next plane's; an odd number of cache lines, to spread over sets."""
    lines = 2 + -(-width // LANES)
    return LANES * (lines + 1 - lines % 2)


def picture_stride(width: int) -> int:
    """Floats from one row of a picture to the next, an odd number of cache lines likewise."""
    lines = 2 * (SIDE // LANES) + -(-width // LANES)
    return LANES * (lines + 1 - lines % 2)


def picture_length(width: int, height: int) -> int:
    """Floats of a picture with its borders."""
    return (height + 2 * MARGIN) * picture_stride(width)


# Floats of scratch that `linearise` needs.
POINTS = 2 * LANES
