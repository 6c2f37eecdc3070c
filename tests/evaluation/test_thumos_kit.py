"""The THUMOS14 kit's protocol: by hand, and against the numbers of its reading."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vpipe.errors import InputError
from vpipe.evaluation.formats import SegmentTable
from vpipe.evaluation.thumos_kit import AMBIGUOUS, kit_map


def test_official_numbers(shared_dir: Path) -> None:
    case = json.loads((shared_dir / "fixtures" / "detection" / "thumos14_kit.json").read_text())
    notes = [
        (video, label, start, end, 1.0)
        for part in ("ground_truth", "ambiguous")
        for video, annotations in case[part].items()
        for start, end, label in annotations
    ]
    found = SegmentTable.of((v, label, s, e, score) for v, s, e, label, score in case["detections"])
    tious = list(case["expected"]["ap_sum"])
    got = kit_map(SegmentTable.of(notes), found, [float(t) for t in tious])
    for key, means, aps in (("ap_sum", got.map, got.ap), ("ap_11point", got.map_11point, got.ap_11point)):
        for i, tiou in enumerate(tious):
            official = case["expected"][key][tiou]
            assert means[i] == pytest.approx(official["mAP"], abs=1e-9)
            assert {c: v[i] for c, v in aps.items()} == pytest.approx(official["per_class"], abs=1e-9)


def one(found: list[tuple], truth: list[tuple], tiou: float = 0.5) -> float:
    return kit_map(SegmentTable.of(truth), SegmentTable.of(found), [tiou]).map[0]


GOAL = ("v", "goal", 0.0, 10.0, 1.0)


def test_the_best_overlap_is_taken_and_not_the_best_score() -> None:
    close, exact = ("v", "goal", 0.0, 8.0, 0.9), ("v", "goal", 0.0, 10.0, 0.1)
    assert one([close, exact], [GOAL]) == 0.5


def test_an_overlap_of_the_threshold_is_not_enough() -> None:
    half = ("v", "goal", 0.0, 5.0, 0.9)
    assert one([half], [GOAL], 0.5) == 0.0
    assert one([half], [GOAL], 0.49) == 1.0


def test_earlier_annotations_choose_first() -> None:
    truth = [("v", "goal", 0.0, 10.0, 1.0), ("v", "goal", 4.0, 10.0, 1.0)]
    found = [("v", "goal", 0.0, 9.0, 0.9)]
    assert one(found, truth) == 0.5
    both = [*found, ("v", "goal", 3.0, 10.0, 0.8)]
    assert one(both, truth, 0.7) == 1.0


def test_ambiguous_intervals_excuse_what_touches_them() -> None:
    wrong, right = ("v", "goal", 20.0, 30.0, 0.9), ("v", "goal", 0.0, 10.0, 0.5)
    assert one([wrong, right], [GOAL]) == 0.5
    assert one([wrong, right], [GOAL, ("v", AMBIGUOUS, 29.0, 40.0, 1.0)]) == 1.0
    assert one([wrong, right], [GOAL, ("v", AMBIGUOUS, 30.0, 40.0, 1.0)]) == 0.5
    assert one([wrong, right], [GOAL, ("other", AMBIGUOUS, 20.0, 30.0, 1.0)]) == 0.5


def test_reversed_segments_are_turned_and_empty_ones_match_nothing() -> None:
    assert one([("v", "goal", 10.0, 0.0, 0.9)], [GOAL]) == 1.0
    assert one([("v", "goal", 3.0, 3.0, 0.9)], [("v", "goal", 3.0, 3.0, 1.0)]) == 0.0


def test_ties_unknown_labels_and_missing_predictions() -> None:
    found = [("w", "goal", 0.0, 10.0, 0.5), ("v", "goal", 0.0, 10.0, 0.5), ("v", "foul", 0.0, 1.0, 0.5)]
    got = kit_map(SegmentTable.of([GOAL, ("v", "miss", 0.0, 1.0, 1.0)]), SegmentTable.of(found), [0.5])
    assert got.ap == {"goal": [1.0], "miss": [0.0]}  # right ones first among equals
    assert {w.code: w.numbers for w in got.warnings} == {
        "score_ties": {"ties": 1},
        "unknown_label": {"predictions": 1, "labels": 1},
    }
    assert kit_map(SegmentTable.of([GOAL]), SegmentTable.of([]), [0.5]).map == [0.0]
    with pytest.raises(InputError, match="Ambiguous"):
        kit_map(SegmentTable.of([("v", AMBIGUOUS, 0, 1, 1)]), SegmentTable.of([]), [0.5])
