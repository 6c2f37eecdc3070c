"""Processes of one thread each for work on clips and networks; with one job everything is done here."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from vpipe import threads

Item = TypeVar("Item")
Result = TypeVar("Result")


class Workers:
    """Results do not depend on `jobs`. Processes start when first needed and end with us, however we end."""

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is None:
            return
        if kind is not None:  # what is under way would be waited for
            for child in multiprocessing.active_children():
                child.terminate()
        self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
        """function(item) of each item, in their order."""
        if self.jobs == 1 or len(items) == 1:
            return map(function, items)
        futures = [self.submit(function, item) for item in items]
        return (future.result() for future in futures)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Future[Result]:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                self.jobs, multiprocessing.get_context("spawn"), initializer=_begin
            )
        return self._pool.submit(function, *arguments)


@contextmanager
def one_thread() -> Iterator[None]:
    """For torch, as in a process of `Workers`, so that sums are made in the same order."""
    import torch  # here: those who make clips do without

    before = torch.get_num_threads()
    threads.set_torch_threads(1)
    try:
        yield
    finally:
        threads.set_torch_threads(before)


def _begin() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the main process ends us
    threads.set_jobs(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
