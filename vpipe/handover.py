"""Between threads: a queue that may be full, and a reader that may have gone."""

from __future__ import annotations

import threading
from queue import Full, Queue
from typing import TypeVar

T = TypeVar("T")

LOOK_S = 0.1  # how often a waiting thread looks whether it should stop


def offer(queue: Queue[T], item: T, stop: threading.Event) -> bool:
    """Puts `item` when there is room: False where `stop` was set before there was."""
    while not stop.is_set():
        try:
            queue.put(item, timeout=LOOK_S)
            return True
        except Full:
            continue
    return False
