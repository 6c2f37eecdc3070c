"""The iterations of TV-L1 on one level, for CUDA, in Triton: several of them in one sweep over the picture.

A program is one warp. It goes down a strip of the picture, COLUMNS wide, a row at a time, and every row passes
through all STAGES, each of which is one iteration one row behind the stage before it:

    row y      loaded ──► stage 0: U, V of row y, then the duals of row y - 1, which need U and V of both
    row y - 1               └──► stage 1: U, V of row y - 1, then the duals of row y - 2
    row y - 2                      └──► stage 2 ...
    row y - STAGES                                                    ──► stored

So all that lies between the iterations stays in registers: the planes are read and written once for STAGES
iterations, and no program waits for another. What a stage needs of the pixels beside it comes from the other
threads of the warp. An edge that is not the picture's own spoils one pixel an iteration: strips overlap by STAGES
columns and rows on each side, and what is spoilt is not stored.

Where an iteration's change decides (`epsilon` above 0), a sweep notes the change of each of its stages, and `judge`
looks whether one of them was the last that there should have been. What the sweep started from is still there, on
the other side: the next one does that many iterations of it again, and no more.
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
    FLOW,
    GX,
    GY,
    ITERATIONS,
    IW,
    LAST,
    NEXT,
    SIDE,
    STATE,
    TINY,
    C,
    kernel,
    place_of,
    slot_of,
)

# Iterations of one sweep, at most: the fastest of 2 to 10 on an H200, as were 32 columns of 32, 64 and 128. More
# are more halo, and more registers than let enough warps be at work.
MOST_STAGES = 4
# Columns of a strip, halo included: one for each thread of the warp.
STRIP_COLUMNS = 32
SUMS = tl.constexpr(8)  # room for the change of each stage
_TILES = tl.constexpr(128)  # whose changes are added at a time


@triton.jit
def _stage(row, above, x, y, width, height, go_left, go_right, step, theta, tau):
    """One iteration of row y: the threshold step of U and V, then the semi-implicit step of the duals above it.

    row: U V P11 P12 P21 P22 of row y, as the iteration before left them, and its `_data`. above: U and V of
    row y - 1 after this iteration, the rest as before it. Returns row y - 1 after this iteration, `above` of
    the next row, and the squared change of U and V in row y.
    """
    u, v, p11, p12, p21, p22, c, gx, gy, steep, stretch = row
    up_u, up_v, up_p11, up_p12, up_p21, up_p22, up_c, up_gx, up_gy, up_steep, up_stretch = above
    div_u = p11 - tl.where(x > 0, tl.gather(p11, go_left, 0), 0.0) + p12 - up_p12
    div_v = p21 - tl.where(x > 0, tl.gather(p21, go_left, 0), 0.0) + p22 - up_p22
    t = tl.clamp((c + gx * u + gy * v) * steep, -step, step)
    du, dv = theta * div_u - t * gx, theta * div_v - t * gy
    u, v = u + du, v + dv
    # No slope across the picture's border, so that the duals out there stay zero.
    ux = tl.where(x + 1 < width, tl.gather(up_u, go_right, 0) - up_u, 0.0)
    vx = tl.where(x + 1 < width, tl.gather(up_v, go_right, 0) - up_v, 0.0)
    within = (y > 0) & (y < height)
    uy, vy = tl.where(within, u - up_u, 0.0), tl.where(within, v - up_v, 0.0)
    nu = 1 + up_stretch * tl.sqrt(ux * ux + uy * uy + TINY)
    nv = 1 + up_stretch * tl.sqrt(vx * vx + vy * vy + TINY)
    both = 1 / (nu * nv)  # one division for two
    nu, nv = nv * both, nu * both
    up_p11, up_p12 = nu * (up_p11 + tau * ux), nu * (up_p12 + tau * uy)
    up_p21, up_p22 = nv * (up_p21 + tau * vx), nv * (up_p22 + tau * vy)
    done = up_u, up_v, up_p11, up_p12, up_p21, up_p22, up_c, up_gx, up_gy, up_steep, up_stretch
    return done, (u, v, p11, p12, p21, p22, c, gx, gy, steep, stretch), du * du + dv * dv


@triton.jit
def _loaded(at, flow_at, dual_at, here, WEIGHTED: tl.constexpr):
    """U V P11 P12 P21 P22 C GX GY IW of the points `at`; flow_at, dual_at: how far off the first six are."""
    u, v = tl.load(at + flow_at, mask=here, other=0.0), tl.load(at + flow_at + NEXT, mask=here, other=0.0)
    p11 = tl.load(at + dual_at, mask=here, other=0.0)
    p12 = tl.load(at + dual_at + NEXT, mask=here, other=0.0)
    p21 = tl.load(at + dual_at + 2 * NEXT, mask=here, other=0.0)
    p22 = tl.load(at + dual_at + 3 * NEXT, mask=here, other=0.0)
    c = tl.load(at + C * NEXT, mask=here, other=0.0)
    gx, gy = tl.load(at + GX * NEXT, mask=here, other=0.0), tl.load(at + GY * NEXT, mask=here, other=0.0)
    iw = 1.0
    if WEIGHTED:
        iw = tl.load(at + IW * NEXT, mask=here, other=1.0)
    return u, v, p11, p12, p21, p22, c, gx, gy, iw


@triton.jit
def _row(loaded, tau):
    """The planes of a row, and what all its iterations need: one over the squared gradient, and tau IW."""
    u, v, p11, p12, p21, p22, c, gx, gy, iw = loaded
    return u, v, p11, p12, p21, p22, c, gx, gy, 1 / (gx * gx + gy * gy + TINY), tau * iw


@kernel
def sweep(
    planes, present, state, steps, sums,
    width: tl.int32, height: tl.int32, pitch: tl.int32, rows: tl.int32, flow: tl.int32, dual: tl.int32,
    theta: tl.float32, tau: tl.float32,
    WEIGHTED: tl.constexpr, MEASURED: tl.constexpr, STAGES: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """STAGES iterations of every pair at work, from one side of its flow and duals to the other.

    present: int32 (1,), slots with a pair. steps: float32 (slots,), lambda theta. rows: of a strip. flow, dual:
    the sides that flow and duals are on. tau: the dual step over theta. MEASURED: those sides and the number
    of iterations, at most STAGES, are those of `state`, int32 (slots, STATE); and sums, float32 (slots, strips,
    SUMS), becomes the squared change of U and V in each.
    """
    slot = tl.program_id(1)
    count = STAGES
    if MEASURED:
        count = tl.load(state + slot * STATE + COUNT)
        flow = tl.load(state + slot * STATE + FLOW)
        dual = tl.load(state + slot * STATE + DUAL)
    if (slot < tl.load(present)) & (count > 0):
        tile = tl.program_id(0)
        across = tl.maximum(1, tl.cdiv(width - 2 * STAGES, COLUMNS - 2 * STAGES))
        column, top = tile % across, tile // across * rows
        lane = tl.arange(0, COLUMNS)
        go_left, go_right = tl.maximum(lane - 1, 0), tl.minimum(lane + 1, COLUMNS - 1)
        x = column * (COLUMNS - 2 * STAGES) + lane
        in_row = x < width
        bottom, first = tl.minimum(top + rows, height), tl.maximum(top - STAGES, 0)
        mine = in_row & ((column == 0) | (lane >= STAGES))
        mine = mine & ((column == across - 1) | (lane < COLUMNS - STAGES))
        step = tl.load(steps + slot)
        at = slot_of(planes, slot, height, pitch) + place_of(x, first, pitch)
        flow_at, dual_at = flow * SIDE * NEXT, (dual * SIDE + DUALS) * NEXT
        flow_to, dual_to = (1 - flow) * SIDE * NEXT, ((1 - dual) * SIDE + DUALS) * NEXT
        none = tl.zeros((COLUMNS,), tl.float32)
        weight = none
        if not WEIGHTED:
            weight = tau
        aboves = ((none, none, none, none, none, none, none, none, none, none, weight),) * STAGES
        changes = (none,) * STAGES
        loaded = _loaded(at, flow_at, dual_at, in_row, WEIGHTED)
        for y in range(first, bottom + STAGES):
            row = _row(loaded, tau)
            # The next row is on its way meanwhile.
            loaded = _loaded(at + pitch, flow_at, dual_at, in_row & (y + 1 < height), WEIGHTED)
            new_aboves = ()
            new_changes = ()
            for stage in tl.static_range(STAGES):
                at_y = y - stage
                if MEASURED:
                    if stage < count:
                        row, above, change = _stage(
                            row, aboves[stage], x, at_y, width, height, go_left, go_right, step, theta, tau
                        )
                    else:
                        above, row, change = row, aboves[stage], none
                    counts = mine & (at_y >= top) & (at_y < bottom)
                    new_changes = new_changes + (changes[stage] + tl.where(counts, change, 0.0),)  # noqa: RUF005
                else:
                    row, above, _ = _stage(
                        row, aboves[stage], x, at_y, width, height, go_left, go_right, step, theta, tau
                    )
                new_aboves = new_aboves + (above,)  # noqa: RUF005
            aboves = new_aboves
            if MEASURED:
                changes = new_changes
            stored = mine & (y - STAGES >= top) & (y - STAGES < bottom)
            to = at - STAGES * pitch
            tl.store(to + flow_to, row[0], mask=stored)
            tl.store(to + flow_to + NEXT, row[1], mask=stored)
            tl.store(to + dual_to, row[2], mask=stored)
            tl.store(to + dual_to + NEXT, row[3], mask=stored)
            tl.store(to + dual_to + 2 * NEXT, row[4], mask=stored)
            tl.store(to + dual_to + 3 * NEXT, row[5], mask=stored)
            at += pitch
        if MEASURED:
            to_sums = sums + (slot * tl.num_programs(0) + tile) * SUMS
            for stage in tl.static_range(STAGES):
                tl.store(to_sums + stage, tl.sum(changes[stage]))


@kernel
def begin_block(
    present, state, stages: tl.int32, moved: tl.int32, everyone: tl.int32
):  # fmt: skip
    """Says in `state` that the pairs not finished (or `everyone`) had a median (`moved`), and how far to sweep."""
    slot = tl.program_id(0)
    at = state + slot * STATE
    if slot < tl.load(present):
        if (tl.load(at + FINISHED) == 0) | (everyone != 0):
            tl.store(at + FLOW, tl.load(at + FLOW) ^ moved)
            tl.store(at + COUNT, stages)
            tl.store(at + LAST, 0)


@kernel
def judge(
    present, state, sums, tiles: tl.int32, stages: tl.int32, limit: tl.float32
):  # fmt: skip
    """After a sweep: which of its iterations was the first to change so little that it is the last, if any.

    limit: of the squared change of a whole picture. stages: how far the next sweep of pairs goes on that are not
    finished; 0 at the end of a block.
    """
    slot = tl.program_id(0)
    at = state + slot * STATE
    count = tl.load(at + COUNT)
    if (slot < tl.load(present)) & (count > 0):
        stage = tl.arange(0, SUMS)
        total = tl.zeros((SUMS,), tl.float32)
        for start in range(0, tiles, _TILES):
            tile = start + tl.arange(0, _TILES)[:, None]
            of = sums + (slot * tiles + tile) * SUMS + stage[None, :]
            total += tl.sum(tl.load(of, mask=(tile < tiles) & (stage[None, :] < count), other=0.0), axis=0)
        last = tl.min(tl.where((stage < count) & (total <= limit), stage + 1, SUMS + 1))
        last = tl.where(tl.load(at + LAST) != 0, count, last)
        if last < count:
            tl.store(at + COUNT, last)
            tl.store(at + LAST, 1)
        else:
            tl.store(at + FLOW, 1 - tl.load(at + FLOW))
            tl.store(at + DUAL, 1 - tl.load(at + DUAL))
            tl.store(at + ITERATIONS, tl.load(at + ITERATIONS) + count)
            tl.store(at + FINISHED, tl.where(last == count, 1, 0))
            tl.store(at + COUNT, tl.where(last == count, 0, stages))
