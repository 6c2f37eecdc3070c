"""FrameReader: every way to read frames, all of which agree on which frame is which and when it is shown.

It decodes in this process. `FrameSource` is the same by way of a worker process.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import groupby
from math import floor
from typing import TypeVar

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vpipe.errors import InputError, Warning_
from vpipe.limits import limits
from vpipe.media.convert import Converter
from vpipe.media.decode import BYTES_A_PIXEL, DecodeCounts, decode_frames
from vpipe.media.disposable import Disposable
from vpipe.media.first_look import display_name, refuse_count, refuse_size
from vpipe.media.frame import Frame
from vpipe.media.indexed import Mismatch, PartsAhead, follow, parts
from vpipe.media.info import VideoInfo
from vpipe.media.opening import open_container, pick_stream
from vpipe.media.packets import INDEXED_CONTAINERS, scan_packets, timeline_by_decoding
from vpipe.media.probe import read_info
from vpipe.media.reports import Reports
from vpipe.media.thinning import Spares, Thinning, may_be_thinned
from vpipe.media.timeline import (
    EXACT_BUDGET_PX,
    PacketScan,
    Timeline,
    Times,
    check_indices,
    first_tick,
    timeline_from_frames,
    timeline_from_packets,
)
from vpipe.media.upright import Color, scaled_size

T = TypeVar("T")

SEEK_GAIN = 8  # frames that a jump to a keyframe must save
LARGE_FRAME_PX = 1280 * 720  # from here on, frame threads pay; below, one thread costs the least CPU
# Decoders side by side have their own pictures: those others refer to, and those not shown yet.
DECODERS_PICTURES = 16  # at most
SHARE_OF_MEMORY = 0.5  # of the limit
STARVED_SHARE = 0.1  # of packets: where more got no memory, it is not the file that is to blame


@dataclass(frozen=True)
class RawFrame:
    """A frame before conversion, as `walk` gives it.

    picture: the decoder's. spare: a file would be read without it (see `thinning`).
    """

    index: int
    time_s: Fraction
    pts: int | None
    picture: av.VideoFrame
    damaged: bool
    spare: bool = False


class FrameReader:
    """Frames of one video file, upright, scaled in the decoder's own scaler.

    short_side_px: scale so that the shorter side has this many pixels. size: (width, height) to stretch to;
    much smaller pictures are made a faster way, 0.2 grey levels off in the mean (see `Converter`).
    color: "rgb" or "gray". threads: of the decoder, at most; small frames are always decoded by one.

    Frames are numbered as decoded, and a frame's time is its PTS minus the first PTS; index / rate only where
    PTS are missing, do not rise or leap, with the warning `timestamps_repaired`. Every method opens the file
    anew, so any number of iterators may live side by side. `warnings` grows as decoding reports.

    Raises InputError as `read_info` does, and too_large for an absurd output size or number of frames;
    MemoryError.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        short_side_px: int | None = None,
        size: tuple[int, int] | None = None,
        color: Color = "rgb",
        threads: int = 1,
    ) -> None:
        if short_side_px is not None and size is not None:
            raise ValueError("give short_side_px or size, not both")
        self.path = path
        self.info: VideoInfo = read_info(path)
        self.output_size = (self.info.width, self.info.height)
        if short_side_px is not None:
            self.output_size = scaled_size(*self.output_size, short_side_px)
        elif size is not None:
            self.output_size = size
        refuse_size(path, *self.output_size)
        self._color: Color = color
        self._into = size  # of a network: what is kept, frames and flow, stays the same to the bit
        large = self.info.width * self.info.height >= LARGE_FRAME_PX
        self._threads = threads if large else 1
        self._scan: PacketScan | None = None
        self._timeline: Timeline | None = None
        self._told = Reports(self.info)

    @property
    def warnings(self) -> list[Warning_]:
        """What is known by now that a user should know."""
        return self._told.warnings

    # Times

    def timeline(self, *, exact: bool = False) -> Timeline:
        """Times of all frames. Reads all packets; decodes everything where packets cannot be trusted, where
        the video is so short that counting what really decodes costs nothing, or where `exact` asks for it.
        """
        if exact and (self._timeline is None or not self._timeline.exact):
            self._timeline = self._decoded_timeline()
        if self._timeline is None:
            scan = self._packet_scan()
            pixels = len(scan.pts) * self.info.width * self.info.height
            if scan.safe and pixels > EXACT_BUDGET_PX:
                self._timeline = timeline_from_packets(scan, self.info)
                self._told.times(self._timeline)
            else:
                self._timeline = self._decoded_timeline()
        return self._timeline

    def _packet_scan(self) -> PacketScan:
        if self._scan is None:
            self._scan = scan_packets(self.path, self.info)
        return self._scan

    def _decoded_timeline(self) -> Timeline:
        counts = DecodeCounts()
        timeline = timeline_by_decoding(
            self.path, self.info, trusted=self._packet_scan().safe, threads=self._threads, counts=counts
        )
        if not len(timeline):
            raise InputError("no_frames", f"{display_name(self.path)}: no decodable frame")
        self._told.of_pass(counts)
        self._told.end(counts, timeline.duration_s)
        self._told.times(timeline)
        return timeline

    # Frames in order

    def frames(
        self, start_s: Fraction | None = None, end_s: Fraction | None = None, *, every: int = 1
    ) -> Iterator[Frame]:
        """Every frame with start_s <= time < end_s, in order; with `every`, those whose index is a multiple
        of it, converting no other."""
        if start_s is not None and start_s > 0:
            times = self.timeline().times
            stop = len(times) if end_s is None else bisect_left(times, end_s)
            first = -(-bisect_left(times, start_s) // every) * every
            yield from self.select(range(first, stop, every))
            return
        convert = self.converter()
        for raw in self.walk():
            if end_s is not None and raw.time_s >= end_s:
                return
            if raw.index % every == 0:
                yield _finish(raw, convert)

    def resample(
        self, fps: Fraction, start_s: Fraction | None = None, end_s: Fraction | None = None
    ) -> Iterator[tuple[int, Frame]]:
        """(k, frame shown at k / fps) for start_s <= k / fps < end_s, decoding once and in order.

        The same frames as `grid`: the last one whose time is <= k / fps. Memory stays flat. One Frame may
        come for several k.
        """
        k = 0 if start_s is None else max(0, first_tick(start_s, fps))
        stop = None if end_s is None else first_tick(end_s, fps)
        if k > 0:
            refuse_count(self.path, floor(self.timeline().times[-1] * fps))
            ticks = self.timeline().grid(fps)[k:stop]
            yield from enumerate(self.select(ticks), start=k)
            return
        convert = self.converter()
        held: RawFrame | None = None
        for raw in self.walk():
            if held is not None:
                until = first_tick(raw.time_s, fps)
                refuse_count(self.path, until)
                yield from _repeat(held, k, until if stop is None else min(until, stop), convert)
                k = max(k, until)
            if stop is not None and k >= stop:
                return
            held = raw
        if held is not None:
            until = floor(held.time_s * fps) + 1
            yield from _repeat(held, k, until if stop is None else min(until, stop), convert)

    def walk(self, fps: Fraction | None = None) -> Iterator[RawFrame]:
        """Every frame in order, not converted, with times that agree with `timeline`; at the end, the
        timeline is known if it was not before.

        fps: as in `in_parts`; what that leaves out is marked as spare.
        """
        if self._timeline is None and not self._packet_scan().safe:
            self._timeline = self._decoded_timeline()  # only a look at all PTS tells which times hold
        from_index = self._timeline is not None and self._timeline.from_index
        unit = self.info.time_base
        counts = DecodeCounts()
        index, origin, time_s = 0, None, Fraction(0)
        seen: list[int | None] | None = [] if self._timeline is None else None
        last_duration = Fraction(0)
        told = self._thinned(fps) is not None and self.info.container in INDEXED_CONTAINERS
        try:
            with open_container(self.path) as container:
                stream = pick_stream(container, self.path, self._threads, into=self._into)
                spares = Spares(Disposable(stream), told=told)
                for picture, damaged in decode_frames(container, stream, counts, spares.see):
                    if not index:
                        spares.begin(fps, unit, picture.pts)
                    if from_index:
                        time_s = index / self.info.rate
                    elif picture.pts is not None:
                        origin = picture.pts if origin is None else origin
                        time_s = max(time_s, (picture.pts - origin) * unit)
                    if seen is not None:
                        seen.append(picture.pts)
                        last_duration = (picture.duration or 0) * unit
                    spare = spares.spare(picture.pts, damaged=damaged or counts.errors > 0)
                    yield RawFrame(index, time_s, picture.pts, picture, damaged, spare)
                    index += 1
                    refuse_count(self.path, index)
        finally:
            self._told.of_pass(counts)
        if counts.starved > STARVED_SHARE * counts.packets:
            raise MemoryError
        if not index:
            why = f"{counts.errors} packets were refused: broken, or --max-memory is too low"
            raise InputError("no_frames", f"{display_name(self.path)}: no decodable frame ({why})")
        if seen and self._timeline is None:
            self._timeline = timeline_from_frames(seen, last_duration, self.info, trusted=True)
            self._told.times(self._timeline)
        self._told.end(counts, time_s + 1 / self.info.rate)

    def in_parts(
        self, of: Callable[[Times], Callable[[int, av.VideoFrame | None], T]], fps: Fraction | None = None
    ) -> Iterator[T]:
        """What `of` makes of the index and picture of every frame of `walk`, in order, worked out by several
        threads.

        of: makes the function of a thread; it gets the times of all frames. fps: where frames serve this grid
        and cuts alone, and become much smaller, some come without picture (see `thinning`). Raises Mismatch,
        at once or when some have come, where the file cannot be read so, or it does not pay; then `walk`
        tells.
        """
        scan, thinned = self._packet_scan(), self._thinned(fps)
        known = len(scan.pts) if self._timeline is None else len(self._timeline)
        if not scan.safe or known != len(scan.pts):
            raise Mismatch
        one = self._threads == 1 or len(parts(scan)) == 1 or not self._room_for(self._threads)
        if one and thinned is None:
            raise Mismatch
        times = Times(scan.pts, self.info.time_base)
        lasts_s = Fraction(0)  # of the last frame

        def opened() -> tuple[InputContainer, VideoStream]:
            container = open_container(self.path)
            threads = self._threads if one else 1
            return container, pick_stream(container, self.path, threads, into=self._into)

        def made() -> Callable[[int, av.VideoFrame | None], T]:
            function = of(times)

            def of_one(index: int, picture: av.VideoFrame | None) -> T:
                nonlocal lasts_s
                if index + 1 == len(times) and picture is not None:
                    lasts_s = (picture.duration or 0) * self.info.time_base
                return function(index, picture)

            return of_one

        def thinning() -> Thinning | None:
            return Thinning(thinned, self.info.time_base, scan.pts[0]) if thinned else None

        decoded = PartsAhead(scan, opened, made, 0 if one else self._threads, thinning)
        yield from decoded
        if self._timeline is None and thinned is not None:
            self._timeline = timeline_from_packets(scan, self.info)
            self._told.times(self._timeline)
        elif self._timeline is None:
            self._timeline = timeline_from_frames(list(scan.pts), lasts_s, self.info, trusted=True)
            self._told.times(self._timeline)
        self._told.of_pass(decoded.counts)
        self._told.end(decoded.counts, times[-1] + 1 / self.info.rate)

    def _thinned(self, fps: Fraction | None) -> Fraction | None:
        """The grid for which frames may be left out; None: they may not."""
        return fps if may_be_thinned(self._into, (self.info.width, self.info.height), fps) else None

    def _room_for(self, decoders: int) -> bool:
        pictures = decoders * DECODERS_PICTURES * self.info.width * self.info.height * BYTES_A_PIXEL
        return pictures <= limits().memory_bytes * SHARE_OF_MEMORY

    # Chosen frames

    def select(self, indices: Sequence[int]) -> Iterator[Frame]:
        """One frame for each of the ascending `indices` of `timeline`, converting only those.

        Jumps to keyframes where that is safe and saves work, and checks every PTS on the way; at the first
        disagreement it goes back to decoding in order. Where frames are lost to damage that the timeline did
        not know of, the frame shown at that time takes the place, marked damaged.

        Raises ValueError for indices that do not ascend or are out of range.
        """
        timeline = self.timeline()
        if not indices:
            return
        check_indices(indices, len(timeline))
        convert = self.converter()
        done = 0
        try:
            for raw in self._jump(indices, timeline):
                frame = _finish(raw, convert)
                while done < len(indices) and indices[done] == raw.index:
                    yield frame
                    done += 1
        except Mismatch:
            yield from self._select_in_order(indices[done:], timeline, convert)

    def _jump(self, targets: Sequence[int], timeline: Timeline) -> Iterator[RawFrame]:
        """The target frames by way of the keyframe index. Raises Mismatch when it does not hold."""
        scan = self._packet_scan()
        if not scan.safe or len(scan.pts) != len(timeline):
            raise Mismatch
        with open_container(self.path) as container:
            stream = pick_stream(container, self.path, self._threads, into=self._into)
            counts = DecodeCounts()
            followed = follow(container, stream, scan, 0, counts)
            position = 0  # the index that comes next
            for target, _ in groupby(targets):
                key = scan.keys[bisect_right(scan.keys, target) - 1]
                if key - position >= SEEK_GAIN:
                    followed.close()
                    followed = follow(container, stream, scan, key, counts)
                for index, picture in followed:
                    if index == target:
                        yield RawFrame(target, timeline.times[target], picture.pts, picture, False)
                        break
                else:
                    raise Mismatch
                position = target + 1
            self._told.sizes(counts)

    def _select_in_order(
        self, targets: Sequence[int], timeline: Timeline, convert: Converter
    ) -> Iterator[Frame]:
        """The target frames by decoding everything; by time where the timeline was not counted."""
        done = 0
        held: RawFrame | None = None
        for raw in self.walk():
            if held is not None:
                until = raw.index if timeline.exact else bisect_left(timeline.times, _clock(raw, timeline))
                stop = bisect_left(targets, until, lo=done)
                yield from self._stand_in(held, targets[done:stop], timeline, convert)
                done = stop
                if done == len(targets):
                    return
            held = raw
        if held is not None:
            yield from self._stand_in(held, targets[done:], timeline, convert)

    def _stand_in(
        self, held: RawFrame, targets: Sequence[int], timeline: Timeline, convert: Converter
    ) -> Iterator[Frame]:
        """`held` for each target; damaged where it is not the very frame."""
        if not targets:
            return
        image = convert(held.picture)
        for target in targets:
            same = held.index == target if timeline.exact else held.pts == timeline.pts[target]
            yield Frame(target, timeline.times[target], held.pts, image, held.damaged or not same)

    def converter(self) -> Converter:
        """From the pictures of `walk` to arrays as the other methods give them."""
        exact = self._into is None
        return Converter(self.output_size, self._color, self.info.orientation, exact=exact)


def _clock(raw: RawFrame, timeline: Timeline) -> Fraction:
    """A frame's time counted from the timeline's first frame, which may itself be lost."""
    if raw.pts is None:
        return raw.time_s
    return (raw.pts - (timeline.pts[0] or 0)) * timeline.times.unit


def _finish(raw: RawFrame, convert: Converter) -> Frame:
    return Frame(raw.index, raw.time_s, raw.pts, convert(raw.picture), raw.damaged)


def _repeat(held: RawFrame, start: int, stop: int, convert: Converter) -> Iterator[tuple[int, Frame]]:
    """(k, frame) for k in start .. stop-1; converts only if there is any."""
    if start < stop:
        frame = _finish(held, convert)
        for k in range(start, stop):
            yield k, frame
