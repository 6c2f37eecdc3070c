"""Labels for a whole video: clips over all of it, their probabilities averaged, the streams fused."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vpipe.errors import Warning_
from vpipe.media import FrameSource, VideoInfo
from vpipe.recognition.classify_published import score_stream
from vpipe.recognition.clips import (
    FlowUse,
    Progress,
    ensure_flow,
    flow_clips,
    needed_pairs,
    open_flow,
    rgb_clips,
)
from vpipe.recognition.preprocess import Crops, decode_size, views
from vpipe.recognition.recognizer import ReadyStream, Recognizer
from vpipe.recognition.sampling import plan_clips

if TYPE_CHECKING:
    from vpipe.recognition.explain import Explanation

DEFAULT_CLIPS = 10


@dataclass(frozen=True)
class Classification:
    """What a model says about one video."""

    labels: list[str]
    probabilities: np.ndarray  # (labels,) float64, adds up to 1
    info: VideoInfo
    frames: int  # of the video
    duration_s: float
    warnings: list[Warning_]
    flow: FlowUse | None  # where a stream looks at flow

    def top(self, count: int) -> list[tuple[str, float]]:
        """The `count` best (label, probability), best first; equal ones in the order of the labels."""
        order = np.argsort(-self.probabilities, kind="stable")[:count]
        return [(self.labels[i], float(self.probabilities[i])) for i in order]


def classify(
    path: Path,
    recognizer: Recognizer,
    *,
    clips: int | None = None,
    crops: Crops = 1,
    twice: bool = False,
    cache_dir: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
    explanation: Explanation | None = None,
) -> Classification:
    """Classify one video. Only the frames and flows of its clips are decoded and computed.

    `clips` None: DEFAULT_CLIPS, or what the reference of an imported model takes. An `explanation` remembers
    what the streams looked at.

    `progress` hears about flow pairs. Raises InputError as FrameSource does, and `single_image`.
    """
    reading = FrameSource(path)
    reading.require_motion()
    timeline = reading.timeline()
    warnings = {w.code: w for w in reading.warnings}
    if short := short_video(float(timeline.duration_s), recognizer.streams):
        warnings[short.code] = short
    wide = reading.info.width >= reading.info.height
    scores: list[np.ndarray] = []
    flow_use: FlowUse | None = None
    for ready in recognizer.streams:
        stream = ready.stream
        if stream.convention is not None:
            one, used, more = score_stream(
                path,
                recognizer,
                ready,
                clips=clips,
                crops=crops,
                twice=twice,
                cache_dir=cache_dir,
                jobs=jobs,
                progress=progress,
                explanation=explanation,
            )
            scores.append(one)
            flow_use = used or flow_use
            warnings |= {w.code: w for w in more}
            continue
        size = decode_size(stream.size, crops)
        if stream.modality == "rgb":
            source = FrameSource(path, size=size)
            grid = source.grid(stream.fps)
            plan = plan_clips(len(grid), ready.clip_length, clips=clips or DEFAULT_CLIPS, twice=twice)
            found = rgb_clips(source, grid, plan)
        else:
            entry = open_flow(path, stream, cache_dir, recognizer.device)
            plan = plan_clips(entry.pairs + 1, ready.clip_length, clips=clips or DEFAULT_CLIPS, twice=twice)
            flow_use = ensure_flow(entry, needed_pairs(plan), jobs=jobs, progress=progress)
            warnings |= {w.code: w for w in entry.warnings}
            found = flow_clips(entry, plan, size)
        windows = (views(clip, stream.size, crops, wide=wide) for clip in found)
        if explanation is None:
            per_view = recognizer.score_views(ready, chain.from_iterable(windows))
        else:
            spans = [
                (float(start / stream.fps), float((start + ready.clip_length) / stream.fps))
                for start in plan.starts
            ]
            per_view = recognizer.score_views(ready, explanation.watch(ready, spans, windows))
            explanation.scored(per_view)
        scores.append(per_view.mean(axis=0, dtype=np.float64))
    return Classification(
        labels=recognizer.labels,
        probabilities=recognizer.fused(scores),
        info=reading.info,
        frames=len(timeline),
        duration_s=float(timeline.duration_s),
        warnings=list(warnings.values()),
        flow=flow_use,
    )


def short_video(duration_s: float, streams: list[ReadyStream]) -> Warning_ | None:
    """A warning where the video is shorter than a clip, which then ends with the last frame held."""
    spans = [float(ready.clip_length / ready.stream.fps) for ready in streams if not ready.stream.convention]
    span_s = max(spans, default=0.0)
    if duration_s >= span_s:
        return None
    return Warning_(
        "short_video",
        f"{duration_s:.2f} s is shorter than a clip of {span_s:g} s: the last frame is held",
        {"duration_s": round(duration_s, 6), "clip_s": span_s},
    )
