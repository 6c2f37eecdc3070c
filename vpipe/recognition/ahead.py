"""Work that overlaps: items made by a thread of their own, and turned into results by several, in order."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from queue import Empty, Queue
from typing import TypeVar

from vpipe.handover import LOOK_S, offer

T = TypeVar("T")
R = TypeVar("R")


class _End:
    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


def ahead(
    items: Iterator[T], depth: int, stop_items: Callable[[], None] | None = None
) -> Generator[T, None, None]:
    """The same items, made by another thread, of which at most `depth` wait. Errors come out in their place.

    When the caller stops early, so does the thread, before its next item; `stop_items` ends the wait for one.
    """
    waiting: Queue[T | _End] = Queue(maxsize=depth)
    stop = threading.Event()

    def make() -> None:
        end = _End()
        try:
            for item in items:
                if not offer(waiting, item, stop):
                    break
        except BaseException as error:
            end = _End(error)
        offer(waiting, end, stop)

    thread = threading.Thread(target=make, name="vpipe-ahead", daemon=True)
    thread.start()
    try:
        while True:
            try:
                item = waiting.get(timeout=LOOK_S)  # with a timeout, so that Ctrl-C is heard
            except Empty:
                continue
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        if stop_items is not None:
            stop_items()
        thread.join()


def in_parallel(
    function: Callable[[T], R], items: Generator[T, None, None], workers: int, begin: Callable[[], None]
) -> Generator[tuple[T, R], None, None]:
    """(item, function(item)) in order, up to `workers` at a time; each of them calls `begin` first."""
    pending: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(workers, initializer=begin) as pool, closing(items):
        try:
            for item in items:
                pending.append((item, pool.submit(function, item)))
                while len(pending) > workers or (pending and pending[0][1].done()):
                    first, result = pending.popleft()
                    yield first, result.result()
            while pending:
                first, result = pending.popleft()
                yield first, result.result()
        finally:
            for _, result in pending:
                result.cancel()
