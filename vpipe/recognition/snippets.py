"""Snippet scores over a whole video in one pass: every frame decoded and preprocessed once, memory flat.

inputs      0  1  2  3  4  5  6  7  8  9  10 11 ...     a ring of one batch of snippets
snippet 0   [--------------------]
snippet 1         [--------------------]                stride 2: every 0.25 s of the packaged models' grid
snippet 2               [--------------------]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpipe.errors import Warning_
from vpipe.media import FrameSource, Timeline, VideoInfo
from vpipe.recognition.classify import short_video
from vpipe.recognition.clips import FlowUse, Progress, ensure_flow, open_flow
from vpipe.recognition.grid import SnippetGrid, snippet_grid
from vpipe.recognition.preprocess import resize_flow
from vpipe.recognition.recognizer import ReadyStream, Recognizer
from vpipe.recognition.scores import SnippetScores
from vpipe.recognition.snippets_published import scan_published

FLOWS_AT_A_TIME = 32


@dataclass(frozen=True)
class ScannedVideo:
    """A video that a model has gone over from end to end."""

    scores: SnippetScores
    info: VideoInfo
    frames: int  # of the video
    duration_s: float
    warnings: list[Warning_]
    flow: FlowUse | None  # where a stream looks at flow


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

    A flow stream reads the cache, which is filled first; `progress` hears (done, total) of its pairs and
    then of the grid frames. Raises InputError as FrameSource does and `no_motion`; UsageError
    `streams_differ`.
    """
    grid = grid or snippet_grid(recognizer)
    reading = FrameSource(path)
    reading.require_motion()
    timeline = reading.timeline()
    duration_s = float(timeline.duration_s)
    warnings = {w.code: w for w in reading.warnings}
    if short := short_video(duration_s, recognizer.streams):
        warnings[short.code] = short
    if recognizer.streams[0].stream.convention is not None:
        found = scan_published(
            path, recognizer, timeline, grid, cache_dir=cache_dir, jobs=jobs, progress=progress
        )
        scores, flow_use = found.scores, found.flow
        when = found.start_s, found.centre_s, found.end_s
        warnings |= {w.code: w for w in found.warnings}
    else:
        scores, flow_use = _scan_grid(
            path, recognizer, timeline, grid, warnings, cache_dir=cache_dir, jobs=jobs, progress=progress
        )
        when = _times(len(scores[0]), grid)
    return ScannedVideo(
        scores=SnippetScores(
            recognizer.labels,
            recognizer.model.background,
            recognizer.fused(scores).astype(np.float32),
            *when,
            duration_s=duration_s,
            frame_times_s=_frame_times(timeline),
        ),
        info=reading.info,
        frames=len(timeline),
        duration_s=duration_s,
        warnings=list(warnings.values()),
        flow=flow_use,
    )


def _scan_grid(
    path: Path,
    recognizer: Recognizer,
    timeline: Timeline,
    grid: SnippetGrid,
    warnings: dict[str, Warning_],
    *,
    cache_dir: Path | None,
    jobs: int,
    progress: Progress | None,
) -> tuple[list[np.ndarray], FlowUse | None]:
    """Probabilities (S, labels) by each stream of a model that looks at neighbouring frames of a grid."""
    scores: list[np.ndarray] = []
    flow_use: FlowUse | None = None
    for ready in recognizer.streams:
        stream = ready.stream
        inputs: Iterable[np.ndarray]
        if stream.modality == "rgb":
            inputs = _rgb_inputs(path, ready, int(timeline.times[-1] * stream.fps) + 1, progress)
        else:
            entry = open_flow(path, stream, cache_dir, recognizer.device)
            flow_use = ensure_flow(entry, range(entry.pairs), jobs=jobs, progress=progress)
            warnings |= {w.code: w for w in entry.warnings}
            inputs = (
                flow
                for first in range(0, entry.pairs, FLOWS_AT_A_TIME)
                for flow in resize_flow(
                    entry.read(list(range(first, min(first + FLOWS_AT_A_TIME, entry.pairs)))), stream.size
                )
            )
        scores.append(score_snippets(ready, inputs, grid.stride, recognizer.batch_size))
    count = min(len(one) for one in scores)  # damaged files may end a frame apart
    return [one[:count] for one in scores], flow_use


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


def _rgb_inputs(
    path: Path, ready: ReadyStream, total: int, progress: Progress | None
) -> Iterator[np.ndarray]:
    source = FrameSource(path, size=ready.stream.size)
    for k, frame in source.resample(ready.stream.fps):
        yield frame.image
        if progress is not None:
            progress(k + 1, total)


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
