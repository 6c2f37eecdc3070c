"""Snippets of imported models over a whole video: each frame decoded and resized once, windows overlapping.

A snippet gives a network what its repository would take from a video of just that length: its segments spread
over the window, or its frames at its stride. Where the window is too short for that stride, frames are closer
together. 3-D networks that take any number of frames get all that the window has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from vpipe.errors import Warning_
from vpipe.media import FrameSource, Timeline
from vpipe.models import Stream
from vpipe.models.layers import ClipNetwork
from vpipe.models.networks.c3d import C3D
from vpipe.models.networks.slowfast import SlowFast
from vpipe.recognition.clips import FlowUse, Progress, ensure_flow, open_flow
from vpipe.recognition.grid import SnippetGrid
from vpipe.recognition.preprocess import View
from vpipe.recognition.published import clip_indices, flow_views, resized, windows
from vpipe.recognition.recognizer import ReadyStream, Recognizer

if TYPE_CHECKING:
    from vpipe.cache import FlowEntry

FLOWS_AT_A_TIME = 32
FEWEST = 9  # inputs that every 3-D network takes which takes any number

_T = TypeVar("_T")


@dataclass(frozen=True)
class PublishedScan:
    """What each stream says of S snippets, (S, labels) float32 each, and when they are."""

    scores: list[np.ndarray]
    start_s: np.ndarray  # (S,) float64
    centre_s: np.ndarray
    end_s: np.ndarray
    flow: FlowUse | None
    warnings: list[Warning_]


def scan_published(
    path: Path,
    recognizer: Recognizer,
    timeline: Timeline,
    grid: SnippetGrid,
    *,
    cache_dir: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> PublishedScan:
    """Every snippet of a video by the conventions of an imported model.

    A video shorter than a window gives one snippet, its last frame held. Raises InputError as FrameSource
    does.
    """
    total = len(timeline) if grid.fps is None else int(timeline.times[-1] * grid.fps) + 1
    warnings: dict[str, Warning_] = {}
    flow_use: FlowUse | None = None
    scores = []
    for ready in recognizer.streams:
        if ready.stream.modality == "rgb":
            views = _rgb_views(path, ready, grid, total, progress)
        else:
            entry = open_flow(path, ready.stream, cache_dir, recognizer.device)
            flow_use = ensure_flow(entry, range(entry.pairs), jobs=jobs, progress=progress)
            warnings |= {w.code: w for w in entry.warnings}
            views = _flow_views(entry, ready, grid)
        scores.append(recognizer.score_views(ready, views))
    count = min(len(one) for one in scores)  # damaged files may end a frame apart
    if total < grid.window:
        warnings["short_video"] = Warning_(
            "short_video",
            f"{total} frames are fewer than a snippet of {grid.window}: the last frame is held",
            {"frames": total, "window": grid.window},
        )
    return PublishedScan(
        [one[:count] for one in scores], *times(timeline, grid, count), flow_use, list(warnings.values())
    )


def times(timeline: Timeline, grid: SnippetGrid, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, centre and end of `count` snippets, seconds (count,) float64, from the frames' PTS."""
    duration_s = float(timeline.duration_s)
    if grid.fps is None:
        unit = timeline.times.unit
        ticks = np.asarray(timeline.times.ticks, dtype=np.int64)
        begins = np.r_[(ticks - ticks[0]) * unit.numerator / unit.denominator, duration_s]
    else:
        shown = int(timeline.times[-1] * grid.fps) + 1
        begins = np.minimum(np.arange(shown + 1) / float(grid.fps), duration_s)
        begins[-1] = duration_s
    if len(begins) - 1 < grid.window:
        return np.zeros(count), np.full(count, duration_s / 2), np.full(count, duration_s)
    first = np.arange(count) * grid.stride
    at = np.arange(len(begins))
    centre = np.interp(first + float(grid.offset), at, begins)
    return begins[first], centre, begins[first + grid.window]


def inputs_within(stream: Stream, window: int) -> list[int]:
    """Which of the `window` frames (or flows) of a snippet the network gets, in its order."""
    convention, own = stream.convention, int(stream.frames)
    if convention.sampling != "clips":
        spread = replace(convention, sampling="segments")
        return clip_indices(spread, own, window, clips=1, twice=False)[0]
    if convention.stack > 1:  # neighbouring flows belong together
        return clip_indices(convention, own, window, clips=1, twice=False)[0]
    stride = min(convention.stride, max(1, window // own))
    inputs = _count(stream, own, window // stride)
    return clip_indices(replace(convention, stride=stride), inputs, window, clips=1, twice=False)[0]


def _count(stream: Stream, own: int, wanted: int) -> int:
    """Inputs for a network that could have `wanted` of them and usually takes `own`."""
    network = stream.network
    if isinstance(network, SlowFast):
        return max(network.alpha, wanted - wanted % network.alpha)
    if isinstance(network, ClipNetwork) and not isinstance(network, C3D):
        return max(wanted, min(own, FEWEST))
    return own


def _rgb_views(
    path: Path, ready: ReadyStream, grid: SnippetGrid, total: int, progress: Progress | None
) -> Iterator[View]:
    stream, convention = ready.stream, ready.stream.convention
    taken = inputs_within(stream, grid.window)

    def pictures() -> Iterator[np.ndarray]:
        source = FrameSource(path)
        frames = enumerate(source.frames()) if grid.fps is None else source.resample(grid.fps)
        last, picture = None, np.zeros((0, 0, 3), np.uint8)
        for k, frame in frames:
            if frame is not last:  # one frame may be shown at several times
                last, picture = frame, resized(frame.image, convention)
                if convention.order == "bgr":
                    picture = picture[..., ::-1]
            yield picture
            if progress is not None:
                progress(k + 1, total)

    for window in sliding(pictures(), grid.window, grid.stride):
        yield from windows(np.stack([window[k] for k in taken]), stream.size, 1, convention)


def _flow_views(entry: FlowEntry, ready: ReadyStream, grid: SnippetGrid) -> Iterator[View]:
    taken = inputs_within(ready.stream, grid.window)

    def flows() -> Iterator[np.ndarray]:
        for first in range(0, entry.pairs, FLOWS_AT_A_TIME):
            read = entry.read(list(range(first, min(first + FLOWS_AT_A_TIME, entry.pairs))))
            yield from read
        yield read[-1]  # there is one flow fewer than frames, and as many snippets of both

    clips = (np.stack([window[k] for k in taken]) for window in sliding(flows(), grid.window, grid.stride))
    return flow_views(clips, ready.stream, crops=1)


def sliding(items: Iterable[_T], window: int, stride: int) -> Iterator[list[_T]]:
    """`window` neighbouring items, from every `stride`-th on; too few in all give one, the last held."""
    held: list[_T] = []
    skip, any_whole = 0, False
    for item in items:
        if skip:
            skip -= 1
            continue
        held.append(item)
        if len(held) == window:
            yield held
            any_whole = True
            held, skip = held[stride:], max(0, stride - window)
    if held and not any_whole:
        yield held + held[-1:] * (window - len(held))
