"""Top-k, mean class accuracy and mAP of whole videos."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vpipe.errors import InputError
from vpipe.evaluation.annotations import truth_of
from vpipe.evaluation.classification import classification_scores
from vpipe.evaluation.documents import entries_of
from vpipe.evaluation.formats import SegmentTable
from vpipe.evaluation.predictions import predictions_of

FIXTURES = Path(__file__).parent.parent / "fixtures" / "detection"


def labels(*rows: tuple[str, str, float]) -> SegmentTable:
    return SegmentTable.of((video, label, 0, 0, score) for video, label, score in rows)


def test_official_numbers() -> None:
    case = json.loads((FIXTURES / "det_cls_synthetic.json").read_text())
    truth = truth_of(entries_of(case["ground_truth"]), subset=case["subset"])
    found = predictions_of(entries_of(case["prediction"]), known=truth.known, wants=("label", "score"))
    official = case["expected"]["classification"]
    k = official["top_k"]
    got = classification_scores(truth.segments, found.segments, [k])
    assert got.top_k[k] == pytest.approx(official["hit_at_k"], abs=1e-9)
    assert got.average_top_k[k] == pytest.approx(official["avg_hit_at_k"], abs=1e-9)
    assert got.map == pytest.approx(official["mAP"], abs=1e-9)
    assert got.ap == pytest.approx(official["ap_per_class"], abs=1e-9)


def test_by_hand() -> None:
    truth = labels(("1", "a", 1), ("2", "a", 1), ("3", "b", 1), ("4", "c", 1), ("4", "c", 1))
    found = labels(("1", "a", 0.9), ("1", "b", 0.1), ("2", "b", 0.8), ("2", "a", 0.2), ("3", "b", 0.7))
    got = classification_scores(truth, found, [1, 2])
    assert got.top_k == {1: 0.5, 2: 0.75}
    assert got.class_accuracy == {"a": 0.5, "b": 1.0, "c": 0.0}
    assert got.mean_class_accuracy == 0.5
    assert got.ap == {"a": 1.0, "b": 0.5, "c": 0.0}
    assert got.videos == 4


def test_several_labels_in_a_video() -> None:
    got = classification_scores(labels(("1", "a", 1), ("1", "b", 1)), labels(("1", "a", 0.5)), [1, 5])
    assert (got.top_k, got.average_top_k) == ({1: 1.0, 5: 1.0}, {1: 0.5, 5: 0.5})


def test_a_label_nobody_knows_keeps_its_rank() -> None:
    got = classification_scores(labels(("1", "a", 1)), labels(("1", "z", 0.9), ("1", "a", 0.8)), [1, 2])
    assert got.top_k == {1: 0.0, 2: 1.0}
    assert got.ap == {"a": 1.0}
    assert [w.code for w in got.warnings] == ["unknown_label"]


def test_ties_of_a_label_between_videos_are_counted() -> None:
    """They say nothing about top-k, but AP ranks the videos of a label."""
    found = labels(("1", "a", 0.5), ("2", "a", 0.5), ("2", "b", 0.5))
    got = classification_scores(labels(("1", "a", 1), ("2", "b", 1)), found, [1])
    assert {w.code: w.numbers for w in got.warnings}["score_ties"] == {"ties": 2}
    got = classification_scores(
        labels(("1", "a", 1), ("2", "b", 1)), labels(("1", "a", 0.5), ("2", "b", 0.5)), [1]
    )
    assert got.warnings == []


def test_ties_and_nothing_at_all() -> None:
    truth = labels(("1", "a", 1))
    got = classification_scores(truth, labels(("1", "b", 0.5), ("1", "a", 0.5)), [1])
    assert got.top_k == {1: 1.0}
    assert {w.code: w.numbers for w in got.warnings}["score_ties"] == {"ties": 1}
    assert classification_scores(truth, labels(), [1]).top_k == {1: 0.0}
    with pytest.raises(InputError, match="no label"):
        classification_scores(labels(), truth)
