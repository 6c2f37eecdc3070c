"""Decoding from keyframes on, by an index of packets that every frame is held against.

The threads of one decoder wait for each other and take pictures from each other. Parts of a file that begin
with a keyframe need nothing of each other, so decoders of one thread each do them in less time:

    thread 1   [part 0        ][part 2        ][part 4 ...
    thread 2   [part 1        ][part 3        ]
    caller      part 0, as it comes, part 1, ...
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from itertools import pairwise
from queue import Full, Queue
from typing import Generic, TypeVar

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vpipe.media.decode import DecodeCounts, decode_frames
from vpipe.media.pulse import beat
from vpipe.media.timeline import PacketScan

T = TypeVar("T")

PART = 48  # frames, at least: what a jump costs is little beside
AT_ONCE = 8  # results that are handed over together
AHEAD = 64  # of these, from one part, that wait for the parts before it
LOOK_S = 0.1  # how often a waiting thread looks whether it should stop


class Mismatch(Exception):
    """The decoder gave something else than the index promised."""


def follow(
    container: InputContainer, stream: VideoStream, scan: PacketScan, start: int, counts: DecodeCounts
) -> Generator[tuple[int, av.VideoFrame], None, None]:
    """(index, picture) from `start` on, 0 or one of `scan.keys`. Raises Mismatch where they disagree."""
    if start:
        try:
            container.seek(scan.pts[start], stream=stream)
        except av.FFmpegError:
            raise Mismatch from None
    index = start
    for picture, damaged in decode_frames(container, stream, counts):
        if picture.pts is None:
            raise Mismatch
        if index < len(scan.pts) and picture.pts < scan.pts[index]:
            continue  # from before the keyframe: a jump lands early, or leading pictures
        if index == len(scan.pts) or picture.pts != scan.pts[index] or damaged:
            raise Mismatch
        yield index, picture
        index += 1


def parts(scan: PacketScan) -> list[range]:
    """The frames of a safe scan in parts that begin with a keyframe; what is left over goes with the last."""
    begins = [0]
    for key in scan.keys:
        if key - begins[-1] >= PART and len(scan.pts) - key >= PART:
            begins.append(key)
    return [range(begin, end) for begin, end in pairwise([*begins, len(scan.pts)])]


class PartsAhead(Generic[T]):
    """What `of` makes of every frame of a safe scan, in order, worked out by `threads` threads.

    opened: a container and its stream, made for each thread. of: makes the function of a thread, which gets
    (index, picture). When all have come, `counts` are those of the whole pass.
    """

    def __init__(
        self,
        scan: PacketScan,
        opened: Callable[[], tuple[InputContainer, VideoStream]],
        of: Callable[[], Callable[[int, av.VideoFrame], T]],
        threads: int,
    ) -> None:
        self.counts = DecodeCounts()
        self._scan, self._opened, self._of = scan, opened, of
        self._parts = parts(scan)
        self._results: list[Queue[list[T] | BaseException]] = [Queue(AHEAD) for _ in self._parts]
        self._part_counts = [DecodeCounts() for _ in self._parts]
        self._next = iter(range(len(self._parts)))
        self._taking, self._stop = threading.Lock(), threading.Event()
        count = min(threads, len(self._parts))
        self._threads = [threading.Thread(target=self._work, name="vpipe-part") for _ in range(count)]

    def __iter__(self) -> Iterator[T]:
        """Raises Mismatch, and what `opened` and `of` raise."""
        for thread in self._threads:
            thread.start()
        try:
            for part, results, counts in zip(self._parts, self._results, self._part_counts, strict=True):
                waiting = len(part)
                while waiting:
                    found = results.get()
                    beat()
                    if isinstance(found, BaseException):
                        raise found
                    waiting -= len(found)
                    yield from found
                self.counts.frames += len(part)
                self.counts.sizes |= counts.sizes
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _work(self) -> None:
        number = 0
        try:
            container, stream = self._opened()
            with container:
                of = self._of()
                while (number := self._take()) < len(self._parts):
                    self._decode(container, stream, number, of)
        except BaseException as error:
            for results in self._results[number:]:  # whichever the caller waits for
                self._put(results, error)

    def _take(self) -> int:
        with self._taking:
            return len(self._parts) if self._stop.is_set() else next(self._next, len(self._parts))

    def _decode(
        self,
        container: InputContainer,
        stream: VideoStream,
        number: int,
        of: Callable[[int, av.VideoFrame], T],
    ) -> None:
        part, results, last = self._parts[number], self._results[number], number + 1 == len(self._parts)
        found: list[T] = []
        index = part.start
        with closing(follow(container, stream, self._scan, index, self._part_counts[number])) as frames:
            for index, picture in frames:
                found.append(of(index, picture))
                if index + 1 == part.stop and not last:  # after the last one nothing may come
                    break
                if len(found) == AT_ONCE:
                    if not self._put(results, found):
                        return
                    found = []
        if index + 1 != part.stop:
            raise Mismatch
        self._put(results, found)

    def _put(self, results: Queue[list[T] | BaseException], found: list[T] | BaseException) -> bool:
        """Whether it was put: False where nobody wants it any more."""
        while not self._stop.is_set():
            try:
                results.put(found, timeout=LOOK_S)
                return True
            except Full:
                continue
        return False
