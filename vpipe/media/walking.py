"""Every frame looked at once: a small grey picture of each, the full one of those on a grid of times."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from fractions import Fraction
from math import floor

from vpipe.media.convert import Converter
from vpipe.media.frame import WalkedFrame
from vpipe.media.reading import RawFrame
from vpipe.media.shots import small_picture
from vpipe.media.timeline import first_tick


def walked(
    raws: Iterable[RawFrame], convert: Converter, time_base: Fraction, fps: Fraction | None
) -> Generator[WalkedFrame]:
    """The frames of a pass, each a frame late: the next one's time says at which k / fps it is shown."""

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
            until = tick if fps is None else max(tick, first_tick(raw.time_s, fps))
            yield seen(held, range(tick, until))
            tick = until
        held = raw
    if held is not None:
        yield seen(held, range(tick, tick if fps is None else floor(held.time_s * fps) + 1))
