"""Signs of life: decoding says that it goes on, and a worker process passes that on to whoever waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

_listener: Callable[[], None] | None = None
_hears = 0  # the thread that listens


def beat() -> None:
    """Called with every packet; heard in the thread that listens alone."""
    if _listener is not None and threading.get_ident() == _hears:
        _listener()


def listen(listener: Callable[[], None]) -> None:
    """Have `listener` called with every packet; what it raises ends the decoding."""
    global _listener, _hears
    _listener, _hears = listener, threading.get_ident()
