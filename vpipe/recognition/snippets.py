"""Snippet scores over a whole video: RGB in one pass, flow from the cache, imported models by their own
rules."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vpipe.errors import Warning_
from vpipe.media import FrameSource, Timeline, VideoInfo
from vpipe.media.shots import Cut, ShotDetector
from vpipe.recognition.classify import short_video
from vpipe.recognition.clips import FlowUse, Progress, ensure_flow, open_flow
from vpipe.recognition.grid import SnippetGrid, snippet_grid
from vpipe.recognition.one_pass import OnePass
from vpipe.recognition.preprocess import resize_flow
from vpipe.recognition.recognizer import ReadyStream, Recognizer
from vpipe.recognition.scores import SnippetScores, joined
from vpipe.recognition.snippets_published import scan_published

FLOWS_AT_A_TIME = 32
DETECTION_STRIDE_S = Fraction(1, 2)  # of packaged and trained models: half the work of their usual 0.25 s


@dataclass(frozen=True)
class ScannedVideo:
    """A video that a model has gone over from end to end."""

    scores: SnippetScores
    source: FrameSource
    frames: int  # of the video
    duration_s: float
    warnings: list[Warning_]
    flow: FlowUse | None  # where a stream looks at flow

    @property
    def info(self) -> VideoInfo:
        return self.source.info

    @property
    def timeline(self) -> Timeline:
        """Reads the file again."""
        return self.source.timeline()


def detection_grid(recognizer: Recognizer) -> SnippetGrid:
    """Where detection looks at snippets. Raises UsageError `streams_differ`."""
    grid = snippet_grid(recognizer)
    if grid.fps is None or recognizer.streams[0].stream.convention is not None:
        return grid
    return replace(grid, stride=max(1, round(grid.fps * DETECTION_STRIDE_S)))


def scan(
    path: Path,
    recognizer: Recognizer,
    *,
    grid: SnippetGrid | None = None,
    cache_dir: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> ScannedVideo:
    """Score every snippet of a video; `grid` None takes what suits the model.

    A flow stream reads the cache, which is filled first; `progress` hears (done, total) of its pairs, or of
    the frames. Raises InputError as FrameSource does and `single_image`; UsageError `streams_differ`.
    """
    grid = grid or snippet_grid(recognizer)
    found = _Found(FrameSource(path))
    if found.source.info.is_image:
        found.source.require_motion()
    if recognizer.streams[0].stream.convention is not None:
        _scan_published(found, recognizer, grid, cache_dir, jobs, progress)
    else:
        _scan_grid(found, recognizer, grid, cache_dir, jobs, progress)
    if found.duration_s:
        duration_s, times_s = found.duration_s, found.frame_times_s
    else:
        timeline = found.source.timeline()
        duration_s, times_s = float(timeline.duration_s), _frame_times(timeline)
    warnings = {w.code: w for w in [*found.source.warnings, *found.warnings]}
    if short := short_video(duration_s, recognizer.streams):
        warnings[short.code] = short
    return ScannedVideo(
        scores=SnippetScores(
            recognizer.labels,
            recognizer.model.background,
            recognizer.fused(found.scores).astype(np.float32),
            *found.when,
            duration_s=duration_s,
            frame_times_s=times_s,
            cuts=tuple(found.cuts),
        ),
        source=found.source,
        frames=len(times_s),
        duration_s=duration_s,
        warnings=list(warnings.values()),
        flow=found.flow,
    )


class _Found:
    """What the passes over one video bring together."""

    def __init__(self, source: FrameSource) -> None:
        self.source = source
        self.scores: list[np.ndarray] = []  # (S, labels) of each stream
        self.when: tuple[np.ndarray, np.ndarray, np.ndarray] = (np.zeros(0),) * 3  # start, centre, end (S,)
        self.cuts: list[Cut] = []
        self.duration_s = 0.0  # 0: known from the timeline alone, as are the times
        self.frame_times_s = np.zeros(0)
        self.warnings: list[Warning_] = []
        self.flow: FlowUse | None = None


def _scan_published(
    found: _Found,
    recognizer: Recognizer,
    grid: SnippetGrid,
    cache_dir: Path | None,
    jobs: int,
    progress: Progress | None,
) -> None:
    path, source = Path(found.source.path), found.source
    source.require_motion()
    one = scan_published(
        path, recognizer, source.timeline(), grid, cache_dir=cache_dir, jobs=jobs, progress=progress
    )
    found.scores, found.flow, found.warnings = one.scores, one.flow, one.warnings
    found.when = one.start_s, one.centre_s, one.end_s
    found.cuts = find_cuts(source)


def _scan_grid(
    found: _Found,
    recognizer: Recognizer,
    grid: SnippetGrid,
    cache_dir: Path | None,
    jobs: int,
    progress: Progress | None,
) -> None:
    """A model that looks at neighbouring frames of a grid. RGB streams see the frames as they are decoded."""
    path = Path(found.source.path)
    centre_s = np.zeros(0)
    for ready in recognizer.streams:
        stream = ready.stream
        if stream.modality == "rgb":
            found.source = FrameSource(path, size=stream.size, threads=jobs)
            one = OnePass(
                found.source, ready, grid, batch_size=recognizer.batch_size, jobs=jobs, progress=progress
            )
            scores, centre_s, found.frame_times_s = joined(one.parts())
            found.scores.append(scores)
            found.cuts, found.duration_s = one.cuts, one.duration_s
            continue
        found.source.require_motion()
        entry = open_flow(path, stream, cache_dir, recognizer.device)
        found.flow = ensure_flow(entry, range(entry.pairs), jobs=jobs, progress=progress)
        found.warnings += entry.warnings
        flows = (
            flow
            for first in range(0, entry.pairs, FLOWS_AT_A_TIME)
            for flow in resize_flow(
                entry.read(list(range(first, min(first + FLOWS_AT_A_TIME, entry.pairs)))), stream.size
            )
        )
        found.scores.append(score_snippets(ready, flows, grid.stride, recognizer.batch_size))
    count = min(len(one) for one in found.scores)  # damaged files may end a frame apart
    found.scores = [one[:count] for one in found.scores]
    start, centre, end = _times(count, grid)
    if len(centre_s):
        centre = centre_s[:count]
    else:
        found.cuts = find_cuts(found.source)
    found.when = start, centre, end


def find_cuts(source: FrameSource) -> list[Cut]:
    """The cuts of a video, by a pass of its own."""
    shots = ShotDetector()
    cuts: list[Cut] = []
    for seen in source.walk():
        if seen.small is not None:
            cuts += shots.add(seen.small, seen.index, float(seen.time_s))
    return cuts + shots.close()


def score_snippets(
    ready: ReadyStream, inputs: Iterable[np.ndarray], stride: int, batch_size: int
) -> np.ndarray:
    """Probabilities (S, labels) of snippets that begin every `stride` inputs; inputs are (H, W, C) arrays.

    A video with fewer inputs than a snippet takes gives one snippet: its last frame held, or no flow.
    """
    length = int(ready.stream.frames)
    width, height = ready.stream.size
    flow = ready.stream.modality == "flow"
    shape = (length + stride * (batch_size - 1), height, width, 2 if flow else 3)
    ring = np.zeros(shape, dtype=np.float32 if flow else np.uint8)
    scores: list[np.ndarray] = []
    filled = 0

    def flush() -> int:
        """Scores the whole snippets in the ring; what later ones need moves to its front."""
        snippets = (filled - length) // stride + 1
        used = length + stride * (snippets - 1)
        tensor = ready.normalise(ring[:used])
        scores.append(ready.run(tensor.unfold(0, length, stride).movedim(-1, 1)))
        kept = filled - stride * snippets
        ring[:kept] = ring[filled - kept : filled].copy()
        return kept

    for array in inputs:
        ring[filled] = array
        filled += 1
        if filled == len(ring):
            filled = flush()
    if not scores and filled < length:
        ring[filled:length] = 0 if flow or not filled else ring[filled - 1]
        filled = length
    if filled >= length:
        flush()
    return np.concatenate(scores)


def _times(count: int, grid: SnippetGrid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Start, centre and end of `count` snippets, seconds."""
    assert grid.fps is not None
    fps = float(grid.fps)
    start = np.arange(count) * grid.stride / fps
    return start, start + float(grid.offset) / fps, start + grid.window / fps


def _frame_times(timeline: Timeline) -> np.ndarray:
    ticks = np.asarray(timeline.times.ticks, dtype=np.int64)
    unit = timeline.times.unit
    return np.asarray((ticks - ticks[0]) * unit.numerator / unit.denominator)
