"""Is this video sound? A full decode, compared with what the header says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from vpipe.errors import LOSSES, Warning_
from vpipe.media.info import VideoInfo
from vpipe.media.source import FrameSource, probe
from vpipe.media.timeline import Timeline
from vpipe.timeline import seconds

GAP_S, GAP_FACTOR = 1, 10  # a gap is longer than this, and than so many usual frames
SMALL_PX = 16  # pictures are not looked at, so they are scaled to almost nothing


@dataclass(frozen=True)
class CheckResult:
    """What a check found. frames and variable_rate are None after a quick check.

    reason: code of the fault, None where the video is sound (warnings are no fault).
    """

    info: VideoInfo
    frames: int | None
    duration_s: float | None
    variable_rate: bool | None
    reason: str | None
    warnings: tuple[Warning_, ...]

    @property
    def ok(self) -> bool:
        return self.reason is None


FAULTS = LOSSES  # the first that was met is the reason


def check(path: str | os.PathLike[str], *, quick: bool = False, threads: int = 1) -> CheckResult:
    """Decode all of a video (quick: headers and the first frame). Raises InputError as `probe` does."""
    if quick:
        info = probe(path)
        noted = _with_picture_note(info.warnings, info.is_image)
        return CheckResult(info, None, info.declared_duration_s, None, _reason(noted), noted)
    source = FrameSource(path, size=(SMALL_PX, SMALL_PX), color="gray", threads=threads)
    timeline = source.timeline(exact=True)
    gaps = _gaps(timeline)
    noted = _with_picture_note([*source.warnings, *gaps], len(timeline) < 2)
    return CheckResult(
        info=source.info,
        frames=len(timeline),
        duration_s=seconds(timeline.duration_s),
        variable_rate=timeline.variable_rate,
        reason=_reason(noted),
        warnings=noted,
    )


def _gaps(timeline: Timeline) -> list[Warning_]:
    """A warning where frames stay much longer than they usually do: something was lost, or never filmed."""
    if len(timeline) < 3 or timeline.from_index:
        return []
    ticks = timeline.times.ticks
    lasts = [b - a for a, b in pairwise(ticks)]
    usual = float(median(lasts))
    limit = max(float(GAP_S / timeline.times.unit), GAP_FACTOR * usual)
    long = [index for index, one in enumerate(lasts) if one > limit]
    if not long:
        return []
    worst = max(long, key=lambda index: lasts[index])
    longest_s, at_s = seconds(lasts[worst] * timeline.times.unit), seconds(timeline.times[worst])
    text = f"{len(long)} gaps between frames; the longest is {longest_s} s, after frame {worst} at {at_s} s"
    numbers = {"gaps": len(long), "longest_s": longest_s, "frame": worst, "at_s": at_s}
    return [Warning_("timestamp_gap", text, {**numbers})]


def _with_picture_note(warnings: Sequence[Warning_], single: bool) -> tuple[Warning_, ...]:
    note = [Warning_("single_image", "a single picture: no motion to see")] if single else []
    return (*warnings, *note)


def _reason(warnings: tuple[Warning_, ...]) -> str | None:
    codes = {warning.code for warning in warnings}
    return next((fault for fault in FAULTS if fault in codes), None)
