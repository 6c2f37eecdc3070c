"""Ctrl-C and SIGTERM: an exception at once, a note of it for when a library swallows the exception, and an
end that does not wait for anybody.

Libraries import each other under `except:` clauses; an interrupt that arrives there is lost, or leaves a
module half imported. `check` raises it again at the next safe place. A thread of its own ends the process,
after the last words, where the main thread does not within GRACE_S (or what `be_patient` said), and at the
second signal: the main thread may be deep in native code. What is on disk is whole at any moment, so nothing
is lost that a later run would not do again.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

GRACE_S, SPEAK_S = 1.4, 0.4
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}

_received: list[int] = []
_grace_s, _speak_s = GRACE_S, SPEAK_S
_last_words: Callable[[], None] | None = None
_guard: threading.Thread | None = None


class Terminated(KeyboardInterrupt):
    """SIGTERM: like Ctrl-C for whoever tidies up, but another exit code."""


def watch() -> None:
    """Handle SIGTERM and, unless the shell has it ignored, SIGINT."""
    global _guard
    _received.clear()
    be_patient(GRACE_S, SPEAK_S)
    before_the_end(None)
    if _guard is None:
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=_not_in_children)
        _guard = threading.Thread(target=_end_in_time, args=(reader,), daemon=True)
        _guard.start()
    signal.signal(signal.SIGTERM, _handle)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, _handle)


def before_the_end(words: Callable[[], None] | None) -> None:
    """What to do when the process is ended from outside the main thread: print what is finished."""
    global _last_words
    _last_words = words


def be_patient(grace_s: float, speak_s: float) -> None:
    """Let the main thread, and then the last words, take so long after the first signal: what they save may
    not be on disk yet."""
    global _grace_s, _speak_s
    _grace_s, _speak_s = grace_s, speak_s


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


def _end_in_time(reader: int) -> None:
    """The guard: reads the number of every signal, also while the main thread is in native code."""
    number = _next_signal(reader)
    if not _another_within(reader, _grace_s) and _last_words is not None:
        # In a thread of its own: whoever reads our output may have stopped.
        speaker = threading.Thread(target=_last_words, daemon=True)
        speaker.start()
        speaker.join(_speak_s)
    word = "terminated" if number == signal.SIGTERM else "interrupted"
    with contextlib.suppress(OSError):
        os.write(2, f"vpipe: {word}\n".encode())
    os._exit(EXIT_CODES[signal.Signals(number)])


def _another_within(reader: int, seconds: float) -> bool:
    """Whether a second one comes. Others do not count: where a library listens, the end of a child is one."""
    deadline = time.monotonic() + seconds
    while select.select([reader], [], [], max(0.0, deadline - time.monotonic()))[0]:
        if os.read(reader, 1)[0] in EXIT_CODES:
            return True
    return False


def _next_signal(reader: int) -> int:
    while (number := os.read(reader, 1)[0]) not in EXIT_CODES:
        pass
    return number


def _not_in_children() -> None:
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)
