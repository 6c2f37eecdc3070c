"""From snippet scores to segments: candidates -> boundaries -> scores -> suppression, for each label.

Candidates are runs of snippets in positions: snippet i covers [i, i+1), and position x is the time
centre_s[0] + (x - 1/2) * step, so a run may begin and end within a snippet. A snippet that straddles a
boundary scores each side by its share of time, so the boundary is about where the label's score crosses
the middle between its level inside and its level outside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vpipe.detection.grouping import group
from vpipe.detection.nms import Method, hard_nms, suppress
from vpipe.detection.windows import PrefixSums, sliding_windows
from vpipe.recognition.scores import SnippetScores

CONTEXT_WEIGHT = 1.0  # lambda in: score = mean inside - lambda * mean of the context
CONTEXT_SHARE = 0.5  # length of the context on either side, in lengths of the segment
REFINE_ROUNDS = 2  # the levels inside and outside depend on the boundaries, and the other way round
SMOOTHING_SNIPPETS = 1.0  # sigma of the Gaussian over the snippet scores
DUPLICATE_IOU = 0.95  # candidates of one label that overlap more are one
SOFT_SIGMA = 0.5
HARD_IOU = 0.5
LINEAR_IOU = 0.3
VOTING_IOU = 0.7


@dataclass(frozen=True)
class DetectorSettings:
    """What `vpipe detect` can be told."""

    candidates: Literal["windows", "grouping", "both"] = "grouping"
    refine: bool = True  # move boundaries to where the label's score crosses half way
    nms: Literal["soft", "linear", "hard"] = "soft"  # soft is Gaussian
    voting: bool = False  # what is kept becomes the mean of what it stands for
    across_labels: bool = False  # suppression is among all labels, not within each
    min_score: float = 0.1  # in [0, 1]; segments below are left out
    include_background: bool = False


@dataclass(frozen=True)
class Segment:
    """A stretch of video with a label; end_frame is exclusive."""

    label: str
    score: float  # in (0, 1]
    start_s: float
    end_s: float
    start_frame: int
    end_frame: int

    def to_json(self) -> dict[str, str | float | int]:
        return {
            "label": self.label,
            "score": round(self.score, 6),
            "start_s": round(self.start_s, 6),
            "end_s": round(self.end_s, 6),
            "start_frame": self.start_frame,
            "end_frame": self.end_frame,
        }


def detect(scores: SnippetScores, settings: DetectorSettings = DetectorSettings()) -> list[Segment]:
    """Segments of one video in order of time; empty where nothing scores `settings.min_score`."""
    count = len(scores.centre_s)
    if count == 0:
        return []
    labels = [
        c
        for c, label in enumerate(scores.labels)
        if settings.include_background or label != scores.background
    ]
    table = smooth(scores.probabilities, SMOOTHING_SNIPPETS)
    step_s = float(scores.centre_s[1] - scores.centre_s[0]) if count > 1 else float(scores.duration_s)
    span = max(1, round(float(scores.end_s[0] - scores.start_s[0]) / step_s))  # of a snippet, in snippets
    sums = PrefixSums(table)
    columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # times, score, label
    for column in labels:
        runs = _candidates(table[:, column], step_s, settings)
        if settings.refine:
            runs = refine(runs, table[:, column], span=span)
        value = _contrast(runs, sums, column)
        runs, value = runs[value >= settings.min_score], value[value >= settings.min_score]
        times = _to_time(runs, scores, step_s)
        kept = hard_nms(times, value, iou_threshold=DUPLICATE_IOU)
        columns.append((times[kept], value[kept], np.full(len(kept), column)))
    if not columns:
        return []
    method: Method = "gaussian" if settings.nms == "soft" else settings.nms
    left = suppress(
        *(np.concatenate(part) for part in zip(*columns, strict=True)),
        method=method,
        per_class=not settings.across_labels,
        iou_threshold=LINEAR_IOU if method == "linear" else HARD_IOU,
        sigma=SOFT_SIGMA,
        min_score=0.0 if method == "hard" else settings.min_score,
        voting_iou=VOTING_IOU if settings.voting else None,
    )
    found = [
        Segment(scores.labels[column], float(v), float(s), float(e), int(first), int(last))
        for column, v, (s, e), (first, last) in zip(
            left.labels, left.scores, left.segments, scores.frame_at(left.segments), strict=True
        )
        if first < last
    ]
    return sorted(found, key=lambda s: (s.start_s, s.end_s, -s.score, s.label))


def smooth(table: np.ndarray, sigma: float) -> np.ndarray:
    """Each column of (S, C) smoothed by a Gaussian of `sigma` rows, the ends repeated; float64."""
    table = np.asarray(table, dtype=np.float64)
    if sigma <= 0:
        return table
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(table, ((reach, reach), (0, 0)), mode="edge")
    return np.asarray(sum(w * padded[i : i + len(table)] for i, w in enumerate(weights)))


def refine(runs: np.ndarray, sequence: np.ndarray, *, span: int) -> np.ndarray:
    """Runs (K, 2) with each end moved to where `sequence` (S,) crosses half way, within `span` snippets.

    A snippet is `span` steps long, so scores ramp over span / 2 on either side of a boundary. Half way is
    between the level inside, ramps left out, and the level outside, beyond the ramp:

        level   0 0 0 0 .1 .3 .5 .7 .9 1 1 1 1 1        outside: [edge - span, edge - span/2)
                [outsid]       ^      [inside...        inside:  from edge + span/2 on
                             edge

    An end without a crossing near it stays; one at the border of the video stays there if the sequence is
    above half way there.
    """
    size, ramp = len(sequence), span / 2
    runs = np.asarray(runs, dtype=np.float64)
    if not len(runs):
        return runs
    sums = PrefixSums(sequence[:, None])
    column = np.zeros(len(runs), dtype=np.int64)
    for _ in range(REFINE_ROUNDS):
        start, end = runs[:, 0], runs[:, 1]
        trim = np.minimum(ramp, (end - start) / 4)
        inside = sums.mean(start + trim, end - trim, column)
        before = sums.mean(start - span, start - ramp, column)
        after = sums.mean(end + ramp, end + span, column)
        new_start = _crossing(sequence, start, (inside + before) / 2, span)
        # The same from the right: mirror the sequence and the ends.
        new_end = size - _crossing(sequence[::-1], size - end, (inside + after) / 2, span)
        moved = np.stack([new_start, new_end], axis=1)
        runs = np.where((new_start < new_end)[:, None], moved, runs)
    return runs


def _crossing(sequence: np.ndarray, edge: np.ndarray, level: np.ndarray, reach: int) -> np.ndarray:
    """Position nearest to each `edge` where `sequence`, read from the left, rises through `level`."""
    # Snippet i sits at position i + 1/2; a rise between snippets i-1 and i is near position i.
    padded = np.r_[-np.inf, sequence]  # padded[i + 1] is snippet i; before the video there is nothing
    at = np.rint(edge).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)[None, :]
    inside = (at >= 0) & (at < len(sequence))
    at = np.clip(at, 0, len(sequence) - 1)
    low, high = padded[at], padded[at + 1]
    rises = inside & (low < level[:, None]) & (high >= level[:, None])
    with np.errstate(invalid="ignore"):
        share = np.where(np.isinf(low), 0.5, (level[:, None] - low) / np.where(high > low, high - low, 1.0))
    position = at - 0.5 + share  # the border of the video is position 0
    distance = np.where(rises, np.abs(position - edge[:, None]), np.inf)
    nearest = np.argmin(distance, axis=1)
    row = np.arange(len(edge))
    return np.asarray(np.where(np.isfinite(distance[row, nearest]), position[row, nearest], edge))


def _candidates(sequence: np.ndarray, step_s: float, settings: DetectorSettings) -> np.ndarray:
    runs = []
    if settings.candidates in ("grouping", "both"):
        runs.append(group(sequence))
    if settings.candidates in ("windows", "both"):
        runs.append(sliding_windows(len(sequence), step_s))
    return np.unique(np.concatenate(runs), axis=0)


def _contrast(runs: np.ndarray, sums: PrefixSums, column: int) -> np.ndarray:
    """Mean inside minus CONTEXT_WEIGHT times the mean of the context on both sides, (K,)."""
    label = np.full(len(runs), column, dtype=np.int64)
    start, end = runs[:, 0], runs[:, 1]
    reach = (end - start) * CONTEXT_SHARE
    inside = sums.mean(start, end, label)
    context = (sums.mean(start - reach, start, label) + sums.mean(end, end + reach, label)) / 2
    return np.asarray(inside - CONTEXT_WEIGHT * context)


def _to_time(runs: np.ndarray, scores: SnippetScores, step_s: float) -> np.ndarray:
    """Seconds (K, 2) of runs in positions; the borders of the snippet grid are the borders of the video."""
    times = scores.centre_s[0] + (runs - 0.5) * step_s
    times[:, 0] = np.where(runs[:, 0] <= 0, 0.0, times[:, 0])
    times[:, 1] = np.where(runs[:, 1] >= len(scores.centre_s), scores.duration_s, times[:, 1])
    return np.clip(times, 0.0, scores.duration_s)
