"""Ctrl-C and SIGTERM: an exception at once, and a note of it for when a library swallows the exception.

Libraries import each other under `except:` clauses; an interrupt that arrives there is lost, or leaves a
module half imported. `check` raises it again at the next safe place.
"""

from __future__ import annotations

import signal
from types import FrameType

_received: list[int] = []


class Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C for whoever tidies up, but another exit code."""


def watch() -> None:
    """Handle SIGTERM and, unless the shell has it ignored, SIGINT."""
    _received.clear()
    signal.signal(signal.SIGTERM, _handle)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _handle)


def check() -> None:
    """Raise the interrupt that was received, if any."""
    if _received:
        raise Terminated if signal.SIGTERM in _received else KeyboardInterrupt


def terminated() -> bool:
    """Whether SIGTERM was received."""
    return signal.SIGTERM in _received


def _handle(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    check()
