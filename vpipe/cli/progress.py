"""Progress on stderr: a bar on a terminal, a line every ten seconds with `-v` elsewhere, else nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from vpipe.cli.options import RunOptions

LINE_EVERY_S = 10.0


class Progress(Protocol):
    def update(self, amount: int = 1, /) -> object: ...

    def to(self, done: int, total: int | None = None, /) -> None:
        """Set what is done so far, and the total where it became known."""


class _Bar:
    def __init__(self, total: int | None, unit: str, desc: str) -> None:
        from tqdm import tqdm  # here, to keep start-up light

        self.bar = tqdm(
            total=total, unit=f" {unit}", desc=desc, file=sys.stderr, leave=False, dynamic_ncols=True
        )

    def update(self, amount: int = 1) -> None:
        self.bar.update(amount)

    def to(self, done: int, total: int | None = None) -> None:
        if total is not None and total != self.bar.total:
            self.bar.total = total
        self.bar.update(done - self.bar.n)

    def close(self) -> None:
        self.bar.close()


class _Lines:
    def __init__(self, total: int | None, unit: str, desc: str) -> None:
        self.total, self.unit, self.desc, self.done = total, unit, desc, 0
        self.start = self.last = time.monotonic()

    def update(self, amount: int = 1) -> None:
        self.to(self.done + amount)

    def to(self, done: int, total: int | None = None) -> None:
        self.done = done
        self.total = total if total is not None else self.total
        now = time.monotonic()
        if now - self.last < LINE_EVERY_S:
            return
        self.last = now
        rate = self.done / (now - self.start)
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate > 0 else ""
        of = f"/{self.total}" if self.total else ""
        print(f"vpipe: {self.desc}: {self.done}{of} {self.unit}, {rate:.1f}/s{left}", file=sys.stderr)

    def close(self) -> None:
        pass


class _Silent:
    def update(self, amount: int = 1) -> None:
        pass

    def to(self, done: int, total: int | None = None) -> None:
        pass

    def close(self) -> None:
        pass


@contextmanager
def progress(total: int | None, unit: str, desc: str, options: RunOptions) -> Iterator[Progress]:
    """Progress over `total` units (None: unknown), for example `progress(80, "pairs", "a.mp4", options)`."""
    shown: _Bar | _Lines | _Silent
    if options.quiet:
        shown = _Silent()
    elif sys.stderr.isatty():
        shown = _Bar(total, unit, desc)
    elif options.verbose:
        shown = _Lines(total, unit, desc)
    else:
        shown = _Silent()
    try:
        yield shown
    finally:
        shown.close()
