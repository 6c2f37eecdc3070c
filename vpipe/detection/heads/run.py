"""From the features of a video to segments, and to a label for every frame, by a learned head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import torch

from vpipe.detection.detector import CONTEXT_SHARE, Detector, DetectorSettings, Segment, in_order
from vpipe.detection.heads.head import Head
from vpipe.detection.heads.mstcn import MSTCN
from vpipe.detection.heads.stpp import STPP, moved
from vpipe.detection.sections import HORIZON_S, Section
from vpipe.detection.windows import PrefixSums
from vpipe.recognition.features_file import Features
from vpipe.recognition.scores import ScorePart, SnippetScores

FRAMES_AT_A_TIME = 8192
RUNS_AT_A_TIME = 4096
BLOCK = 4  # snippets that are mapped together: more would come later, fewer take longer


@dataclass(frozen=True)
class HeadResult:
    """What a head finds in one video."""

    segments: list[Segment]
    frame_labels: list[tuple[str, int]] | None  # (label, frames) in turn; of heads that label frames


def detect_with_head(
    head: Head, features: Features, settings: DetectorSettings, cuts: SnippetScores | None = None
) -> HeadResult:
    """Segments of one video in order of time, and frame labels where the head gives them.

    `cuts`: scores of the same video, which know its cuts; without, there are none. Raises InputError as
    `Head.check` does.
    """
    head.check(features)
    network, table = head.network, torch.from_numpy(features.table)
    if isinstance(network, MSTCN):
        scores = _scores(head, features, network.probabilities(table).numpy(), cuts)
        labels, background = list(head.header.labels), head.header.background
        detector = Detector(labels, background, settings, step_s=scores.step_s, span_s=scores.span_s)
        return HeadResult(in_order(detector.add(scores.as_part())), frame_runs(scores))
    scores = _scores(head, features, features.table, cuts)
    pyramid = PyramidDetector(head, settings, step_s=scores.step_s, span_s=scores.span_s)
    return HeadResult(in_order(pyramid.add(scores.as_part())), None)


class PyramidDetector(Detector):
    """A detector whose candidates are judged by the structured temporal pyramid.

    Parts have features (n, C) for probabilities. Maps depend on snippets nearby alone, and candidates are
    judged by those of their section: nothing waits for the end of the video.
    """

    def __init__(self, head: Head, settings: DetectorSettings, *, step_s: float, span_s: float) -> None:
        labels = list(head.header.labels)
        super().__init__(labels, head.header.background, settings, step_s=step_s, span_s=span_s)
        assert isinstance(head.network, STPP)
        self._network, self._columns = head.network, len(labels)
        self._rows = np.zeros((0, head.header.channels), dtype=np.float32)  # features that maps still need
        self._centre_s = np.zeros(0)
        self._gone = self._mapped = 0  # snippets before these rows; snippets whose maps are known
        self._maps = torch.zeros(0, self._network.dims.maps)  # of the section at hand and of what was before
        self._before = 0  # of these, those before the section
        self._most_before = round(HORIZON_S * CONTEXT_SHARE / step_s)  # that a candidate can have for context

    def add(self, part: ScorePart) -> list[Segment]:
        if len(part.probabilities):
            self._rows = np.concatenate([self._rows, part.probabilities])
            self._centre_s = np.concatenate([self._centre_s, part.centre_s])
        before = self._mapped
        rows = self._mapped_rows(ended=part.duration_s is not None)
        centre_s = self._centre_s[before - self._gone : self._mapped - self._gone]
        gone = max(0, self._mapped - self._network.reach) - self._gone
        self._rows, self._centre_s, self._gone = self._rows[gone:], self._centre_s[gone:], self._gone + gone
        return super().add(replace(part, probabilities=rows, centre_s=centre_s))

    def _mapped_rows(self, *, ended: bool) -> np.ndarray:
        """Scores and maps (n, labels + M) of the snippets whose neighbours are known by now.

        In blocks that lie where they lie, so that bits do not depend on how many come at a time.
        """
        known, reach, found = self._gone + len(self._rows), self._network.reach, []
        with torch.inference_mode():
            while self._mapped < known and (ended or self._mapped + BLOCK + reach <= known):
                stop = min(self._mapped + BLOCK, known)
                first, last = max(0, self._mapped - reach), min(known, self._mapped + BLOCK + reach)
                near = torch.from_numpy(self._rows[first - self._gone : last - self._gone])
                maps = self._network.maps(near)[self._mapped - first : stop - first]
                found.append(torch.cat([self._network.snippet(maps).softmax(1), maps], 1).numpy())
                self._mapped = stop
        return np.concatenate(found) if found else np.zeros((0, 0), np.float32)

    def _segments(self, section: Section) -> list[Segment]:
        past, maps = self._maps[-self._most_before :], section.probabilities[:, self._columns :]
        self._maps, self._before = torch.cat([past, torch.from_numpy(maps)]), len(past)
        return super()._segments(replace(section, probabilities=section.probabilities[:, : self._columns]))

    def _valued(
        self, runs: np.ndarray, sums: PrefixSums, column: int, section: Section
    ) -> tuple[np.ndarray, np.ndarray]:
        """Runs with their ends where the head would have them, and activity times completeness (SSN, 3.4)."""
        if column == len(self._labels) - 1:  # the head judges no background
            return super()._valued(runs, sums, column, section)
        runs, count = np.asarray(runs, dtype=np.float64), len(section.centre_s)
        values, ends = [], []
        for first in range(0, len(runs), RUNS_AT_A_TIME):
            some = torch.from_numpy(runs[first : first + RUNS_AT_A_TIME])
            with torch.inference_mode():
                judged = self._network.judge(self._maps, some + self._before)
                activity = judged.activity.softmax(1)[:, column]
                # exp(completeness) as in SSN, but no more than 1: the hinge asks for 1 and no more.
                values.append((activity * (judged.completeness[:, column].clamp(max=1) - 1).exp()).numpy())
                ends.append(moved(some, judged.regression[:, column].double()).numpy())
        if not values:
            return runs, np.zeros(0)
        better = np.clip(np.concatenate(ends), 0, count)
        # What reaches the border of a section, a cut or the end of the video, stays there.
        better = np.where((runs <= 0) | (runs >= count), np.clip(runs, 0, count), better)
        good = better[:, 1] - better[:, 0] > 1e-6
        return np.where(good[:, None], better, runs), np.concatenate(values).astype(np.float64)


def frame_runs(scores: SnippetScores) -> list[tuple[str, int]]:
    """The best label of every frame, scores between two snippets interpolated: (label, frames) in turn."""
    times, centre = scores.frame_times_s, scores.centre_s
    table = np.asarray(scores.probabilities, dtype=np.float64)
    best: list[np.ndarray] = []
    for first in range(0, len(times), FRAMES_AT_A_TIME):
        # The snippet before each frame, and how far the frame is on the way to the next.
        when = np.clip(times[first : first + FRAMES_AT_A_TIME], centre[0], centre[-1])
        left = np.clip(np.searchsorted(centre, when, side="right") - 1, 0, max(0, len(centre) - 2))
        right = np.minimum(left + 1, len(centre) - 1)
        gap = np.where(right > left, centre[right] - centre[left], 1.0)
        share = ((when - centre[left]) / gap)[:, None]
        best.append((table[left] * (1 - share) + table[right] * share).argmax(1))
    labels = np.concatenate(best) if best else np.zeros(0, np.int64)
    return [(scores.labels[column], sum(1 for _ in same)) for column, same in groupby(labels.tolist())]


def _scores(
    head: Head, features: Features, probabilities: np.ndarray, cuts: SnippetScores | None
) -> SnippetScores:
    found = SnippetScores(
        list(head.header.labels),
        head.header.background,
        probabilities.astype(np.float32),
        features.start_s,
        features.centre_s,
        features.end_s,
        duration_s=features.duration_s,
        frame_times_s=features.frame_times_s,
    )
    return found if cuts is None else replace(found, cuts=cuts.cuts)
