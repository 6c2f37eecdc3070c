"""Decoding from keyframes on, by an index of packets that every frame is held against.

The threads of one decoder wait for each other and take pictures from each other. Parts of a file that begin
with a keyframe need nothing of each other, so decoders of one thread each do them in less time:

    thread 1   [part 0        ][part 2        ][part 4 ...
    thread 2   [part 1        ][part 3        ]
    caller      part 0, as it comes, part 1, ...

Frames that a `Thinning` leaves out come with the others, without a picture.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import pairwise
from queue import Empty, Queue
from typing import Generic, TypeVar

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vpipe.handover import LOOK_S, offer
from vpipe.media.decode import DecodeCounts, decode_frames
from vpipe.media.disposable import Disposable
from vpipe.media.pulse import beat
from vpipe.media.thinning import REMEMBERED, Thinning
from vpipe.media.timeline import PacketScan

T = TypeVar("T")

PART = 48  # frames, at least: what a jump costs is little beside
AT_ONCE = 8  # results that are handed over together
AHEAD = 64  # of these, from one part, that wait for the parts before it


class Mismatch(Exception):
    """The decoder gave something else than the index promised."""


def follow(
    container: InputContainer, stream: VideoStream, scan: PacketScan, start: int, counts: DecodeCounts
) -> Generator[tuple[int, av.VideoFrame], None, None]:
    """(index, picture) from `start` on, 0 or one of `scan.keys`. Raises Mismatch where they disagree."""
    for index, picture in follow_thinned(container, stream, scan, start, counts, None):
        if picture is None:
            raise Mismatch
        yield index, picture


def follow_thinned(
    container: InputContainer,
    stream: VideoStream,
    scan: PacketScan,
    start: int,
    counts: DecodeCounts,
    thinning: Thinning | None,
) -> Generator[tuple[int, av.VideoFrame | None], None, None]:
    """`follow`; frames that are left out have no picture."""
    if start:
        try:
            container.seek(scan.pts[start], stream=stream)
        except av.FFmpegError:
            raise Mismatch from None
    index, disposable = start, Disposable(stream)
    coming: deque[tuple[int, av.VideoFrame | None]] = deque()  # first one whose packet was not seen yet

    def wanted(packet: Packet[VideoStream]) -> bool:
        return (
            thinning is None or packet.pts is None or not thinning.leaves_out(packet.pts, disposable(packet))
        )

    def known() -> Iterator[tuple[int, av.VideoFrame | None]]:
        while coming:
            place, picture = coming[0]
            if picture is None and (thinning is None or scan.pts[place] not in thinning.left):
                return
            if picture is None and thinning is not None:
                thinning.left.discard(scan.pts[place])
            yield coming.popleft()

    for picture, damaged in decode_frames(container, stream, counts, wanted):
        if picture.pts is None:
            raise Mismatch
        if index < len(scan.pts) and picture.pts < scan.pts[index]:
            continue  # from before the keyframe: a jump lands early, or leading pictures
        while thinning is not None and index < len(scan.pts) and scan.pts[index] < picture.pts:
            coming.append((index, None))
            index += 1
        if index == len(scan.pts) or picture.pts != scan.pts[index] or damaged:
            raise Mismatch
        coming.append((index, picture))
        index += 1
        yield from known()
        if len(coming) > REMEMBERED:
            raise Mismatch  # lost, and nobody said so
    yield from known()
    if coming:
        raise Mismatch


def parts(scan: PacketScan) -> list[range]:
    """The frames of a safe scan in parts that begin with a keyframe; what is left over goes with the last."""
    begins = [0]
    for key in scan.keys:
        if key - begins[-1] >= PART and len(scan.pts) - key >= PART:
            begins.append(key)
    return [range(begin, end) for begin, end in pairwise([*begins, len(scan.pts)])]


class PartsAhead(Generic[T]):
    """What `of` makes of every frame of a safe scan, in order, worked out by `threads` threads; 0: by the
    caller's, in one go.

    opened: a container and its stream, made for each thread. of: makes the function of a thread, which gets
    (index, picture). thinning: makes what leaves frames out of a part; these have no picture. When all have
    come, `counts` are those of the whole pass.
    """

    def __init__(
        self,
        scan: PacketScan,
        opened: Callable[[], tuple[InputContainer, VideoStream]],
        of: Callable[[], Callable[[int, av.VideoFrame | None], T]],
        threads: int,
        thinning: Callable[[], Thinning | None] = lambda: None,
    ) -> None:
        self.counts = DecodeCounts()
        self._scan, self._opened, self._of, self._thinning = scan, opened, of, thinning
        self._parts = parts(scan)
        self._results: dict[int, Queue[list[T] | BaseException]] = {}  # of parts under way
        self._sizes: dict[int, dict[tuple[int, int], None]] = {}  # of their pictures, as stored
        self._next = iter(range(len(self._parts)))
        self._pictures = 0  # so far, of all threads: about
        self._lock, self._stop = threading.Lock(), threading.Event()
        count = min(threads, len(self._parts))
        self._threads = [threading.Thread(target=self._work, name="vpipe-part") for _ in range(count)]

    def __iter__(self) -> Iterator[T]:
        """Raises Mismatch, and what `opened` and `of` raise."""
        if not self._threads:
            yield from self._alone()
            return
        try:
            self._start()
            for number, part in enumerate(self._parts):
                results, waiting = self._queue(number), len(part)
                while waiting:
                    found = self._wait(results)
                    if isinstance(found, BaseException):
                        raise found
                    waiting -= len(found)
                    yield from found
                self.counts.frames += len(part)
                self.counts.sizes |= self._sizes.pop(number)
                del self._results[number]
        finally:
            self._stop.set()
            for thread in self._threads:
                if thread.ident is not None:
                    thread.join()

    def _alone(self) -> Iterator[T]:
        container, stream = self._opened()
        with container:
            of, index = self._of(), -1
            followed = follow_thinned(container, stream, self._scan, 0, self.counts, self._thinning())
            with closing(followed) as frames:
                for index, picture in frames:
                    yield of(index, picture)
        self.counts.frames = index + 1
        if index + 1 != len(self._scan.pts):
            raise Mismatch

    def _wait(self, results: Queue[list[T] | BaseException]) -> list[T] | BaseException:
        while True:
            before = self._pictures
            try:
                found = results.get(timeout=LOOK_S)
            except Empty:
                if self._pictures != before:  # slow, and no hang
                    beat()
                continue
            beat()
            return found

    def _start(self) -> None:
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:  # no room for its stack under the limit
            raise MemoryError from error

    def _queue(self, number: int) -> Queue[list[T] | BaseException]:
        with self._lock:
            return self._results.setdefault(number, Queue(AHEAD))

    def _work(self) -> None:
        number = self._take()
        if number == len(self._parts):
            return
        try:
            container, stream = self._opened()
            with container:
                of = self._of()
                while number < len(self._parts):
                    self._decode(container, stream, number, of)
                    number = self._take()
        except BaseException as error:
            offer(self._queue(number), error, self._stop)

    def _take(self) -> int:
        with self._lock:
            return len(self._parts) if self._stop.is_set() else next(self._next, len(self._parts))

    def _decode(
        self,
        container: InputContainer,
        stream: VideoStream,
        number: int,
        of: Callable[[int, av.VideoFrame | None], T],
    ) -> None:
        part, results, last = self._parts[number], self._queue(number), number + 1 == len(self._parts)
        found: list[T] = []
        index, counts = part.start, DecodeCounts()
        self._sizes[number] = counts.sizes
        thinning = self._thinning()
        with closing(follow_thinned(container, stream, self._scan, index, counts, thinning)) as frames:
            for index, picture in frames:
                found.append(of(index, picture))
                self._pictures += 1
                if index + 1 == part.stop and not last:  # after the last one nothing may come
                    break
                if len(found) == AT_ONCE:
                    if not offer(results, found, self._stop):
                        return
                    found = []
        if index + 1 != part.stop:
            raise Mismatch
        offer(results, found, self._stop)
