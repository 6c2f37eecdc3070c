"""What a decoder process says, from our side: warnings and faults, and frames that come several at a time.

    {"rows": [[what is known of a frame ..., slot of the ring], ...]}, the small pictures of all of them

One message for each frame would cost more than to copy the picture: both processes wake up for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import LOSSES, InputError, Warning_
from vpipe.limits import limits
from vpipe.media.decoders import Decoder
from vpipe.media.frame import Frame, WalkedFrame
from vpipe.media.info import VideoInfo
from vpipe.media.ring import Ring
from vpipe.media.wire import NO_PTS, NO_SLOT, ROWS, fraction, text, to_info, to_warnings, whole
from vpipe.workers import WorkerFault

T = TypeVar("T")
Image = NDArray[np.uint8]
Header = dict[str, Any]
# What one thing makes of the row of a frame, its small picture and, where it has one, its picture.
Read = Callable[[list[Any], bytes, "Image | None"], T]


class Told:
    """What a decoder has told of a video so far."""

    def __init__(self) -> None:
        self._warnings: dict[str, Warning_] = {}

    @property
    def warnings(self) -> list[Warning_]:
        """What is known by now that a user should know."""
        return list(self._warnings.values())

    @property
    def partial(self) -> bool:
        """Whether decoding so far shows that pictures are lost or damaged."""
        return any(code in LOSSES for code in self._warnings)

    def _learn(self, header: Header) -> None:
        """Warnings, or the fault, at the end of an answer. Raises InputError, RuntimeError, ValueError."""
        if "bug" in header:
            raise RuntimeError(text(header["bug"]))
        self._warnings |= {warning.code: warning for warning in to_warnings(header["warnings"])}
        if "error" in header:
            code, message = header["error"]
            raise InputError(text(code), text(message))

    def _opened(self, header: Header, path: str) -> tuple[VideoInfo, tuple[int, int]]:
        """Info and output size from the answer to `open`. Raises as `_learn`."""
        self._learn(header)
        most = limits().pixels
        width, height = (whole(side, 1, most) for side in header["output_size"])
        if width * height > most:
            raise ValueError("a size over the limit")
        return to_info(header["info"], path, most), (width, height)


def arriving(
    worker: Decoder, ring: Ring, read: Read[T], done: Callable[[Header], None], *, small_bytes: int = 0
) -> Iterator[T]:
    """What `read` makes of each row, until the answer ends and `done` has heard how.

    small_bytes: of the small picture that comes with each row. The decoder works ahead by as many pictures as
    the ring has slots; when the caller leaves early, it is told. Raises WorkerFault; what `done` raises.
    """
    emptied = 0
    while True:
        header, payload = worker.answer()
        with worker.believed():
            if "done" in header:
                done(header)
                return
            rows = _rows(header, payload, small_bytes)
        for number, row in enumerate(rows):
            with worker.believed():
                slot = whole(row[-1], NO_SLOT, ring.slots - 1)
                image = None if slot == NO_SLOT else ring.take(slot)
                small = payload[number * small_bytes : (number + 1) * small_bytes]
                found = read(row[:-1], small, image)
            emptied += image is not None
            if 2 * emptied >= ring.slots:
                worker.send({"free": emptied}, stall_s=limits().stall_s)
                emptied = 0
            try:
                yield found
            except GeneratorExit:
                with suppress(WorkerFault):
                    worker.leave_off()
                raise


def _rows(header: Header, payload: bytes, small_bytes: int) -> list[list[Any]]:
    rows = header["rows"]
    if type(rows) is not list or not 0 < len(rows) <= ROWS:
        raise ValueError("no rows where some are due")
    if any(type(row) is not list or not row for row in rows) or len(payload) != len(rows) * small_bytes:
        raise ValueError("rows that are none")
    return rows


def ticked() -> Read[tuple[int, Frame]]:
    """Reads rows of frames: (tick, frame); a row without a picture shows the last one again."""
    last: Frame | None = None

    def read(row: list[Any], _: bytes, image: Image | None) -> tuple[int, Frame]:
        nonlocal last
        index, time_s, pts, damaged, tick = row
        if image is not None:
            last = Frame(whole(index, 0), fraction(time_s), _pts(pts), image, damaged == 1)
        if last is None:
            raise ValueError("no picture where one is due")
        return whole(tick, 0), last

    return read


def walked(small_shape: tuple[int, int]) -> Read[WalkedFrame]:
    """Reads rows of a walk, each with a small picture of `small_shape`, or zeros where it was left out."""

    def read(row: list[Any], payload: bytes, image: Image | None) -> WalkedFrame:
        index, time_s, pts, damaged, lasts_s, seen, first, stop = row
        ticks = range(whole(first, 0), whole(stop, 0, limits().frames))
        if (image is None) == bool(ticks):
            raise ValueError("a picture that is not due, or none")
        small = np.frombuffer(payload, np.uint8).reshape(small_shape) if seen == 1 else None
        lasts = fraction(lasts_s)
        return WalkedFrame(
            whole(index, 0), fraction(time_s), _pts(pts), damaged == 1, lasts, small, ticks, image
        )

    return read


def _pts(value: Any) -> int | None:
    return None if value == NO_PTS else whole(value)
