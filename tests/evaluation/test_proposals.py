"""AR@AN against the numbers of the official code and OpenTAD, and where they fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vpipe.evaluation.annotations import truth_of
from vpipe.evaluation.checks import SMALLEST_UNION_S, without_duplicates
from vpipe.evaluation.documents import entries_of
from vpipe.evaluation.formats import SegmentTable
from vpipe.evaluation.predictions import predictions_of
from vpipe.evaluation.proposals import OFFICIAL_TIOUS, ProposalScores, average_recall

FIXTURES = Path(__file__).parent.parent / "fixtures" / "detection"
CASES = [path for path in sorted(FIXTURES.glob("det_edge_*.json")) if "ties" not in path.stem]


def tables(case: dict, subset: str, blocked: list[str]) -> tuple[SegmentTable, SegmentTable]:
    truth = truth_of(entries_of(case["ground_truth"]), subset=subset, blocked=blocked)
    wants = ("segment", "score")
    entries = entries_of(case["prediction"])
    return truth.segments, predictions_of(entries, blocked=truth.blocked, wants=wants).segments


def assert_same(got: ProposalScores, official: dict) -> None:
    np.testing.assert_allclose(got.ar, official["avg_recall"], rtol=0, atol=1e-9)
    np.testing.assert_allclose(got.proposals_per_video, official["proposals_per_video"], rtol=0, atol=1e-9)
    assert 100 * got.auc == pytest.approx(official["auc_percent"], abs=1e-9)
    if "recall" in official:
        np.testing.assert_allclose(got.recall, official["recall"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_official_numbers(path: Path) -> None:
    case = json.loads(path.read_text(encoding="utf-8"))
    assert case["tious_proposal"] == list(OFFICIAL_TIOUS)
    truth, found = tables(case, case["subset"], case["blocked_videos"])
    for key, most in (("proposal_100", 100), ("proposal_none", None)):
        got = average_recall(truth, found, max_proposals=most)
        if "error" in case["expected"][key]:  # no proposal: the official code divides by zero
            assert (max(got.ar), got.auc) == (0.0, 0.0)
        else:
            assert_same(got, case["expected"][key])
    official = case["expected"]["opentad_recall"]
    if "error" not in official:
        got = average_recall(without_duplicates(truth)[0], found, smallest_union_s=SMALLEST_UNION_S)
        assert got.auc == pytest.approx(official["AUC"], abs=1e-9)
        for k in (1, 5, 10, 100):
            assert got.ar[k - 1] == pytest.approx(official[f"AR@{k}"], abs=1e-9)


@pytest.mark.parametrize("name", ["det_anet13_val_900", "det_thumos14_val"])
def test_official_numbers_on_real_annotations(shared_dir: Path, name: str) -> None:
    case = json.loads((shared_dir / "fixtures" / "detection" / f"{name}.json").read_text(encoding="utf-8"))
    params = case["params"]
    truth, found = tables(case, params["subset"], params["blocked_videos"])
    for key, most in (("proposal_100", 100), ("proposal_none", None)):
        assert_same(
            average_recall(truth, found, max_proposals=most), case["expected"]["activitynet_py3"][key]
        )


def two_videos() -> tuple[SegmentTable, SegmentTable]:
    """Video a has its two annotations first and second, b the only one third of three proposals."""
    truth = SegmentTable.of([("a", "x", 0, 10, 1), ("a", "x", 20, 30, 1), ("b", "y", 0, 10, 1)])
    found = [("a", "", 0, 10, 0.9), ("a", "", 20, 30, 0.8), ("a", "", 50, 60, 0.1)]
    found += [("b", "", 40, 50, 0.7), ("b", "", 60, 70, 0.6), ("b", "", 0, 10, 0.5)]
    return truth, SegmentTable.of(found)


def test_recall_by_hand_at_1_to_max() -> None:
    got = average_recall(*two_videos(), [0.5, 0.75], max_proposals=3)
    assert got.ar == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert got.proposals_per_video == pytest.approx([1, 2, 3])
    assert got.recall == [got.ar, got.ar]


def test_fewer_than_100_are_points_of_the_official_curve() -> None:
    truth, found = two_videos()
    fine = average_recall(truth, found, [0.5], max_proposals=100)
    coarse = average_recall(truth, found, [0.5], max_proposals=2)
    assert len(fine.ar) == 100
    assert len(coarse.ar) == 2
    # Two of three are kept: AN 1 and 2 are the 50th and the 100th step on the way to 2.
    assert coarse.ar == pytest.approx([1 / 3, 2 / 3])
    assert 0 < coarse.auc < coarse.ar[-1]


def test_ties_are_counted_and_the_later_goes_first() -> None:
    truth = SegmentTable.of([("a", "x", 0, 10, 1)])
    found = [("a", "", 20.0, 30.0, 0.5), ("a", "", 0.0, 10.0, 0.5)]
    first = average_recall(truth, SegmentTable.of(found), [0.5], max_proposals=2)
    second = average_recall(truth, SegmentTable.of(found[::-1]), [0.5], max_proposals=2)
    assert (first.ar, second.ar) == ([1.0, 1.0], [0.0, 1.0])
    assert [w.numbers for w in first.warnings] == [{"ties": 1}]
