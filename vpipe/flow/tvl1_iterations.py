"""The iterations of TV-L1 over the planes of a level: a threshold step of the flow, a step of its duals."""

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
    exact,
    load,
    maximum,
    minimum,
    mul,
    splat,
    sqrt,
    store,
    sub,
    total,
)
from vpipe.flow.tvl1_planes import GX, GY, IG, IW, P11, P12, P21, P22, PLAIN, TINY, WEIGHTED, C, V


@kernel(forceinline=True)
def _primal(a, i, s, p12_above, p22_above, step, minus_step, theta):
    """One vector of U and V: the data term's threshold step, then theta times the divergence of the duals."""
    u = load(a, i)
    v = load(a, i + V * s)
    div_u = add(sub(load(a, i + P11 * s), load(a, i + P11 * s - 1)), sub(load(a, i + P12 * s), p12_above))
    div_v = add(sub(load(a, i + P21 * s), load(a, i + P21 * s - 1)), sub(load(a, i + P22 * s), p22_above))
    gx = load(a, i + GX * s)
    gy = load(a, i + GY * s)
    rho = add(add(load(a, i + C * s), mul(gx, u)), mul(gy, v))
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
    uu = add(add(tiny, mul(ux, ux)), mul(uy, uy))
    vv = add(add(tiny, mul(vx, vx)), mul(vy, vy))
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
        and V of row r are known. Vector n of `errors` becomes the sums of squared changes of U and V.
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
            store(errors, LANES * n, zero)
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
                    store(errors, LANES * n, add(load(errors, LANES * n), change))

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
        store(errors, 0, zero)
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
            store(errors, 0, add(load(errors, 0), change))

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
        most = _most((WEIGHTED if weighted else PLAIN) * s)
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
            change = np.float64(total(load(errors, 0)))
            for n in range(1, together):
                change = min(change, np.float64(total(load(errors, LANES * n))))
            if change > limit:
                shrink = 0.5
                if change < before < np.inf:
                    shrink = min((change / before) ** (1 / together), 0.9)
                together = max(1, min(int(0.8 * math.log(limit / change) / math.log(shrink)), most))
        return change

    return until


@kernel()
def _pad(a, width, height, s, row):
    """Repeats the last values of U and V into the padding, as a sweep keeps them."""
    exact()
    for r in range(height):
        _repeat_last(a, LANES + r * row, s, width)


_fixed_plain, _fixed_weighted = _sweep(False, False), _sweep(True, False)
_until_plain, _until_weighted = _until(False), _until(True)
# The most iterations one sweep carries, and the floats that their rows may take: half the cache of a core.
MOST_PER_SWEEP = 30
_IN_FLIGHT = 1 << 18


@kernel(forceinline=True)
def _most(row):
    """Iterations one sweep may carry, of rows of so many floats."""
    return max(4, min(MOST_PER_SWEEP, _IN_FLIGHT // row))


@kernel()
def iterate(a, width, height, s, weighted, step, theta, tau, count, limit, errors):
    """Up to `count` iterations; fewer once the sum of squared changes of one is at most `limit` (0: all).

    step: lambda theta. tau: the dual step over theta. errors: MOST_PER_SWEEP vectors of scratch. Returns
    the last sum, infinity if not measured.
    """
    _pad(a, width, height, s, (WEIGHTED if weighted else PLAIN) * s)
    if limit > 0:
        if weighted:
            return _until_weighted(a, width, height, s, step, theta, tau, count, limit, errors)
        return _until_plain(a, width, height, s, step, theta, tau, count, limit, errors)
    most = _most((WEIGHTED if weighted else PLAIN) * s)
    for done in range(0, count, most):
        together = min(most, count - done)
        if weighted:
            _fixed_weighted(a, width, height, s, step, theta, tau, together, errors)
        else:
            _fixed_plain(a, width, height, s, step, theta, tau, together, errors)
    return np.inf
