"""From video to records: decode, compute, quantise and compress at the same time, in flat memory.

    decoder (this thread) ──frames──► pool: one pair a thread ──records, in order──► caller, who writes them

The pool's work releases the GIL (OpenCV, Zstd, SHA-256), so -j threads use -j cores.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol

from vpipe.cache.records import Record, encode
from vpipe.flow.methods import FlowFrame, flow_between
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage
from vpipe.media.source import Frame


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
) -> Generator[Record]:
    """Records of the flows `pairs` (ascending), in that order.

    frame_index: the decoded frame of each grid frame. A flow is zero and invalid where one of its frames is
    damaged or did not come.
    """
    waiting: deque[Future[Record]] = deque()
    pool = ThreadPoolExecutor(jobs, thread_name_prefix="vpipe-flow")
    try:
        for pair, a, b in _frame_pairs(source, frame_index, pairs, params):
            # What is done is handed on at once: slow pairs are not held back by those behind them.
            while waiting and (len(waiting) >= 2 * jobs + 2 or waiting[0].done()):
                yield waiting.popleft().result()
            waiting.append(pool.submit(_record, pair, a, b, storage, size))
        while waiting:
            yield waiting.popleft().result()
    finally:
        # Also when the caller stops early: what has not begun is dropped.
        pool.shutdown(wait=True, cancel_futures=True)


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
