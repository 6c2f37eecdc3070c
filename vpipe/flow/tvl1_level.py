"""One level of TV-L1 in one call: warps, iterations and medians, with Python's lock asked for once."""

from __future__ import annotations

import numpy as np

from vpipe.flow.jit import kernel
from vpipe.flow.median_kernel import median3, median5
from vpipe.flow.simd import LANES
from vpipe.flow.tvl1_iterations import iterate
from vpipe.flow.tvl1_pictures import edge_weights, linearise
from vpipe.flow.tvl1_planes import P11, PLAIN, WEIGHTED, U, V


@kernel()
def solve_level(
    first, second, stride, width, height, five_point, blend, zero_outside, edge, warps, outer, inner, step,
    theta, tau, limit, median, median_after, a, s, points, medians, errors,
):  # fmt: skip
    """Improves U and V in `a`; the duals start at zero. The names are those of FlowParams; step: lambda
    theta; tau: over theta; limit: of the sum of squared changes, 0: none. The last ones are memory, laid out
    as `tvl1_planes` says.
    """
    weighted = edge > 0
    row_planes = WEIGHTED if weighted else PLAIN
    row = row_planes * s
    for r in range(height):
        a[r * row + P11 * s : r * row + (P11 + 4) * s] = 0
    if weighted:
        edge_weights(first, stride, width, height, five_point, edge, a, s)
    for _ in range(warps):
        linearise(
            first, second, stride, width, height, five_point, blend, zero_outside, a, s, row_planes, points
        )
        change = np.inf
        for _ in range(outer):
            if change <= limit:
                break
            if not median_after:
                _median(a, s, row, width, height, median, medians)
            change = iterate(a, width, height, s, weighted, step, theta, tau, inner, limit, errors)
        if median_after:
            _median(a, s, row, width, height, median, medians)


@kernel()
def _median(a, s, row, width, height, size, scratch):
    for plane in (U, V):
        if size == 5:
            median5(a, LANES + plane * s, row, width, height, scratch)
        elif size == 3:
            median3(a, LANES + plane * s, row, width, height, scratch)
