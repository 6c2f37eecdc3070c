"""TV-L1 on a CUDA device: the algorithm of `vpipe.flow.tvl1_engine`, many pairs at a time.

A queue of up to 64 pairs goes down the pyramid together:

    frames ──► textures of every level ──► coarsest level ──► ... ──► finest level ──► flow

`vpipe.flow.gpu_level` is one level; `gpu_pictures`, `gpu_kernels`, `gpu_sweep` and `gpu_median` are kernels.
A whole queue is recorded once and replayed, but for recipes whose iterations end by a measured change. Where
Triton's interpreter is on (TRITON_INTERPRET=1 before it is imported), device "cpu" runs the same kernels
without a GPU, slowly: for tests.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vpipe.flow import gpu_pictures as pictures
from vpipe.flow.batch import QUEUE_PAIRS
from vpipe.flow.gpu_level import LevelSolver, Pairs, Scale, tiles
from vpipe.flow.gpu_planes import TILE
from vpipe.flow.gpu_recording import Recordings
from vpipe.flow.inputs import checked_pair
from vpipe.flow.levels import blur_sigma, level_sizes
from vpipe.flow.params import FlowParams

# Few, as the interpreter takes its time for slots without a pair, too.
_INTERPRETED_PAIRS = 2


def tvl1_gpu(
    frames: Sequence[npt.NDArray[Any]],
    params: FlowParams,
    device: str = "cuda",
    pairs: Sequence[tuple[int, int]] | None = None,
) -> Tensor:
    """Flow between frames, on `device`; equal to `vpipe.flow.tvl1` within a mean of 0.01 px.

    frames: n gray pictures (H, W) of one size as `tvl1` takes them, or one array (n, H, W). pairs: (first,
    second), indices of frames; without, each frame and the next. What a frame needs is made once for all its
    pairs in a queue.
    Returns float32 (pairs, 2, H, W) on `device`: u (px to the right), then v (px down).
    Raises FlowInputError (a VpipeError and a ValueError); ValueError for an index out of range.
    """
    for before, frame in zip([*frames[:1], *frames], frames, strict=False):
        checked_pair(before, frame)
    wanted = list(pairs) if pairs is not None else [(k, k + 1) for k in range(len(frames) - 1)]
    if any(not 0 <= k < len(frames) for pair in wanted for k in pair):
        raise ValueError(f"pairs of {len(frames)} frames: an index is out of range")
    if not wanted:
        raise ValueError("no pair of frames: give two frames or more")
    height, width = frames[0].shape
    stack = torch.from_numpy(stacked(frames)).to(device)
    return engine_for(height, width, params, device).flows(stack, wanted)


def stacked(frames: Iterable[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """(n, H, W): uint8 where all are, else float32."""
    stack = np.stack(list(frames))
    return stack if stack.dtype == np.uint8 else stack.astype(np.float32)


@functools.lru_cache(maxsize=2)
def engine_for(height: int, width: int, params: FlowParams, device: str) -> Engine:
    """The engine for pictures of one size, kept with its memory and its recordings for the next call."""
    return Engine(height, width, params, torch.device(device))


@dataclass(frozen=True)
class _Work:
    """Where the frames of a queue lie. shown: int32 (1,), how many of frames (n, H, W) there are."""

    frames: Tensor
    shown: Tensor


class Engine:
    """Flow between pictures of one size under one recipe. Threads may share it: it serves one at a time.

    queue_pairs: how many pairs are at work together. scales: finest first.
    """

    def __init__(self, height: int, width: int, params: FlowParams, device: torch.device) -> None:
        self.params, self.device = params, device
        self.scales = [Scale(width, height) for height, width in level_sizes(height, width, params)]
        self.queue_pairs = _queue_pairs(self.scales, device)
        self._records = Recordings(device)
        self.solver = LevelSolver(self.scales, params, self.queue_pairs, device, self._records)
        self._blur = torch.from_numpy(_blur(params)).to(device)
        self._first, self._second = torch.zeros((2, self.queue_pairs), dtype=torch.int32, device=device)
        self._present = torch.zeros(1, dtype=torch.int32, device=device)
        self._works: dict[tuple[torch.dtype, int], _Work] = {}
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._lock = threading.Lock()
        self._fixed_pairs = 0  # done so far, of a recipe whose iterations are not measured
        if self._stream is not None:
            torch.cuda.synchronize(device)  # what was made on this thread's stream is there for all streams

    @property
    def pixel_iterations(self) -> int:
        """Work done so far: iterations of one pixel. Waits for the device."""
        pixels = sum(scale.width * scale.height for scale in self.scales)
        return self.solver.measured_work + self._fixed_pairs * self.solver.fixed_iterations() * pixels

    def flows(self, frames: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
        """Flow of `pairs` (indices) of `frames`, uint8 or float32 (n, H, W) in 0..255, on the device.

        Returns float32 (pairs, 2, H, W) there, without waiting for it: in the order of the caller's stream.
        """
        with self._lock:
            if self._stream is None:
                return self._queues(frames, pairs)
            caller = torch.cuda.current_stream(self.device)
            self._stream.wait_stream(caller)
            with torch.cuda.stream(self._stream):
                flow = self._queues(frames, pairs)
            caller.wait_stream(self._stream)
            # Neither memory may serve others before both streams are done with it.
            frames.record_stream(self._stream)
            flow.record_stream(caller)
            return flow

    def _queues(self, frames: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
        flows = []
        for lo in range(0, len(pairs), self.queue_pairs):
            queue = pairs[lo : lo + self.queue_pairs]
            used = sorted({k for pair in queue for k in pair})
            places = [(used.index(a), used.index(b)) for a, b in queue]
            flows.append(self._flows(frames, used, places))
        return flows[0] if len(flows) == 1 else torch.cat(flows)

    def _numbers(self, values: Sequence[Any]) -> Tensor:
        """int32, sent without waiting for the device."""
        numbers = torch.tensor(values, dtype=torch.int32)
        return numbers.pin_memory().to(self.device, non_blocking=True) if self._stream else numbers

    def _flows(self, frames: Tensor, used: Sequence[int], places: Sequence[tuple[int, int]]) -> Tensor:
        """Of one queue: pairs of places among the frames that are used."""
        # A film's queue has a frame more than pairs, but every pair may have two of its own.
        few = self.queue_pairs + 1
        room = few if len(used) <= few else 2 * self.queue_pairs
        key = frames.dtype, room
        if key not in self._works:
            room_for = torch.zeros((room, *frames.shape[1:]), dtype=frames.dtype, device=self.device)
            self._works[key] = _Work(room_for, torch.zeros_like(self._present))
        work, count = self._works[key], len(places)
        torch.index_select(frames, 0, self._numbers(used), out=work.frames[: len(used)])
        first, second = self._numbers(places).unbind(1)
        self._first[:count], self._second[:count] = first, second
        work.shown.fill_(len(used))
        self._present.fill_(count)
        pairs = Pairs(self._first, self._second, self._present, count)
        if self.solver.measured:
            return self._down_the_pyramid(work, pairs)[:count]
        self._fixed_pairs += count
        flow = self._records.replay(key, lambda: self._down_the_pyramid(work, pairs))
        return flow[:count].clone()  # the next queue is written there

    def _down_the_pyramid(self, work: _Work, pairs: Pairs) -> Tensor:
        """The flow of all slots, of which those without a pair hold anything."""
        noise = torch.zeros(len(work.frames), device=self.device)
        if self.params.noise > 0:
            noise = _noise(work.frames)
        noise = (noise[pairs.first] + noise[pairs.second]) / 2
        flow: Tensor | None = None
        levels = list(zip(self.scales, self._textures(work), strict=True))
        for number, (scale, textures) in reversed(list(enumerate(levels))):
            lambdas = _trusted(self.params, noise * self.params.scale_step**number)
            flow = self.solver.solve(scale, pairs, textures, lambdas, flow)
        assert flow is not None  # there is at least one scale
        return flow

    def _textures(self, work: _Work) -> list[Tensor]:
        """Of every level, finest first."""
        count, plane, textures = len(work.frames), work.frames, []
        for number, scale in enumerate(self.scales):
            if number > 0:
                finer = plane
                plane = torch.empty((count, scale.height, scale.width), device=self.device)
                pictures.reduce[scale.tiles, count](
                    finer, work.shown, plane, self._blur, len(self._blur), 1 / self.params.scale_step,
                    finer.shape[2], finer.shape[1], scale.width, scale.height, **TILE,
                )  # fmt: skip
            texture = torch.empty((count, 3, scale.height + 2, scale.width + 2), device=self.device)
            pictures.texture[tiles(scale.width + 2, scale.height + 2), count](
                plane, work.shown, texture, scale.width, scale.height,
                FIVE_POINT=self.params.derivative == 5, **TILE,
            )  # fmt: skip
            textures.append(texture)
        return textures


def _noise(frames: Tensor) -> Tensor:
    """The deviation of each frame's noise in grey levels, estimated as in `vpipe.flow.tvl1_engine`."""
    count, height, width = frames.shape
    rows = frames[:, : height // 8 * 8].view(count, -1, 8, width)[:, :, :3].float()  # an eighth is enough
    across = rows[:, :, 0] - 2 * rows[:, :, 1] + rows[:, :, 2]
    corners = across[..., 2:] - 2 * across[..., 1:-1] + across[..., :-2]
    sizes = corners.abs().flatten(1)
    middle = sizes.shape[1] / 2
    below, above = (sizes.kthvalue(k, dim=1).values for k in (math.ceil(middle), math.floor(middle) + 1))
    return (below + above) / 2 / (6 * 0.6745)


def _trusted(params: FlowParams, noise: Tensor) -> Tensor:
    """lambda for pictures of this noise: their values tell less."""
    ratio = noise / params.noise if params.noise > 0 else torch.zeros_like(noise)
    return params.lambda_ / (1 + ratio.clamp(max=1e6) ** 2)


def _queue_pairs(scales: Sequence[Scale], device: torch.device) -> int:
    """64, or fewer where what so many need would take more than half of the free memory."""
    if device.type != "cuda":
        return _INTERPRETED_PAIRS
    pixels = sum((scale.width + 2) * (scale.height + 2) for scale in scales)
    # A pair: its slot, two planes of flow, and at most three frames, each a plane and three of texture.
    pair_bytes = (max(scale.slot for scale in scales) + 14 * pixels) * torch.float32.itemsize
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, min(QUEUE_PAIRS, free // 2 // pair_bytes))


def _blur(params: FlowParams) -> npt.NDArray[np.float32]:
    """The taps of the blur before each reduction, as many as OpenCV chooses for float pictures."""
    sigma = blur_sigma(params)
    if sigma == 0:
        return np.ones(1, np.float32)
    return np.asarray(cv2.getGaussianKernel(round(8 * sigma + 1) | 1, sigma, cv2.CV_32F).ravel(), np.float32)
