"""Every frame looked at once: a small grey picture of each, the full one of those on a grid of times.

A player shows a frame until the next one comes, so what is on the screen at k / fps is up to a frame old, and
where frames come unevenly, motion seen through the grid stutters. To judge motion the grid takes the frame
nearest in time, half as far off. No frame is taken more than half a step of the grid before it is shown: a
picture that stands for long stands until then.

    frames   a   b       c d e   f                                       g
    grid     |       |       |       |       |       |       |       |       |
             a       b       d       f       f       f       f       f       g
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from fractions import Fraction
from math import floor

from vpipe.media.convert import Converter
from vpipe.media.frame import WalkedFrame
from vpipe.media.reading import RawFrame
from vpipe.media.shots import small_picture

HALF = Fraction(1, 2)  # a step of the grid


def walked(
    raws: Iterable[RawFrame], convert: Converter, time_base: Fraction, fps: Fraction | None
) -> Generator[WalkedFrame]:
    """The frames of a pass, each a frame late: the next one's time says which k / fps are nearest to it."""

    def seen(raw: RawFrame, ticks: range) -> WalkedFrame:
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

    held: RawFrame | None = None
    tick = 0  # the first that no frame was shown at
    for raw in raws:
        if held is not None:
            until = tick if fps is None else max(tick, _first_not(held.time_s, raw.time_s, fps))
            yield seen(held, range(tick, until))
            tick = until
        held = raw
    if held is not None:
        yield seen(held, range(tick, tick if fps is None else floor(held.time_s * fps) + 1))


def _first_not(time_s: Fraction, next_s: Fraction, fps: Fraction) -> int:
    """The first k whose k / fps is for the next frame; where both are as near, the earlier one has it."""
    return floor(max((time_s + next_s) / 2 * fps, next_s * fps - HALF)) + 1
