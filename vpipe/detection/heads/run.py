"""From the features of a video to segments, and to a label for every frame, by a learned head."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import numpy as np
import torch

from vpipe.detection.detector import Detector, DetectorSettings, Segment, in_order
from vpipe.detection.heads.head import Head
from vpipe.detection.heads.mstcn import MSTCN
from vpipe.detection.heads.stpp import STPP, moved
from vpipe.detection.sections import Section
from vpipe.detection.windows import PrefixSums
from vpipe.recognition.features_file import Features
from vpipe.recognition.scores import SnippetScores

FRAMES_AT_A_TIME = 8192
RUNS_AT_A_TIME = 4096

_Detector = TypeVar("_Detector", bound=Detector)


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
        detector = _detector(Detector, scores, settings)
        return HeadResult(in_order(detector.add(scores.as_part())), frame_runs(scores))
    with torch.inference_mode():
        maps = network.maps(table)
        scores = _scores(head, features, network.snippet(maps).softmax(1).numpy(), cuts)
    pyramid = _detector(PyramidDetector, scores, settings)
    pyramid.know(network, maps, scores.centre_s)
    return HeadResult(in_order(pyramid.add(scores.as_part())), None)


class PyramidDetector(Detector):
    """A detector whose candidates are judged by the structured temporal pyramid."""

    def know(self, network: STPP, maps: torch.Tensor, centre_s: np.ndarray) -> None:
        """Maps (T, M) of the whole video, and when its snippets are."""
        self._network, self._maps, self._centre_s = network, maps, centre_s

    def _valued(
        self, runs: np.ndarray, sums: PrefixSums, column: int, section: Section
    ) -> tuple[np.ndarray, np.ndarray]:
        """Runs with their ends where the head would have them, and activity times completeness (SSN, 3.4)."""
        if column == len(self._labels) - 1:  # the head judges no background
            return super()._valued(runs, sums, column, section)
        before = int(np.searchsorted(self._centre_s, section.centre_s[0]))
        runs, count = np.asarray(runs, dtype=np.float64), len(section.centre_s)
        values, ends = [], []
        for first in range(0, len(runs), RUNS_AT_A_TIME):
            some = torch.from_numpy(runs[first : first + RUNS_AT_A_TIME])
            with torch.inference_mode():
                judged = self._network.judge(self._maps, some + before)
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


def _detector(kind: type[_Detector], scores: SnippetScores, settings: DetectorSettings) -> _Detector:
    return kind(scores.labels, scores.background, settings, step_s=scores.step_s, span_s=scores.span_s)
