"""The streams of imported models over one video: clips and crops as their repositories take them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vpipe.errors import Warning_
from vpipe.media import FrameSource
from vpipe.models.convention import Convention
from vpipe.recognition.clips import FlowUse, Progress, ensure_flow, open_flow
from vpipe.recognition.preprocess import Crops, View
from vpipe.recognition.published import clip_indices, flow_views, rgb_frames, rgb_views
from vpipe.recognition.recognizer import ReadyStream, Recognizer, fuse

if TYPE_CHECKING:
    from vpipe.cache import FlowEntry
    from vpipe.recognition.explain import Explanation


def score_stream(
    path: Path,
    recognizer: Recognizer,
    ready: ReadyStream,
    *,
    clips: int | None,
    crops: Crops,
    twice: bool,
    cache_dir: Path | None,
    jobs: int,
    progress: Progress | None,
    explanation: Explanation | None = None,
) -> tuple[np.ndarray, FlowUse | None, list[Warning_]]:
    """(probabilities (labels,) float64, what the flow cache did, warnings) of one stream.

    `clips` None: as many as the reference takes.
    """
    stream = ready.stream
    convention: Convention = stream.convention
    clips = clips or convention.clips
    if stream.modality == "rgb":
        views = rgb_views(path, stream, clips=clips, crops=crops, twice=twice)
        spans = []
        if explanation is not None:
            source = FrameSource(path)
            times = source.timeline().times
            spans = [
                (float(times[min(frames)]), float(times[max(frames)]))
                for frames in rgb_frames(source, stream, clips=clips, twice=twice)
            ]
        return consensus(_scored(recognizer, ready, views, crops, spans, explanation), convention), None, []
    entry = open_flow(path, stream, cache_dir, recognizer.device)
    taken = clip_indices(convention, stream.frames, entry.pairs, clips=clips, twice=twice)
    pairs = sorted({index for clip in taken for index in clip})
    use = ensure_flow(entry, pairs, jobs=jobs, progress=progress)
    flows = (_read(entry, clip) for clip in taken)
    spans = [(float(entry.times[min(clip)]), float(entry.times[max(clip) + 1])) for clip in taken]
    scores = _scored(recognizer, ready, flow_views(flows, stream, crops=crops), crops, spans, explanation)
    return consensus(scores, convention), use, list(entry.warnings)


def _scored(
    recognizer: Recognizer,
    ready: ReadyStream,
    views: Iterator[View],
    crops: Crops,
    spans_s: list[tuple[float, float]],
    explanation: Explanation | None,
) -> np.ndarray:
    """Probabilities (views, labels); an explanation sees the views of each clip."""
    if explanation is None:
        return recognizer.score_views(ready, views)
    of_clips = iter(lambda: list(islice(views, crops)), [])
    scores = recognizer.score_views(ready, explanation.watch(ready, spans_s, of_clips))
    explanation.scored(scores)
    return scores


def consensus(per_view: np.ndarray, convention: Convention) -> np.ndarray:
    """Probabilities (views, labels) -> (labels,) float64: their mean, or softmax of the mean of logits."""
    if convention.average == "probabilities":
        return np.asarray(per_view.mean(axis=0, dtype=np.float64))
    return fuse(list(per_view), [1 / len(per_view)] * len(per_view), "logits")


def _read(entry: FlowEntry, clip: list[int]) -> np.ndarray:
    """Flows of a clip in its order; the cache takes ascending pairs, each once."""
    distinct = sorted(set(clip))
    flows = entry.read(distinct)
    place = {index: n for n, index in enumerate(distinct)}
    return np.asarray(flows[[place[index] for index in clip]])
