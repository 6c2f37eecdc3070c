"""Every frame looked at once: a small grey picture of each, the full one of those on a grid of times.

Of large videos some frames are left out (see `thinning`), none of them one of the grid.

A player shows a frame until the next one comes, so what is on the screen at k / fps is up to a frame old, and
where frames come unevenly, motion seen through the grid stutters. To judge motion the grid takes the frame
nearest in time, half as far off. No frame is taken more than half a step of the grid before it is shown: a
picture that stands for long stands until then.

    frames   a   b       c d e   f                                       g
    grid     |       |       |       |       |       |       |       |       |
             a       b       d       f       f       f       f       f       g
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from math import floor

import av

from vpipe.media.convert import Converter
from vpipe.media.frame import WalkedFrame
from vpipe.media.indexed import Mismatch
from vpipe.media.reading import FrameReader, RawFrame
from vpipe.media.shots import small_picture
from vpipe.media.stream_reader import StreamReader
from vpipe.media.thinning import Nearest
from vpipe.media.timeline import Times

HALF = Fraction(1, 2)  # a step of the grid


def look(reader: FrameReader | StreamReader, fps: Fraction | None) -> Generator[WalkedFrame]:
    """Every frame of a reader, with the times of the grid that it is nearest to (None: no grid)."""
    held: list[WalkedFrame] = []  # from the last on the grid: it stands for longer if what follows is lost
    if isinstance(reader, FrameReader):
        with suppress(Mismatch):
            for one in reader.in_parts(lambda times: _by_index(times, reader.converter(), fps), fps):
                if one.ticks or fps is None:
                    yield from held
                    held.clear()
                held.append(one)
            yield from held
            return
    rest: Iterable[RawFrame] = reader.walk(fps)
    tick = 0
    if held:  # damage: one decoder goes on, and may have lost some of what is known
        rest, tick = _renumbered(rest, held[0]), held[0].ticks.start
    yield from walked(rest, reader.converter(), reader.info.time_base, fps, tick)


def _renumbered(raws: Iterable[RawFrame], first: WalkedFrame) -> Iterator[RawFrame]:
    """The frames from `first` on, numbered as it is."""
    assert first.pts is not None  # of an index
    index = first.index
    for raw in raws:
        if raw.time_s >= first.time_s if raw.pts is None else raw.pts >= first.pts:
            yield replace(raw, index=index)
            index += 1


def _by_index(
    times: Times, convert: Converter, fps: Fraction | None
) -> Callable[[int, av.VideoFrame | None], WalkedFrame]:
    """`walked` for frames in any order, whose times are known before they are decoded."""
    pts = times.ticks
    nearest = None if fps is None else Nearest(fps, times.unit, pts[0])

    def until(index: int) -> int:
        """The first tick that none of the frames up to this one is for."""
        if nearest is None or index < 0:
            return 0
        return nearest.first_not(pts[index], pts[index + 1] if index + 1 < len(pts) else None)

    def seen(index: int, picture: av.VideoFrame | None) -> WalkedFrame:
        ticks = range(until(index - 1), until(index))
        if picture is not None:
            raw = RawFrame(index, times[index], pts[index], picture, False)
            return _seen(raw, ticks, convert, times.unit)
        if ticks:
            raise Mismatch
        return _left_out(index, times[index], pts[index], ticks.start)

    return seen


def walked(
    raws: Iterable[RawFrame], convert: Converter, time_base: Fraction, fps: Fraction | None, tick: int = 0
) -> Generator[WalkedFrame]:
    """Every frame of a pass, each a frame late: the next one's time says which k / fps are nearest to it.

    tick: the first that no frame was shown at.
    """

    def seen(raw: RawFrame, ticks: range) -> WalkedFrame:
        if raw.spare and not ticks:
            return _left_out(raw.index, raw.time_s, raw.pts, ticks.start)
        return _seen(raw, ticks, convert, time_base)

    held: RawFrame | None = None
    for raw in raws:
        if held is not None:
            until = tick if fps is None else max(tick, _first_not(held.time_s, raw.time_s, fps))
            yield seen(held, range(tick, until))
            tick = until
        held = raw
    if held is not None:
        yield seen(held, range(tick, tick if fps is None else floor(held.time_s * fps) + 1))


def _seen(raw: RawFrame, ticks: range, convert: Converter, time_base: Fraction) -> WalkedFrame:
    return WalkedFrame(
        raw.index,
        raw.time_s,
        raw.pts,
        raw.damaged,
        (raw.picture.duration or 0) * time_base,
        small_picture(raw.picture),
        ticks,
        convert(raw.picture) if ticks else None,
    )


def _left_out(index: int, time_s: Fraction, pts: int | None, tick: int) -> WalkedFrame:
    return WalkedFrame(index, time_s, pts, False, Fraction(0), None, range(tick, tick), None)


def _first_not(time_s: Fraction, next_s: Fraction, fps: Fraction) -> int:
    """The first k whose k / fps is for the next frame; where both are as near, the earlier one has it."""
    return floor(max((time_s + next_s) / 2 * fps, next_s * fps - HALF)) + 1
