"""The detector on constructed and on simulated snippet scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from simulated_scores import LABELS, dataset, snippet_scores

from vpipe.detection.boundaries import refine, smooth
from vpipe.detection.detector import DetectorSettings, Segment, detect
from vpipe.evaluation.anet import detection_map
from vpipe.evaluation.formats import SegmentTable
from vpipe.recognition.scores import SnippetScores

TIOUS = [0.3, 0.4, 0.5, 0.6, 0.7]


def clean(segments: list[tuple[int, float, float]], length_s: float = 20.0) -> SnippetScores:
    return snippet_scores(np.random.default_rng(0), segments, length_s, noise=0.0)


def best(found: list[Segment]) -> Segment:
    return max(found, key=lambda s: s.score)


def mean_map(seed: int, videos: int, settings: DetectorSettings, *, noise: float = 1.0) -> float:
    truth, scores, _ = dataset(seed, videos, noise=noise)
    rows = [
        (v, s.label, s.start_s, s.end_s, s.score) for v, one in scores.items() for s in detect(one, settings)
    ]
    return 100 * detection_map(truth, SegmentTable.of(rows), TIOUS).average_map


def test_simulated_scores_are_as_good_as_the_models() -> None:
    accuracy = dataset(0, 10)[2]
    assert 0.90 < accuracy < 0.97


@pytest.mark.parametrize(
    ("settings", "at_least"),
    [
        (DetectorSettings(), 92),
        (DetectorSettings(candidates="both"), 92),
        (DetectorSettings(candidates="windows"), 92),
        (DetectorSettings(candidates="windows", refine=False), 90),
        (DetectorSettings(nms="hard"), 90),
    ],
    ids=["grouping", "both", "windows", "plain-windows", "hard-nms"],
)
def test_map_on_simulated_videos(settings: DetectorSettings, at_least: float) -> None:
    assert mean_map(seed=7, videos=20, settings=settings) >= at_least


def test_map_with_a_weak_model() -> None:
    assert mean_map(seed=8, videos=20, settings=DetectorSettings(), noise=2.0) >= 75


def test_refinement_sharpens_windows() -> None:
    truth, scores, _ = dataset(9, 12)
    at_90 = []
    for refined in (False, True):
        settings = DetectorSettings(candidates="windows", refine=refined)
        rows = [
            (v, s.label, s.start_s, s.end_s, s.score) for v, o in scores.items() for s in detect(o, settings)
        ]
        at_90.append(detection_map(truth, SegmentTable.of(rows), [0.9]).average_map)
    assert at_90[1] > at_90[0] + 0.3


@pytest.mark.parametrize(("start", "end"), [(4.0, 9.0), (5.3, 7.1), (2.71, 4.25)])
def test_boundaries_of_a_clean_segment(start: float, end: float) -> None:
    found = best(detect(clean([(3, start, end)])))
    assert found.label == LABELS[3]
    assert found.start_s == pytest.approx(start, abs=0.13)
    assert found.end_s == pytest.approx(end, abs=0.13)
    assert 0.55 < found.score <= 1


def test_frames_follow_the_times_of_the_frames() -> None:
    scores = clean([(3, 4.0, 9.0)])
    found = best(detect(scores))
    times = scores.frame_times_s
    assert times[found.start_frame - 1] < found.start_s <= times[found.start_frame]
    assert times[found.end_frame - 1] < found.end_s <= times[found.end_frame]


def test_a_segment_that_fills_the_video_reaches_its_ends() -> None:
    scores = clean([(5, 0.0, 20.0)])
    found = best(detect(scores))
    assert (found.start_s, found.end_s) == (0.0, 20.0)
    assert (found.start_frame, found.end_frame) == (0, len(scores.frame_times_s))


def test_segments_at_the_borders_of_the_video() -> None:
    found = [s for s in detect(clean([(1, 0.0, 4.0), (2, 15.0, 20.0)])) if s.score > 0.5]
    assert [s.label for s in found] == [LABELS[1], LABELS[2]]
    assert (found[0].start_s, found[1].end_s) == (0.0, 20.0)


def test_a_part_of_a_moment_scores_little() -> None:
    """Scores dip in the middle of a moment at the end of a video: neither half stands for itself."""
    scores = snippet_scores(np.random.default_rng(0), [(1, 10.0, 20.0)], 20.0, noise=0.0)
    table = scores.probabilities.copy()
    dip = np.abs(scores.centre_s - 15.0) < 0.4
    table[dip, 1], table[dip, 0] = 0.4, 0.6
    whole, *parts = sorted(detect(replace(scores, probabilities=table)), key=lambda s: -s.score)
    assert (whole.start_s, whole.end_s) == pytest.approx((10.0, 20.0), abs=0.3)
    assert whole.score > 0.7
    assert all(part.score < 0.2 for part in parts)


def test_background_only_when_asked() -> None:
    scores = clean([(3, 8.0, 12.0)])
    assert {s.label for s in detect(scores)} == {LABELS[3]}
    labels = {s.label for s in detect(scores, DetectorSettings(include_background=True)) if s.score > 0.3}
    assert labels == {"static", LABELS[3]}


def test_a_video_without_motion_has_no_segments() -> None:
    assert detect(clean([])) == []


def test_min_score_is_a_lower_bound() -> None:
    scores = dataset(3, 1)[1]["video_00"]
    for least in (0.05, 0.3, 0.6):
        assert all(s.score >= least for s in detect(scores, DetectorSettings(min_score=least)))


def test_one_snippet_and_none() -> None:
    one = clean([(3, 0.0, 1.0)], length_s=1.0)
    assert len(one.centre_s) == 1
    found = best(detect(one))
    assert (found.label, found.start_s, found.end_s) == (LABELS[3], 0.0, 1.0)
    nothing = np.zeros(0)
    none = replace(
        one, probabilities=np.zeros((0, 13)), start_s=nothing, centre_s=nothing, end_s=nothing, duration_s=0.5
    )
    assert detect(none) == []


def test_refine_moves_to_the_half_crossing_and_not_far() -> None:
    sequence = np.array([0, 0, 0, 0.25, 0.75, 1, 1, 1, 1, 0.5, 0, 0, 0])
    start, end = refine(np.array([[4.6, 9.2]]), sequence, span=4)[0]
    assert (start, end) == pytest.approx((4.0, 9.5), abs=0.2)
    flat = refine(np.array([[6.0, 8.0]]), np.full(15, 0.5), span=4)
    assert flat.tolist() == [[6.0, 8.0]]
    assert refine(np.zeros((0, 2)), sequence, span=4).shape == (0, 2)


def test_smoothing_keeps_probabilities() -> None:
    table = np.random.default_rng(0).dirichlet(np.ones(4), size=30)
    np.testing.assert_allclose(smooth(table, 1.0).sum(axis=1), 1.0)
    np.testing.assert_allclose(smooth(table, 0.0), table)


def test_rows_are_ordered_and_plain() -> None:
    found = detect(dataset(3, 1)[1]["video_00"])
    assert [s.start_s for s in found] == sorted(s.start_s for s in found)
    row = found[0].to_json()
    assert list(row) == ["label", "score", "start_s", "end_s", "start_frame", "end_frame"]
    assert all(type(v) in (str, float, int) for v in row.values())
