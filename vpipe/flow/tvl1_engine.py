"""TV-L1 optical flow: our own engine.

The energy, for flow w between pictures I0 and I1 (Zach, Pock and Bischof 2007):

    E(w) = sum  lambda |I1(x + w) - I0(x)|  +  g(x) (|grad u| + |grad v|)

is minimised from coarse to fine; on each level the second picture is warped a few times (`warps`) and the
convex problem left after linearising is solved by alternating a threshold step for the data term with steps
of Chambolle's dual algorithm for the total variation (as in Sanchez, Meinhardt-Llopis and Facciolo 2013).
`parity` is that as OpenCV computes it. `accurate` and `fast` add: a pyramid down to 16 px, derivatives of
five points and of both pictures (Wedel et al. 2009), an edge weight g = 1 / (1 + edge |grad I0| / 255), and
the median after each warp (Sun, Roth and Black 2010); docs/flow.md says what each is worth.
"""

from __future__ import annotations

import collections
import contextlib
import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vpipe.flow import tvl1_planes as layout
from vpipe.flow.inputs import checked_pair
from vpipe.flow.levels import blur_sigma, level_sizes
from vpipe.flow.median_kernel import scratch_length
from vpipe.flow.params import FlowParams
from vpipe.flow.simd import LANES
from vpipe.flow.tvl1_iterations import MOST_PER_SWEEP
from vpipe.flow.tvl1_level import solve_level

Picture = npt.NDArray[Any]
Plane = np.ndarray[Any, np.dtype[np.float32]]

_mine = threading.local()
# Memory of pyramids no longer used, for the next ones.
_spare: collections.deque[Plane] = collections.deque(maxlen=64)


def tvl1(a: Picture, b: Picture, params: FlowParams) -> Plane:
    """Flow from `a` to `b`.

    a, b: gray (H, W) of one size, at least 16 px a side, uint8, or float32 or float64 in 0..255.
    Returns float32 (2, H, W): u (px to the right), then v (px down). Never NaN.
    Safe from many threads at once; the GIL is released in the kernels; one thread computes one pair.
    Raises FlowInputError (a VpipeError and a ValueError).
    """
    first, second = checked_pair(a, b)
    return flow_between(Pyramid(first, params), Pyramid(second, params), params)


def tvl1_sequence(frames: Iterable[Picture], params: FlowParams) -> Iterator[Plane]:
    """Flow from each frame to the next: n frames give n-1 flows. What a frame needs is made once.

    Raises FlowInputError as `tvl1` does.
    """
    before: Pyramid | None = None
    for frame in frames:
        checked_pair(frame if before is None else before.picture, frame)
        now = Pyramid(frame, params)
        if before is not None:
            yield flow_between(before, now, params)
        before = now


@dataclass(frozen=True)
class Level:
    """One scale of one picture."""

    width: int
    height: int
    picture: Plane  # as `tvl1_planes` lays it out


class Pyramid:
    """A picture at all scales, finest first, ready to be the first or the second of a pair.

    picture: as `checked_pair` lets it pass. Of `params` only what concerns one picture matters.
    """

    def __init__(self, picture: Picture, params: FlowParams) -> None:
        self.picture = picture
        self.noise = _noise(picture) if params.noise > 0 else 0.0
        sizes = level_sizes(picture.shape[0], picture.shape[1], params)
        counts = [layout.picture_length(width, height) for height, width in sizes]
        memory = _memory(sum(counts))
        weakref.finalize(self, _spare.append, memory)
        self.levels: list[Level] = []
        # Results go to memory that is kept: threads that ask the system for memory wait for each other.
        plane: Any = _plane("even", *sizes[0])
        plane[:] = picture
        sigma = blur_sigma(params)
        for number, ((height, width), count) in enumerate(zip(sizes, counts, strict=True)):
            if number > 0:
                if sigma > 0:
                    blurred = _plane("blurred", *sizes[number - 1])
                    plane = cv2.GaussianBlur(plane, (0, 0), sigma, blurred, borderType=cv2.BORDER_REPLICATE)
                # Sampled at exactly 1/step, whatever the rounded size: flow then scales by exactly 1/step.
                step = params.scale_step
                smaller = _plane("odd" if number % 2 else "even", height, width)
                plane = cv2.resize(plane, None, smaller, step, step, cv2.INTER_LINEAR)
            padded, memory = memory[:count], memory[count:]
            stride = layout.picture_stride(width)
            cv2.copyMakeBorder(
                plane, layout.MARGIN, layout.MARGIN, layout.SIDE, stride - width - layout.SIDE,
                cv2.BORDER_REPLICATE, padded.reshape(-1, stride),
            )  # fmt: skip
            self.levels.append(Level(width, height, padded))


def flow_between(first: Pyramid, second: Pyramid, params: FlowParams) -> Plane:
    """Flow between two pictures of one size. Same bits on any thread. See `tvl1`."""
    height, width = first.picture.shape
    if np.array_equal(first.picture, second.picture):
        return np.zeros((2, height, width), np.float32)  # what the iterations would find, at no cost
    space = _scratch("planes", height * _row(width, params) + 2 * LANES)
    flow: Plane | None = None
    noise = (first.noise + second.noise) / 2
    for number in reversed(range(len(first.levels))):
        lambda_ = _trusted(params, noise * params.scale_step**number)
        flow = _solve(first.levels[number], second.levels[number], flow, params, lambda_, space)
    assert flow is not None  # a pyramid has at least one level
    return np.ascontiguousarray(flow)


def _row(width: int, params: FlowParams) -> int:
    """Floats of one row of all planes."""
    return layout.pitch_of(width) * (layout.WEIGHTED if params.edge > 0 else layout.PLAIN)


def _solve(
    a: Level, b: Level, coarser: Plane | None, params: FlowParams, lambda_: float, space: Plane
) -> Plane:
    """The flow of one level, a view (2, H, W) into `space`, from that of the next coarser one."""
    width, height = a.width, a.height
    pitch, row = layout.pitch_of(width), _row(width, params)
    planes = space[: height * row + 2 * LANES]
    rows = planes[: height * row].reshape(height, row // pitch, pitch)
    flow = rows[:, : layout.V + 1, LANES : LANES + width].transpose(1, 0, 2)
    if coarser is None:
        flow[:] = 0
    else:
        small = [_plane(name, *coarser.shape[1:]) for name in ("u", "v")]
        small[0][:], small[1][:] = coarser  # before `flow`, which lies in the same memory, is written
        large = _plane("large", height, width)
        for values, to in zip(small, flow, strict=True):
            cv2.resize(values, (width, height), large, interpolation=cv2.INTER_LINEAR)
            np.multiply(large, np.float32(1 / params.scale_step), out=to)
    f = np.float32
    solve_level(
        a.picture, b.picture, layout.picture_stride(width), width, height, params.derivative == 5,
        f(params.blend), params.zero_outside == 1, params.edge,
        params.warps, params.outer_iterations, params.inner_iterations, f(lambda_ * params.theta),
        f(params.theta), f(params.tau / params.theta), params.epsilon**2 * width * height, params.median,
        params.median_after == 1, planes, pitch, _scratch("points", layout.POINTS),
        _scratch("median", scratch_length(width)), _scratch("errors", MOST_PER_SWEEP * LANES),
    )  # fmt: skip
    return flow


def _noise(picture: Picture) -> float:
    """The deviation of a picture's noise in grey levels: of the second difference in x and y, whose deviation
    is 6 times that of white noise and which edges and shading hardly touch (Immerkaer 1996); by the median.
    """
    height, width = picture.shape
    rows = picture[: height // 8 * 8].reshape(-1, 8, width)[:, :3].astype(np.float32)  # an eighth is enough
    across = rows[:, 0] - 2 * rows[:, 1] + rows[:, 2]
    corners = across[:, 2:] - 2 * across[:, 1:-1] + across[:, :-2]
    return float(np.median(np.abs(corners))) / (6 * 0.6745)


def _trusted(params: FlowParams, noise: float) -> float:
    """lambda for pictures of this noise: their values tell less."""
    if noise == 0:
        return params.lambda_
    return params.lambda_ / (1 + min(noise / params.noise, 1e6) ** 2)


def _aligned(count: int) -> Plane:
    """float32 zeros at a multiple of 64 bytes: a vector must not straddle two cache lines."""
    room = np.zeros(count + LANES, np.float32)
    start = -room.ctypes.data % 64 // 4
    return room[start : start + count]


def _memory(count: int) -> Plane:
    """Floats for a pyramid: those of one no longer used, or new ones, whose pages would be dear."""
    with contextlib.suppress(IndexError):  # empty, or another thread was quicker
        while True:
            memory = _spare.pop()
            if memory.size == count:
                return memory  # and those of other sizes are let go
    return _aligned(count)


def _plane(name: str, height: int, width: int) -> Plane:
    """This thread's plane of that name, whatever it holds."""
    return _scratch(name, height * width)[: height * width].reshape(height, width)


def _scratch(name: str, count: int) -> Plane:
    """This thread's memory of that name: at least `count` floats, whatever they hold."""
    have: Plane | None = getattr(_mine, name, None)
    if have is None or have.size < count:
        have = _aligned(count)
        setattr(_mine, name, have)
    return have
