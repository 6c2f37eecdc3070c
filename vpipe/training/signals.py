"""Ctrl-C and SIGTERM between steps only: a step that is cut in two leaves weights that belong to no step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class BetweenSteps:
    """While this is entered, the first signal waits for `check`; a second one does not wait."""

    def __init__(self) -> None:
        self._received: list[int] = []
        self._before: dict[int, object] = {}

    def __enter__(self) -> BetweenSteps:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if callable(handler := signal.getsignal(number)):
                    self._before[number] = handler
                    signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def check(self) -> None:
        """Hands over a signal that came meanwhile, to whoever would have had it."""
        if self._received:
            self._hand_over(self._received[0], None)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._received:
            self._hand_over(number, frame)
        self._received.append(number)

    def _hand_over(self, number: int, frame: FrameType | None) -> None:
        handler = self._before[number]
        assert callable(handler)
        handler(number, frame)
        raise KeyboardInterrupt  # whatever the handler thinks, training ends
