"""Snippet scores over a whole video in one pass: every frame decoded and preprocessed once, memory flat.

inputs      0  1  2  3  4  5  6  7  8  9  10 11 ...     a ring of one batch of snippets
snippet 0   [--------------------]
snippet 1         [--------------------]                stride 2: every 0.25 s of the packaged models' grid
snippet 2               [--------------------]
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from vpipe.errors import UsageError, Warning_
from vpipe.media import FrameSource, Timeline, VideoInfo
from vpipe.recognition.classify import short_video
from vpipe.recognition.clips import FlowUse, Progress, ensure_flow, open_flow
from vpipe.recognition.preprocess import resize_flow
from vpipe.recognition.recognizer import ReadyStream, Recognizer
from vpipe.recognition.scores import SnippetScores

STRIDE_S = Fraction(1, 4)
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
    cache_dir: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> ScannedVideo:
    """Score every snippet of a video.

    A flow stream reads the cache, which is filled first; `progress` hears (done, total) of its pairs and
    then of the grid frames. Raises InputError as FrameSource does and `no_motion`; UsageError
    `streams_differ`.
    """
    fps, length = _common_grid(recognizer)
    stride = max(1, round(fps * STRIDE_S))
    reading = FrameSource(path)
    reading.require_motion()
    timeline = reading.timeline()
    duration_s = float(timeline.duration_s)
    warnings = {w.code: w for w in reading.warnings}
    if short := short_video(duration_s, recognizer.streams):
        warnings[short.code] = short
    scores: list[np.ndarray] = []
    flow_use: FlowUse | None = None
    for ready in recognizer.streams:
        stream = ready.stream
        inputs: Iterable[np.ndarray]
        if stream.modality == "rgb":
            inputs = _rgb_inputs(path, ready, int(timeline.times[-1] * fps) + 1, progress)
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
        scores.append(score_snippets(ready, inputs, stride, recognizer.batch_size))
    count = min(len(one) for one in scores)  # damaged files may end a frame apart
    fused = recognizer.fused([one[:count] for one in scores])
    return ScannedVideo(
        scores=_timed(recognizer, fused, timeline, fps, length, stride),
        info=reading.info,
        frames=len(timeline),
        duration_s=duration_s,
        warnings=list(warnings.values()),
        flow=flow_use,
    )


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


def _common_grid(recognizer: Recognizer) -> tuple[Fraction, int]:
    """(fps, grid frames of a clip) that all streams share."""
    if any(ready.stream.convention for ready in recognizer.streams):
        raise UsageError(
            "no_snippets",
            f"model '{recognizer.model.name}' is imported: it labels whole videos (`vpipe classify`); `vpipe "
            "detect` takes packaged models and those of `vpipe train`",
        )
    grids = {(ready.stream.fps, ready.clip_length) for ready in recognizer.streams}
    if len(grids) > 1:
        raise UsageError(
            "streams_differ",
            f"model '{recognizer.model.name}': its streams look at clips of different length; `vpipe detect` "
            "needs one length",
        )
    return grids.pop()


def _timed(
    recognizer: Recognizer, fused: np.ndarray, timeline: Timeline, fps: Fraction, length: int, stride: int
) -> SnippetScores:
    start = np.arange(len(fused)) * stride / float(fps)
    duration_s = float(timeline.duration_s)
    ticks = np.asarray(timeline.times.ticks, dtype=np.int64)
    unit = timeline.times.unit
    return SnippetScores(
        labels=recognizer.labels,
        background=recognizer.model.background,
        probabilities=fused.astype(np.float32),
        start_s=start,
        centre_s=start + (length - 1) / 2 / float(fps),
        end_s=start + length / float(fps),
        duration_s=duration_s,
        frame_times_s=(ticks - ticks[0]) * unit.numerator / unit.denominator,
    )
