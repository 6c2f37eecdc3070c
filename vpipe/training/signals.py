"""Ctrl-C and SIGTERM in training: what is learnt is kept, within two seconds whatever a step takes.

    read a batch, forward, backward     nothing is learnt yet: a signal ends it there
    optimiser, average                  cut in two it would belong to no step: a signal waits, it is short

Where the main thread is in native code all that time, another thread saves in its place (`save_for_it`).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

_watching: BetweenSteps | None = None


class BetweenSteps:
    """While this is entered, the first signal waits for `check`, unless the work under way may be given up; a
    second one does not wait.

    save: writes the state of the last whole step; called once, from whichever thread is first.
    """

    def __init__(self, save: Callable[[], None]) -> None:
        self._received: list[int] = []
        self._before: dict[int, object] = {}
        self._save, self._saved = save, False
        self._giving_up = False
        self._lock = threading.Lock()  # of what is saved, and changed by a step

    def __enter__(self) -> BetweenSteps:
        global _watching
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(handler := signal.getsignal(number)):
                    self._before[number] = handler
                    signal.signal(number, self._note)
            _watching = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        global _watching
        if _watching is self:
            _watching = None
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextmanager
    def may_be_given_up(self) -> Iterator[None]:
        """Around work that leaves no trace in the state: the first signal ends it at once."""
        self._giving_up = True
        try:
            self.check()
            yield
            self.check()
        finally:
            self._giving_up = False

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Around a change of the state: nobody saves meanwhile."""
        with self._lock:
            yield

    def check(self) -> None:
        """Hands over a signal that came meanwhile, to whoever would have had it."""
        if self._received:
            self._hand_over(self._received[0], None)

    def save(self) -> None:
        """Save the state after a signal, unless it was saved by then."""
        with self._lock:
            if not self._saved:
                self._save()
                self._saved = True

    def save_in_its_place(self) -> bool:
        """From another thread: save, where the work under way leaves the state alone; whether it did."""
        if self._giving_up:
            self.save()
        return self._giving_up

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received or self._giving_up:
            self._received.append(number)
            self._hand_over(number, frame)
        self._received.append(number)

    def _hand_over(self, number: int, frame: FrameType | None) -> None:
        handler = self._before[number]
        assert callable(handler)
        handler(number, frame)
        raise KeyboardInterrupt  # whatever the handler thinks, training ends


def save_for_it() -> None:
    """From another thread: save the state of the training under way, whose own thread has not ended it yet.

    Where that thread is at something that must not be disturbed, this waits for as long as it is let.
    """
    while _watching is None or not _watching.save_in_its_place():
        time.sleep(0.02)
