"""From snippet scores to segments: candidates -> boundaries -> scores -> suppression, for each label.

The detector finishes a video section by section (see `sections`), with the same result whether the scores
come all at once, from a file, or a few at a time, from a stream. Candidates, context, suppression and voting
do not look beyond a section; a segment that goes on across the border of two sections that is no cut becomes
one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

import numpy as np

from vpipe.detection.boundaries import own_rows, refine, smooth, to_time
from vpipe.detection.grouping import group
from vpipe.detection.nms import Method, hard_nms, suppress
from vpipe.detection.sections import Section, Sections
from vpipe.detection.windows import PrefixSums, sliding_windows
from vpipe.recognition.scores import ScorePart, SnippetScores

CONTEXT_WEIGHT = 1.0  # lambda in: score = mean inside - lambda * mean of the louder side of the context
CONTEXT_SHARE = 0.5  # length of the context on either side, in lengths of the segment
SMOOTHING_S = 0.35  # sigma of the Gaussian over the snippet scores
DUPLICATE_IOU = 0.95  # candidates of one label that overlap more are one
SOFT_SIGMA = 0.5
HARD_IOU = 0.5
LINEAR_IOU = 0.3
VOTING_IOU = 0.7
CANDIDATES_PER_MINUTE = 2000  # of one label, the best, go into suppression
SEGMENTS_PER_MINUTE = 200  # of all labels come out of it


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
    if not len(scores.centre_s):
        return []
    detector = Detector(
        scores.labels, scores.background, settings, step_s=scores.step_s, span_s=scores.span_s
    )
    return in_order(detector.add(scores.as_part()))


def in_order(segments: list[Segment]) -> list[Segment]:
    """By start, then end, then the better first."""
    return sorted(segments, key=lambda s: (s.start_s, s.end_s, -s.score, s.label))


class Detector:
    """Takes scores part by part; `add` returns the segments that nothing later can change.

    step_s: between the starts of neighbouring snippets; span_s: length of a snippet.
    """

    def __init__(
        self,
        labels: list[str],
        background: str | None,
        settings: DetectorSettings,
        *,
        step_s: float,
        span_s: float,
    ) -> None:
        self.settings = settings
        self._labels, self._step_s, self._span_s = labels, step_s, span_s
        self._reported = [
            c for c, label in enumerate(labels) if settings.include_background or label != background
        ]
        self._sections = Sections(labels, background, step_s)
        self._going_on: list[Segment] = []  # that reach the border of the last section, which was no cut
        self._frame_times_s = np.zeros(0)
        self._frames_gone = 0  # frames before the first of _frame_times_s

    def add(self, part: ScorePart) -> list[Segment]:
        """With the part that has a duration the video is complete."""
        self._frame_times_s = np.concatenate([self._frame_times_s, part.frame_times_s])
        cuts_s = [cut.time_s for cut in part.cuts]
        sections = self._sections.add(part.probabilities, part.centre_s, cuts_s, part.decided_s)
        if part.duration_s is not None:
            sections += self._sections.close(part.duration_s)
        found = [segment for section in sections for segment in self._finish(section)]
        gone = int(np.searchsorted(self._frame_times_s, self._sections.start_s - self._span_s))
        self._frame_times_s, self._frames_gone = self._frame_times_s[gone:], self._frames_gone + gone
        return found

    def _finish(self, section: Section) -> list[Segment]:
        """The segments that end in this section or at the cut behind it."""
        found = self._segments(section) if len(section.centre_s) else []
        for before in self._going_on:
            same = [s for s in found if s.label == before.label and s.start_s <= section.start_s]
            if not same:
                found.append(before)
                continue
            best = max(same, key=lambda s: s.score)
            found[found.index(best)] = _joined(before, best)
        self._going_on = []
        if not section.before_cut:
            # The best of each label that reaches the border waits for what comes.
            for segment in sorted(found, key=lambda s: -s.score):
                waits = {s.label for s in self._going_on}
                if segment.end_s >= section.end_s and segment.label not in waits:
                    self._going_on.append(segment)
        return in_order([s for s in found if s not in self._going_on])

    def _segments(self, section: Section) -> list[Segment]:
        settings, step_s = self.settings, self._step_s
        table = smooth(own_rows(section, self._span_s, step_s), SMOOTHING_S / step_s)
        span = max(1, round(self._span_s / step_s))  # of a snippet, in snippets
        sums = PrefixSums(table)
        minutes = (section.end_s - section.start_s) / 60
        columns: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []  # times, score, label
        for column in self._reported:
            sequence = table[:, column]
            if sequence.max() < settings.min_score:
                continue  # no mean can be above
            runs = self._candidates(sequence)
            if settings.refine:
                runs = refine(runs, sequence, span=span)
            runs, value = self._valued(runs, sums, column, section)
            runs, value = runs[value >= settings.min_score], value[value >= settings.min_score]
            times = to_time(runs, section, step_s)
            kept = hard_nms(times, value, iou_threshold=DUPLICATE_IOU)
            kept = kept[: ceil(CANDIDATES_PER_MINUTE * minutes)]
            columns.append((times[kept], value[kept], np.full(len(kept), column)))
        if not sum(len(scores) for _, scores, _ in columns):
            return []
        method: Method = "gaussian" if settings.nms == "soft" else settings.nms
        times, scores, label = (np.concatenate(part) for part in zip(*columns, strict=True))
        left = suppress(
            times,
            scores,
            label,
            method=method,
            per_class=not settings.across_labels,
            iou_threshold=LINEAR_IOU if method == "linear" else HARD_IOU,
            sigma=SOFT_SIGMA,
            min_score=0.0 if method == "hard" else settings.min_score,
            limit=ceil(SEGMENTS_PER_MINUTE * minutes),
            voting_iou=VOTING_IOU if settings.voting else None,
        )
        # Votes do not take a segment off the border of the section, beyond which it may go on.
        border = np.array([section.start_s, section.end_s])
        left_times = np.where(times[left.indices] == border, border, left.segments)
        frames = self._frame_at(left_times)
        return [
            Segment(self._labels[column], float(v), float(s), float(e), int(first), int(last))
            for column, v, (s, e), (first, last) in zip(
                left.labels, left.scores, left_times, frames, strict=True
            )
            if first < last
        ]

    def _valued(
        self, runs: np.ndarray, sums: PrefixSums, column: int, section: Section
    ) -> tuple[np.ndarray, np.ndarray]:
        """The candidates of a label, or what they should rather be, (K, 2), and their scores (K,)."""
        return runs, _contrast(runs, sums, column)

    def _candidates(self, sequence: np.ndarray) -> np.ndarray:
        runs = []
        if self.settings.candidates in ("grouping", "both"):
            runs.append(group(sequence))
        if self.settings.candidates in ("windows", "both"):
            runs.append(sliding_windows(len(sequence), self._step_s))
        return np.unique(np.concatenate(runs), axis=0)

    def _frame_at(self, time_s: np.ndarray) -> np.ndarray:
        """Index of the first frame at or after each time, int64."""
        # Times were rounded to microseconds somewhere on the way; half of one is no later frame.
        return self._frames_gone + np.searchsorted(self._frame_times_s, time_s - 5e-7, side="left")


def _joined(before: Segment, after: Segment) -> Segment:
    """One segment out of two that meet; the score is their mean by length."""
    lengths = before.end_s - before.start_s, after.end_s - after.start_s
    score = (before.score * lengths[0] + after.score * lengths[1]) / sum(lengths)
    return replace(after, score=score, start_s=before.start_s, start_frame=before.start_frame)


def _contrast(runs: np.ndarray, sums: PrefixSums, column: int) -> np.ndarray:
    """Mean inside minus CONTEXT_WEIGHT times the mean of the louder side of the context, (K,).

    Of both sides together half a moment would get half a score: it goes on on one side only.
    """
    label = np.full(len(runs), column, dtype=np.int64)
    start, end = runs[:, 0], runs[:, 1]
    reach = (end - start) * CONTEXT_SHARE
    inside = sums.mean(start, end, label)
    context = np.maximum(sums.mean(start - reach, start, label), sums.mean(end, end + reach, label))
    return np.asarray(inside - CONTEXT_WEIGHT * context)
