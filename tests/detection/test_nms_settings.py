"""The detector's ways to suppress: Gaussian, linear, hard, with voting, across labels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from simulated_scores import LABELS, dataset, snippet_scores

from vpipe.detection.detector import DetectorSettings, Segment, detect
from vpipe.evaluation.anet import detection_map
from vpipe.evaluation.formats import SegmentTable

TIOUS = [0.3, 0.4, 0.5, 0.6, 0.7]


@pytest.fixture(scope="module")
def videos() -> tuple:
    return dataset(7, 15)


def found(videos: tuple, settings: DetectorSettings) -> dict[str, list[Segment]]:
    return {video: detect(scores, settings) for video, scores in videos[1].items()}


@pytest.mark.parametrize(
    "settings",
    [
        DetectorSettings(nms="linear"),
        DetectorSettings(nms="hard", voting=True),
        DetectorSettings(voting=True),
        DetectorSettings(across_labels=True),
    ],
    ids=["linear", "hard-voting", "soft-voting", "across"],
)
def test_map_on_simulated_videos(videos: tuple, settings: DetectorSettings) -> None:
    segments = found(videos, settings)
    rows = [(v, s.label, s.start_s, s.end_s, s.score) for v, some in segments.items() for s in some]
    assert 100 * detection_map(videos[0], SegmentTable.of(rows), TIOUS).average_map >= 90


@pytest.mark.parametrize("nms", ["hard", "soft", "linear"])
def test_across_labels_the_weaker_of_two_gives_way(nms: Literal["hard", "soft", "linear"]) -> None:
    """Two labels over the same stretch, one at nine tenths of the other."""
    scores = snippet_scores(np.random.default_rng(0), [(1, 5.0, 10.0)], 20.0, noise=0.0)
    table = scores.probabilities.copy()
    table[:, 2] = 0.9 * table[:, 1]
    both = replace(scores, probabilities=table)

    def of_label(label: str, **options: Any) -> float:
        segments = detect(both, DetectorSettings(nms=nms, min_score=0.05, **options))
        return max((s.score for s in segments if s.label == label), default=0.0)

    strong, weak = LABELS[1], LABELS[2]
    assert of_label(weak) > 0.8 * of_label(strong) > 0
    assert of_label(weak, across_labels=True) < 0.5 * of_label(weak)
    assert of_label(strong, across_labels=True) == of_label(strong)


def test_voting_moves_boundaries_and_no_scores(videos: tuple) -> None:
    plain = found(videos, DetectorSettings(nms="hard", candidates="windows", refine=False))
    voted = found(videos, DetectorSettings(nms="hard", candidates="windows", refine=False, voting=True))
    for video in plain:
        # A segment that was joined over the border of two sections weighs their scores by their lengths.
        one, other = (sorted(s.score for s in result[video]) for result in (plain, voted))
        assert one == pytest.approx(other, abs=0.03)
    starts = [np.sort([s.start_s for some in result.values() for s in some]) for result in (plain, voted)]
    assert not np.allclose(*starts)
