"""Flow on a CUDA device for a stream of pairs: queue by queue, with decoding and copying beside computing.

    caller: makes queue n+2 ──► a thread: sends queue n+1, starts its kernels ──► device: computes queue n

Two CUDA streams take turns with the copies, so that frames go up and flow comes down while kernels run.
"""

from __future__ import annotations

import importlib.util
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from vpipe.errors import EnvironmentFault
from vpipe.flow.inputs import checked_pair
from vpipe.flow.params import FlowParams

if TYPE_CHECKING:
    import torch

QUEUE_PAIRS = 64

Key = TypeVar("Key")
Picture = npt.NDArray[Any]
Flow = npt.NDArray[np.float32]


def flow_device(params: FlowParams, device: str) -> str:
    """Where flow of this recipe is computed when `device` (as `resolve_device` gives it) was asked for.

    Only our own engine runs on CUDA; the library methods run on the CPU. Raises EnvironmentFault
    (`no_triton`) where what the engine needs is not installed.
    """
    if params.method != "tvl1" or device == "cpu":
        return "cpu"
    if importlib.util.find_spec("triton") is None:
        raise EnvironmentFault(
            "no_triton",
            f"TV-L1 flow on {device} needs Triton, which is not installed: pip install 'vpipe[gpu]', or use "
            "--device cpu",
        )
    return device


def flow_stream(
    pairs: Iterable[tuple[Key, Picture | None, Picture | None]], params: FlowParams, device: str
) -> Iterator[tuple[Key, Flow | None]]:
    """(key, flow from the first picture to the second) of every pair, in order; None where a picture is None.

    Pictures: gray (H, W) of one size, uint8 or float, as `vpipe.flow.tvl1` takes them; an array that is
    in several pairs of a queue is sent and prepared once. Flow: float32 (2, H, W), u then v, px.
    Reads up to two queues of 64 pairs ahead. device: "cuda" or "cuda:N" ("cpu": see `vpipe.flow.gpu`).
    Raises FlowInputError, EnvironmentFault (`gpu_out_of_memory`).
    """
    import torch  # a second to import, and only where a GPU is used (start-up)

    on_gpu = torch.device(device).type == "cuda"
    streams = [torch.cuda.Stream(device) if on_gpu else None for _ in range(2)]
    worker = ThreadPoolExecutor(1, thread_name_prefix="vpipe-gpu")
    started: deque[tuple[_Queue, Future[_Result]]] = deque()
    try:
        for number, queue in enumerate(_queues(pairs)):
            started.append((queue, worker.submit(_start, queue, params, device, streams[number % 2])))
            if len(started) > 1:
                yield from _results(*started.popleft())
        while started:
            yield from _results(*started.popleft())
    finally:
        # Also when the caller stops early: what has not begun is dropped.
        worker.shutdown(wait=True, cancel_futures=True)


@dataclass
class _Queue:
    """Pairs that are computed together: of each its key, and whether it has both pictures."""

    keys: list[tuple[Any, bool]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)

    def add(self, key: Any, first: Picture | None, second: Picture | None) -> None:
        whole = first is not None and second is not None
        self.keys.append((key, whole))
        if first is not None and second is not None:
            checked_pair(self.pictures[0] if self.pictures else first, first)
            checked_pair(first, second)
            self.pairs.append((self._place(first), self._place(second)))

    def _place(self, picture: Picture) -> int:
        for place in reversed(range(len(self.pictures))):  # most often it is the last
            if self.pictures[place] is picture:
                return place
        self.pictures.append(picture)
        return len(self.pictures) - 1


def _queues(pairs: Iterable[tuple[Any, Picture | None, Picture | None]]) -> Iterator[_Queue]:
    queue = _Queue()
    for key, first, second in pairs:
        queue.add(key, first, second)
        if len(queue.keys) == QUEUE_PAIRS:
            yield queue
            queue = _Queue()
    if queue.keys:
        yield queue


@dataclass(frozen=True)
class _Result:
    """The flows of a queue, float32 (pairs, 2, H, W), on the host once `ready` has happened."""

    flows: torch.Tensor | None
    ready: torch.cuda.Event | None


def _start(queue: _Queue, params: FlowParams, device: str, stream: torch.cuda.Stream | None) -> _Result:
    """Sends the pictures, starts the kernels and the copy back; waits for none of it."""
    if not queue.pairs:
        return _Result(None, None)
    import torch

    from vpipe.flow.gpu import engine_for, stacked

    height, width = queue.pictures[0].shape
    try:
        engine = engine_for(height, width, params, device)
        frames = torch.from_numpy(stacked(queue.pictures))
        if stream is None:
            return _Result(engine.flows(frames, queue.pairs), None)
        with torch.cuda.stream(stream):
            flows = engine.flows(frames.pin_memory().to(device, non_blocking=True), queue.pairs)
            here = torch.empty(flows.shape, pin_memory=True)
            here.copy_(flows, non_blocking=True)
            return _Result(here, stream.record_event())
    except torch.OutOfMemoryError as error:
        raise EnvironmentFault(
            "gpu_out_of_memory",
            f"{device}: not enough memory for TV-L1 flow of {width}x{height} px ({error}): use a smaller "
            "--short-side or --device cpu",
        ) from None


def _results(queue: _Queue, started: Future[_Result]) -> Iterator[tuple[Any, Flow | None]]:
    result = started.result()
    if result.ready is not None:
        result.ready.synchronize()
    flows = iter(() if result.flows is None else result.flows.numpy())
    for key, whole in queue.keys:
        yield key, next(flows) if whole else None
