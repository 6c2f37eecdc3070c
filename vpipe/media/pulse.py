"""Signs of life: decoding says that it goes on, and a worker process passes that on to whoever waits."""

from __future__ import annotations

from collections.abc import Callable

_listener: Callable[[], None] | None = None


def beat() -> None:
    """Called with every packet."""
    if _listener is not None:
        _listener()


def listen(listener: Callable[[], None]) -> None:
    """Have `listener` called with every packet; what it raises ends the decoding."""
    global _listener
    _listener = listener
