"""The median of 5x5 pixels, exactly, by minima and maxima of vectors: no branch hangs on a value.

Neighbouring windows share most of their columns, so two outputs side by side are one tile. Tile t gives
columns 2t and 2t + 1; both windows hold columns 2t-1 to 2t+2, and one more each, 2t-2 or 2t+3:

    column     2t-2 | 2t-1    2t   2t+1   2t+2 | 2t+3
                 B  |   A      B     A      B  |   A        A[t]: column 2t-1, B[t]: column 2t
                t-1 |   t      t    t+1    t+1 |  t+2
                    |  pair[t]    pair[t+1]    |

Every column of five is sorted once; two columns merge into a pair, which serves two tiles; two pairs give the
six of twenty values among which both medians are; and the fifth column picks one. 59 minima and maxima an
output, after Batcher's odd-even merge (1968), less what no median depends on: where a helper's result is not
used, the compiler drops what made it. A vector holds 16 tiles, so rows are kept as their odd (A) and their
even columns (B).
"""

# Numba types the kernels, from the arguments they are called with.
# mypy: allow-untyped-defs, no-check-untyped-defs, allow-untyped-calls

from __future__ import annotations

from vpipe.flow.jit import kernel
from vpipe.flow.simd import (
    LANES,
    at,
    even,
    exact,
    load,
    maximum,
    minimum,
    odd,
    splat,
    store,
    zip_high,
    zip_low,
)

SIDE = 5
# Rows of scratch: A and B of five rows of the picture; A and B of the sorted columns; the pairs.
_SORTED = 2 * SIDE
_PAIRS = _SORTED + 2 * SIDE
_ROWS = _PAIRS + 2 * SIDE


def scratch_length(width: int) -> int:
    """Floats of scratch that `median5` needs; what is in them does not matter."""
    return _ROWS * int(_pitch(width))


@kernel(forceinline=True)
def _groups(width):
    """Vectors of tiles in a row, with the two tiles right of the last that its windows reach into."""
    return ((width + 1) // 2 + 1) // LANES + 1


@kernel(forceinline=True)
def _pitch(width):
    """Floats of one row of scratch: a vector before and one behind the tiles."""
    return LANES * (_groups(width) + 2)


@kernel(forceinline=True)
def _sort2(a, b):
    return minimum(a, b), maximum(a, b)


@kernel(forceinline=True)
def _sort5(a, b, c, d, e):
    a, d = _sort2(a, d)
    b, e = _sort2(b, e)
    a, c = _sort2(a, c)
    b, d = _sort2(b, d)
    a, b = _sort2(a, b)
    c, e = _sort2(c, e)
    b, c = _sort2(b, c)
    d, e = _sort2(d, e)
    c, d = _sort2(c, d)
    return a, b, c, d, e


@kernel(forceinline=True)
def _merge2(a1, a2, b1, b2):
    """Two sorted by two, sorted."""
    low, middle1 = _sort2(a1, b1)
    middle2, high = _sort2(a2, b2)
    middle1, middle2 = _sort2(middle1, middle2)
    return low, middle1, middle2, high


@kernel(forceinline=True)
def _merge3(a1, a2, a3, b1, b2, b3):
    """Three sorted by three: the odd ones merged, the even ones merged, then neighbours set right."""
    c1, c2, c3, c4 = _merge2(a1, a3, b1, b3)
    d1, d2 = _sort2(a2, b2)
    c2, d1 = _sort2(c2, d1)
    c3, d2 = _sort2(d2, c3)
    return c1, c2, d1, c3, d2, c4


@kernel(forceinline=True)
def _merge5(a1, a2, a3, a4, a5, b1, b2, b3, b4, b5):
    """Five sorted by five, in the same way."""
    c1, c2, c3, c4, c5, c6 = _merge3(a1, a3, a5, b1, b3, b5)
    d1, d2, d3, d4 = _merge2(a2, a4, b2, b4)
    r2, r3 = _sort2(c2, d1)
    r4, r5 = _sort2(c3, d2)
    r6, r7 = _sort2(c4, d3)
    r8, r9 = _sort2(c5, d4)
    return c1, r2, r3, r4, r5, r6, r7, r8, r9, c6


@kernel(forceinline=True)
def _kept(y, pitch):
    """Where in the scratch the row y of the picture is kept: its A, and its B one pitch on."""
    return LANES + y % SIDE * 2 * pitch


@kernel(forceinline=True)
def _sorted_column(a, i, k1, k2, k3, k4, k5):
    return _sort5(load(a, k1 + i), load(a, k2 + i), load(a, k3 + i), load(a, k4 + i), load(a, k5 + i))


@kernel(forceinline=True)
def _column(a, i, step):
    """Five vectors, `step` floats apart."""
    return (
        load(a, i),
        load(a, i + step),
        load(a, i + 2 * step),
        load(a, i + 3 * step),
        load(a, i + 4 * step),
    )


@kernel(forceinline=True)
def _store_column(a, i, step, values):
    store(a, i, values[0])
    store(a, i + step, values[1])
    store(a, i + 2 * step, values[2])
    store(a, i + 3 * step, values[3])
    store(a, i + 4 * step, values[4])


@kernel(forceinline=True)
def _middle6(a, i, pitch):
    """Of the twenty values of pair[t] and pair[t+1] at i, those of rank 8 to 13, sorted."""
    p1, p3, p5, p7, p9 = _column(a, i, 2 * pitch)
    p2, p4, p6, p8, p10 = _column(a, i + pitch, 2 * pitch)
    q1, q3, q5, q7, q9 = _column(a, i + 1, 2 * pitch)
    q2, q4, q6, q8, q10 = _column(a, i + 1 + pitch, 2 * pitch)
    _, _, _, _, c5, c6, c7, _, _, _ = _merge5(p1, p3, p5, p7, p9, q1, q3, q5, q7, q9)
    _, _, _, d4, d5, d6, _, _, _, _ = _merge5(p2, p4, p6, p8, p10, q2, q4, q6, q8, q10)
    r8, r9 = _sort2(c5, d4)
    r10, r11 = _sort2(c6, d5)
    r12, r13 = _sort2(c7, d6)
    return r8, r9, r10, r11, r12, r13


@kernel(forceinline=True)
def _sixth(six, five):
    """The sixth of the eleven values of two sorted lists: the least that some i of one and 6-i bound."""
    m1, m2, m3, m4, m5, m6 = six
    c1, c2, c3, c4, c5 = five
    a = minimum(maximum(m1, c5), maximum(m2, c4))
    b = minimum(maximum(m3, c3), maximum(m4, c2))
    return minimum(minimum(a, b), minimum(maximum(m5, c1), m6))


@kernel(forceinline=True)
def _keep_row(planes, i, width, scratch, to, pitch):
    """Copies the row at i to A and B at `to`, its first and last values repeated beyond its ends."""
    last = splat(at(planes, i + width - 1))
    store(planes, i + width, last)
    for j in range(_groups(width)):
        x = 2 * LANES * j - 1
        low = load(planes, i + x) if x < width else last
        high = load(planes, i + x + LANES) if x + LANES < width else last
        store(scratch, to + LANES * j, even(low, high))
        store(scratch, to + pitch + LANES * j, odd(low, high))
    scratch[to] = planes[i]


@kernel()
def median5(planes, offset, row, width, height, scratch):
    """Replaces a plane by its medians of 5x5 pixels, the borders repeated: as cv2.medianBlur, in place.

    planes: float32, flat; value (y, x) is at offset + y * row + x, infinite perhaps but not NaN. The float
    before each row must exist and is not touched; the 16 behind it are overwritten. scratch: float32, of
    `scratch_length`, best at a multiple of 64 bytes; each thread its own.
    """
    exact()
    pitch = _pitch(width)
    tiles = (width + 1) // 2
    sorted_a = LANES + _SORTED * pitch
    sorted_b = sorted_a + SIDE * pitch
    pairs = LANES + _PAIRS * pitch
    for y in range(-2, height):
        # The originals of rows y-2 to y+2: the results already replace some of them.
        if y + 2 < height:
            _keep_row(planes, offset + (y + 2) * row, width, scratch, _kept(y + 2, pitch), pitch)
        if y < 0:
            continue
        top2 = _kept(max(y - 2, 0), pitch)
        top = _kept(max(y - 1, 0), pitch)
        mid = _kept(y, pitch)
        low = _kept(min(y + 1, height - 1), pitch)
        low2 = _kept(min(y + 2, height - 1), pitch)
        for t in range(0, LANES * _groups(width), LANES):
            a = _sorted_column(scratch, t, top2, top, mid, low, low2)
            b = _sorted_column(scratch, t + pitch, top2, top, mid, low, low2)
            _store_column(scratch, sorted_a + t, pitch, a)
            _store_column(scratch, sorted_b + t, pitch, b)
            p = _merge5(*a, *b)
            _store_column(scratch, pairs + t, pitch, p[:SIDE])
            _store_column(scratch, pairs + SIDE * pitch + t, pitch, p[SIDE:])
        for n in range(SIDE):
            # Column -2 is column 0.
            scratch[sorted_b + n * pitch - 1] = scratch[sorted_b + n * pitch]
        here = offset + y * row
        for t in range(0, tiles, LANES):
            middle = _middle6(scratch, pairs + t, pitch)
            left = _sixth(middle, _column(scratch, sorted_b + t - 1, pitch))
            right = _sixth(middle, _column(scratch, sorted_a + t + 2, pitch))
            store(planes, here + 2 * t, zip_low(left, right))
            if 2 * t + LANES < width:
                store(planes, here + 2 * t + LANES, zip_high(left, right))


@kernel()
def median3(a, offset, row, width, height, scratch):
    """As `median5`, of 3x3 pixels: the median of the columns' largest minimum, of the median of their
    medians, and of their smallest maximum.
    """
    exact()
    pitch = width + 2 * LANES
    for y in range(2):  # scratch: the row above as it was, and this one, each with its ends repeated
        _framed(a, offset, width, scratch, y * pitch)
    for r in range(height):
        above, here = (r % 2) * pitch, ((r + 1) % 2) * pitch
        _framed(a, offset + r * row, width, scratch, here)
        below = 2 * pitch
        _framed(a, offset + min(r + 1, height - 1) * row, width, scratch, below)
        for j in range(0, width, LANES):
            i = LANES + j
            low = middle = high = m0 = m1 = load(scratch, here + i)
            for k in range(-1, 2):
                x, y, z = (
                    load(scratch, above + i + k),
                    load(scratch, here + i + k),
                    load(scratch, below + i + k),
                )
                x, y = minimum(x, y), maximum(x, y)
                y, z = minimum(y, z), maximum(y, z)
                x, y = minimum(x, y), maximum(x, y)
                if k == -1:
                    low, high, m0, m1 = x, z, y, y
                elif k == 0:
                    low, high = maximum(low, x), minimum(high, z)
                    m0, m1 = minimum(m0, y), maximum(m1, y)
                else:
                    low, high = maximum(low, x), minimum(high, z)
                    middle = maximum(m0, minimum(m1, y))
            x, y = minimum(low, middle), maximum(low, middle)
            store(a, offset + r * row + j, maximum(x, minimum(y, high)))


@kernel(forceinline=True)
def _framed(a, i, width, to, start):
    """Copies a row of `a` with its first and last value repeated around it."""
    for j in range(0, width, LANES):
        store(to, start + LANES + j, load(a, i + j))
    to[start + LANES - 1] = a[i]
    store(to, start + LANES + width, splat(at(a, i + width - 1)))
