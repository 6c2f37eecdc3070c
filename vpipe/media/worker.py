"""The decoder process: answers what `FrameSource` asks, with `FrameReader`, and may crash in its place.

request                              answer
open                                 info, output_size; with `stream`, of what comes on a descriptor
timeline                             the timeline, its arrays as payload
frames | resample | select           rows of a frame each, the pictures in the shared ring
walk                                 the same for every frame, its small picture as payload, few in the ring

While it decodes it says `tick` now and then, so that who waits can tell work from a hang. Each answer ends
with `done` and the warnings so far; `error` [code, message] and `bug` (a traceback) end it as well.
"""

from __future__ import annotations

import os
import time
import traceback
from array import array
from collections import OrderedDict
from collections.abc import Generator
from contextlib import closing
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vpipe.errors import InputError
from vpipe.limits import Limits, limits, set_limits
from vpipe.media import pulse
from vpipe.media.first_look import display_name, refuse_count
from vpipe.media.frame import Frame
from vpipe.media.reading import FrameReader
from vpipe.media.ring import Ring
from vpipe.media.wire import NO_PTS, NO_SLOT, ROWS, from_fraction, from_info, from_timeline, from_warnings
from vpipe.workers import Channel, address_space_bytes, restrict

if TYPE_CHECKING:
    from vpipe.media.stream_reader import StreamReader

READERS_KEPT = 4  # whose timelines need not be made again
TICK_S = 0.25
HOLD_S = 0.05  # that a frame waits for others to be sent with it
RETIRE_AFTER = 1000  # files: what a native library leaks goes with the process


# What is known of a frame, its small picture, and the one that goes into the ring.
_Row = tuple[list[Any], bytes, NDArray[np.uint8] | None]


class _Stopped(Exception):
    """Nobody wants the rest."""


def main(channel: Channel) -> None:
    """Serve requests until the other end goes."""
    first, _ = channel.receive()
    restrict(int(first["memory_bytes"]))
    decoder = _Decoder(channel)
    pulse.listen(decoder.tick)
    while True:
        decoder.answer(*channel.receive())


class _Decoder:
    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._readers: OrderedDict[int, FrameReader | StreamReader] = OrderedDict()
        self._opened = 0
        self._free = 0  # slots of the ring
        self._rows: list[list[Any]] = []  # that wait to be sent, and their small pictures
        self._small: list[bytes] = []
        self._size_at_start = address_space_bytes()
        self._ticked = time.monotonic()

    def tick(self) -> None:
        """With every packet: say that work goes on, and see whether it is still wanted."""
        now = time.monotonic()
        if now - self._ticked < TICK_S:
            return
        self._ticked = now
        while self._channel.waiting():
            self._hear()
        if self._rows:
            self._flush()
        else:
            self._channel.send({"tick": True})

    def _hear(self) -> None:
        """A word in the middle of a stream: slots are free again, or nobody wants the rest."""
        request, _ = self._channel.receive()
        if "stop" in request:
            raise _Stopped
        self._free += request["free"]

    def answer(self, request: dict[str, Any], payload: bytes) -> None:
        reader: FrameReader | StreamReader | None = None
        said: dict[str, Any]
        data = b""
        if "stop" in request or "free" in request:
            return  # of a stream that had ended by itself
        ring = self._ring(request)
        self._ticked = time.monotonic()
        try:
            set_limits(Limits(**request["limits"]))
            if request["cwd"] is not None:
                os.chdir(request["cwd"])
            reader = self._reader(request, payload)
            said = {}
            if request["op"] == "open":
                said = {"info": from_info(reader.info), "output_size": list(reader.output_size)}
            elif request["op"] == "timeline" and isinstance(reader, FrameReader):
                said, data = from_timeline(reader.timeline(exact=request["exact"]))
            elif ring is not None:
                self._stream(_rows(reader, request, payload), ring)
        except _Stopped:
            said = {}
            self._rows, self._small = [], []
        except InputError as fault:
            said = {"error": [fault.code, fault.message[:4000]]}
        except (MemoryError, ImportError):  # there may be no room for a library that is loaded late
            name, most = display_name(request["path"]), limits().memory_bytes
            text = f"{name}: takes more than {most >> 20} MiB to decode: raise the limit with --max-memory"
            said = {"error": ["too_large", text]}
        except Exception:
            said = {"bug": traceback.format_exc()[-4000:]}
        finally:
            if ring is not None:
                ring.close()
        self._flush()
        warnings = [] if reader is None else from_warnings(reader.warnings)
        self._channel.send({"done": True, "warnings": warnings, "retire": self._tired()} | said, data)

    def _reader(self, request: dict[str, Any], payload: bytes) -> FrameReader | StreamReader:
        """The reader of this source, made again where it is not here any more."""
        number = request["source"]
        if "stream" in request:
            from vpipe.media.stream_reader import StreamReader  # start-up: only streams need it

            self._readers[number] = StreamReader(self._channel.take_fd(), payload, request["stream"])
        elif number not in self._readers:
            size = request["size"]
            self._readers[number] = FrameReader(
                request["path"],
                short_side_px=request["short_side_px"],
                size=None if size is None else (size[0], size[1]),
                color=request["color"],
                threads=request["threads"],
            )
            self._opened += 1
            if len(self._readers) > READERS_KEPT:
                self._readers.popitem(last=False)
        self._readers.move_to_end(number)
        return self._readers[number]

    def _ring(self, request: dict[str, Any]) -> Ring | None:
        if "shape" not in request:
            return None
        ring = Ring(tuple(request["shape"]), request["slots"], self._channel.take_fd())
        ring.close_fd()
        return ring

    def _stream(self, rows: Generator[_Row], ring: Ring) -> None:
        """Send rows, several at once, as many pictures ahead of the reader as the ring has slots."""
        self._free, slot = ring.slots, -1
        at_once = min(ROWS, ring.slots // 2)  # one half is filled while the other is emptied
        with closing(rows):
            for row, small, image in rows:
                if image is not None:
                    if not self._free:
                        self._flush()  # the reader may have nothing left but these
                    while not self._free:
                        self._hear()
                    slot = (slot + 1) % ring.slots
                    self._free -= 1
                    ring.put(slot, image)
                self._rows.append([*row, NO_SLOT if image is None else slot])
                self._small.append(small)
                if len(self._rows) >= at_once or time.monotonic() - self._ticked > HOLD_S:
                    self._flush()

    def _flush(self) -> None:
        """Send the rows that wait."""
        if self._rows:
            self._channel.send({"rows": self._rows}, b"".join(self._small))
            self._rows, self._small = [], []
            self._ticked = time.monotonic()

    def _tired(self) -> bool:
        grown = address_space_bytes() - self._size_at_start
        return self._opened >= RETIRE_AFTER or grown > limits().memory_bytes // 2


def _rows(reader: FrameReader | StreamReader, request: dict[str, Any], payload: bytes) -> Generator[_Row]:
    """What a streaming request sends."""
    if request["op"] == "walk":
        # Start-up: OpenCV, which hardly anything else here needs.
        from vpipe.media.shots import HEIGHT, WIDTH
        from vpipe.media.walking import look

        nothing = bytes(HEIGHT * WIDTH)
        fps = request["fps"] and Fraction(*request["fps"])
        with closing(look(reader, fps)) as frames:
            for one in frames:
                refuse_count(reader.path, one.ticks.stop)
                time_s, lasts_s = from_fraction(one.time_s), from_fraction(one.lasts_s)
                ticks = [one.ticks.start, one.ticks.stop]
                seen = one.small is not None
                told = [one.index, time_s, _pts(one.pts), int(one.damaged), lasts_s, int(seen), *ticks]
                yield told, nothing if one.small is None else one.small.tobytes(), one.image
        return
    assert isinstance(reader, FrameReader)
    last = None
    for tick, frame in _frames(reader, request, payload):
        told = [frame.index, from_fraction(frame.time_s), _pts(frame.pts), int(frame.damaged), tick]
        yield told, b"", None if frame is last else frame.image
        last = frame


def _pts(value: int | None) -> int:
    return NO_PTS if value is None else value


def _frames(reader: FrameReader, request: dict[str, Any], payload: bytes) -> Generator[tuple[int, Frame]]:
    """(tick, frame) of a streaming request; the tick is the frame's place where the request has none."""
    start, end = (None if t is None else Fraction(*t) for t in (request["start_s"], request["end_s"]))
    if request["op"] == "resample":
        yield from reader.resample(Fraction(*request["fps"]), start, end)
    elif request["op"] == "select":
        yield from enumerate(reader.select(array("q", payload)))
    else:
        yield from enumerate(reader.frames(start, end, every=request["every"]))
