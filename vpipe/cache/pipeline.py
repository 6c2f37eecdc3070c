"""From video to records: decode, compute, quantise and compress at the same time, in flat memory.

    decoder (this thread) ──frames──► pool: one pair a thread ──records, in order──► caller, who writes them

The pool's work releases the GIL (OpenCV, Zstd, SHA-256), so -j threads use -j cores.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from vpipe.cache.records import Record, encode
from vpipe.flow.methods import FlowFrame, flow_between
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage
from vpipe.media.frame import Frame


class Frames(Protocol):
    """The part of `FrameSource` that is used here."""

    def select(self, indices: Sequence[int]) -> Iterator[Frame]: ...


def compute_records(
    source: Frames,
    frame_index: Sequence[int],
    pairs: Sequence[int],
    params: FlowParams,
    storage: Storage,
    size: tuple[int, int],
    *,
    jobs: int,
    device: str = "cpu",
) -> Generator[Record]:
    """Records of the flows `pairs` (ascending), in that order.

    frame_index: the decoded frame of each grid frame. A flow is zero and invalid where one of its frames is
    damaged or did not come. device: where they are computed; records are made by the pool in any case.
    """
    frames = _frame_pairs(source, frame_index, pairs, params)
    tasks = (
        _on_the_pool(frames, storage, size)
        if device == "cpu"
        else _on_a_gpu(frames, params, device, storage, size)
    )
    waiting: deque[Future[Record]] = deque()
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="vpipe-flow")
    try:
        for task in tasks:
            # What is done is handed on at once: slow pairs are not held back by those behind them.
            while waiting and (len(waiting) >= 2 * jobs + 2 or waiting[0].done()):
                yield waiting.popleft().result()
            waiting.append(pool.submit(task))
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Also when the caller stops early: what has not begun is dropped.
        tasks.close()
        pool.shutdown(wait=True, cancel_futures=True)


Pairs = Iterator[tuple[int, FlowFrame | None, FlowFrame | None]]
Task = Callable[[], Record]


def _on_the_pool(frames: Pairs, storage: Storage, size: tuple[int, int]) -> Generator[Task]:
    """Work for one pair each: compute and encode."""
    for pair, a, b in frames:
        yield functools.partial(_record, pair, a, b, storage, size)


def _on_a_gpu(
    frames: Pairs, params: FlowParams, device: str, storage: Storage, size: tuple[int, int]
) -> Generator[Task]:
    """Work for one pair each: encode what the device computed."""
    from vpipe.flow.batch import flow_stream  # torch only where a GPU is used (start-up)

    images = ((pair, None if a is None else a.image, None if b is None else b.image) for pair, a, b in frames)
    for pair, flow in flow_stream(images, params, device):
        yield functools.partial(encode, pair, flow, storage, size)


def _frame_pairs(
    source: Frames, frame_index: Sequence[int], pairs: Sequence[int], params: FlowParams
) -> Iterator[tuple[int, FlowFrame | None, FlowFrame | None]]:
    """(pair, its first frame, its second), each decoded once; None where damaged or not there."""
    wanted = sorted({frame_index[k] for pair in pairs for k in (pair, pair + 1)})
    coming = source.select(wanted)
    held: dict[int, FlowFrame | None] = {}
    reached = -1
    for pair in pairs:
        first, second = frame_index[pair], frame_index[pair + 1]
        while reached < second:
            frame = next(coming, None)
            if frame is None:
                break
            reached = frame.index
            held[reached] = None if frame.damaged else FlowFrame(frame.image, params)
        for index in [index for index in held if index < first]:
            del held[index]
        yield pair, held.get(first), held.get(second)


def _record(
    pair: int, a: FlowFrame | None, b: FlowFrame | None, storage: Storage, size: tuple[int, int]
) -> Record:
    return encode(pair, None if a is None or b is None else flow_between(a, b), storage, size)
