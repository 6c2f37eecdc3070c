"""Which frames flow runs between: the grid of a video under a recipe, and what the manifest says of it."""

from __future__ import annotations

import os
from fractions import Fraction
from math import lcm
from typing import Any

from vpipe.cache.records import Grid
from vpipe.errors import InputError, Warning_
from vpipe.flow.inputs import MIN_SIDE_PX
from vpipe.flow.params import FlowParams
from vpipe.media.first_look import display_name
from vpipe.media.source import FrameSource
from vpipe.timeline import seconds


def open_source(path: str | os.PathLike[str], params: FlowParams, *, threads: int) -> FrameSource:
    """The frames that `params` asks for, gray. Raises InputError."""
    return FrameSource(path, short_side_px=params.short_side_px, color="gray", threads=threads)


def plan_grid(source: FrameSource, params: FlowParams, digest: str) -> Grid:
    """The grid of an open source, whose file has SHA-256 `digest`.

    Where the video is shorter than a step of the grid, its first and its last frame are the grid: there is
    motion between them, and the warning `short_for_flow` says so.

    Raises InputError: single_image (a still picture, or one frame), too_small, those of decoding.
    """
    info = source.info
    source.require_motion()
    timeline = source.timeline()
    width, height = source.output_size
    if min(width, height) < MIN_SIDE_PX:
        name = display_name(info.path)
        raise InputError(
            "too_small", f"{name}: {width}x{height} is too small for flow, which needs {MIN_SIDE_PX} px"
        )
    index = source.grid(params.fps)[:: params.step]
    warnings = source.warnings
    if len(index) < 2:
        index = [index[0], len(timeline) - 1]
        warnings = [*warnings, _short(source, timeline.times[-1])]
    times, stamps = [timeline.times[i] for i in index], [timeline.pts[i] for i in index]
    pts, time_base = _stamps(times, stamps, info.time_base)
    facts: dict[str, Any] = {
        "sha256": digest,
        "bytes": os.stat(info.path).st_size,
        "stream": info.stream_index,
        "codec": info.codec,
        "pix_fmt": info.pix_fmt,
        "width": info.width,
        "height": info.height,
        "rotation": info.rotation,
        "frames": len(timeline),
        "duration_s": seconds(timeline.duration_s),
        "warnings": [warning.to_json() for warning in warnings],
    }
    return Grid(tuple(index), pts, time_base, (width, height), facts)


def _short(source: FrameSource, span_s: Fraction) -> Warning_:
    text = f"shorter than a step of the flow's grid: the flow is that of its whole {seconds(span_s)} s"
    return Warning_("short_for_flow", text, {"duration_s": seconds(source.timeline().duration_s)})


def _stamps(
    times: list[Fraction], pts: list[int | None], time_base: Fraction
) -> tuple[tuple[int, ...], Fraction]:
    """PTS and time base that give `times` exactly: the file's own, or new ones where it has none to trust."""
    known = [value for value in pts if value is not None]
    if len(known) == len(pts) and [(value - known[0]) * time_base for value in known] == times:
        return tuple(known), time_base
    base = Fraction(1, lcm(*(time.denominator for time in times)))
    return tuple(int(time / base) for time in times), base
