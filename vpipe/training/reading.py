"""Batches ahead of the training: made by processes, or by threads where reading is all there is to do."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing import AuthenticationError
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader

from vpipe.allocator import keep_freed_memory

AHEAD = 4  # batches that threads keep ready


class Batches(Protocol):
    """Batches by number: batch i depends on the seed and i alone, and there is one for any i >= 0.

    Arrays, or tensors on any device: clips uint8 RGB (N, T, H, W, 3) or float32 flow (N, T, 2, H, W); targets
    float32 (N, classes), rows add up to 1. One that has `in_threads = True` is read by threads; `describe(i)`
    names what batch i holds.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[np.ndarray | Tensor, np.ndarray | Tensor]: ...


def read_ahead(batches: Batches, numbers: Sequence[int], workers: int) -> Iterator[Any]:
    """The batches of these numbers in order; `workers` 0 makes each when it is asked for."""
    if workers and getattr(batches, "in_threads", False):
        return _by_threads(batches, numbers, workers)
    return iter(
        DataLoader(
            batches,  # type: ignore[arg-type]
            batch_size=None,
            sampler=numbers,
            collate_fn=None,
            num_workers=workers,
            multiprocessing_context="spawn" if workers else None,
            prefetch_factor=8 if workers else None,
            worker_init_fn=_start_worker,
        )
    )


def describe(batches: Batches, number: int, seed: int) -> str:
    """What batch `number` was made of, for a message."""
    known = getattr(batches, "describe", None)
    return str(known(number)) if known else f"batch {number} of seed {seed}"


def _by_threads(batches: Batches, numbers: Sequence[int], workers: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    rest = iter(numbers)
    pool = ThreadPoolExecutor(workers, "vpipe-batches")
    try:
        while True:
            while len(waiting) < AHEAD + workers and (number := next(rest, None)) is not None:
                waiting.append(pool.submit(batches.__getitem__, number))
            if not waiting:
                return
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker(worker: int) -> None:
    keep_freed_memory(worker)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process ends us
    # The thread that sends batches may be in native code as the interpreter goes, which would abort it.
    atexit.register(os._exit, 0)
    sys.excepthook = _thread_failed


def _thread_failed(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The thread that hands tensors over says so where the main process goes as it asks for one: no news."""
    if not issubclass(kind, (EOFError, OSError, AuthenticationError)):
        sys.__excepthook__(kind, error, trace)
