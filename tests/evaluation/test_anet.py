"""Our ActivityNet mAP against the numbers of the official code, and against a plain loop."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vpipe.errors import InputError
from vpipe.evaluation.anet import DetectionScores, detection_map
from vpipe.evaluation.annotations import truth_of
from vpipe.evaluation.checks import SMALLEST_UNION_S, without_duplicates
from vpipe.evaluation.documents import entries_of
from vpipe.evaluation.formats import SegmentTable
from vpipe.evaluation.predictions import predictions_of

FIXTURES = Path(__file__).parent.parent / "fixtures" / "detection"
TOLERANCE = 1e-9


def score(document: dict, tious: list[float], subset: str, blocked: list[str]) -> DetectionScores:
    truth, found = tables(document, subset, blocked)
    return detection_map(truth, found, tious)


def tables(document: dict, subset: str, blocked: list[str]) -> tuple[SegmentTable, SegmentTable]:
    truth = truth_of(entries_of(document["ground_truth"]), subset=subset, blocked=blocked)
    found = predictions_of(entries_of(document["prediction"]), known=truth.known, blocked=truth.blocked)
    return truth.segments, found.segments


def assert_same(got: DetectionScores, official: dict) -> None:
    np.testing.assert_allclose(got.map, official["mAP"], rtol=0, atol=TOLERANCE)
    assert got.average_map == pytest.approx(official["average_mAP"], abs=TOLERANCE)
    assert set(got.ap) == set(official["ap_per_class"])
    for label, values in official["ap_per_class"].items():
        np.testing.assert_allclose(got.ap[label], values, rtol=0, atol=TOLERANCE, err_msg=label)
    assert got.truths == official["n_gt"]


CASES = sorted(FIXTURES.glob("det_edge_*.json"))
WITHOUT_TIES = [path for path in CASES if "ties" not in path.stem]


def load(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WITHOUT_TIES, ids=lambda p: p.stem)
def test_official_numbers(path: Path) -> None:
    case = load(path)
    official = case["expected"]["activitynet_py3"]
    if "error" in official:  # an unknown label crashes the official code; OpenTAD ignores it, and so do we
        official = case["expected"]["opentad"]
    got = score(case, case["tious"], case["subset"], case["blocked_videos"])
    assert_same(got, official)
    assert not any(w.code == "score_ties" for w in got.warnings)


@pytest.mark.parametrize("path", WITHOUT_TIES, ids=lambda p: p.stem)
def test_opentads_numbers(path: Path) -> None:
    case = load(path)
    truth, found = tables(case, case["subset"], case["blocked_videos"])
    truth, _ = without_duplicates(truth)
    got = detection_map(truth, found, case["tious"], smallest_union_s=SMALLEST_UNION_S)
    assert_same(got, case["expected"]["opentad"])


@pytest.mark.parametrize("name", ["det_edge_ties_small", "det_edge_ties_large"])
def test_tied_fixtures_follow_our_rule(name: str) -> None:
    case = load(FIXTURES / f"{name}.json")
    truth, found = tables(case, case["subset"], case["blocked_videos"])
    got = detection_map(truth, found, [0.3, 0.5])
    assert got.map == pytest.approx([naive_map(truth, found, t) for t in (0.3, 0.5)], abs=1e-12)
    (warning,) = (w for w in got.warnings if w.code == "score_ties")
    different = set(zip(found.label, found.score.tolist(), strict=True))
    assert warning.numbers["ties"] == len(found) - len(different)


@pytest.mark.parametrize("name", ["det_anet13_val_900", "det_thumos14_val"])
def test_official_numbers_on_real_annotations(shared_dir: Path, name: str) -> None:
    case = json.loads((shared_dir / "fixtures" / "detection" / f"{name}.json").read_text(encoding="utf-8"))
    params = case["params"]
    got = score(case, params["tiou_thresholds"], params["subset"], params["blocked_videos"])
    assert_same(got, case["expected"]["activitynet_py3"]["detection"])


def naive_map(truth: SegmentTable, found: SegmentTable, tiou: float) -> float:
    """The rules as a loop."""
    aps = []
    for label in sorted(set(truth.label)):
        of_class = [i for i in range(len(truth)) if truth.label[i] == label]
        order = [i for i in range(len(found)) if found.label[i] == label]
        order = [order[j] for j in np.argsort([found.score[i] for i in order], kind="stable")[::-1]]
        free = set(of_class)
        hits = []
        for i in order:
            best, best_iou = None, tiou
            for g in sorted(free):
                if truth.video[g] != found.video[i]:
                    continue
                inter = min(truth.end_s[g], found.end_s[i]) - max(truth.start_s[g], found.start_s[i])
                inter = max(inter, 0.0)
                union = (truth.end_s[g] - truth.start_s[g]) + (found.end_s[i] - found.start_s[i]) - inter
                if inter / union >= best_iou:
                    best, best_iou = g, inter / union
            hits.append(best is not None)
            free.discard(best)  # type: ignore[arg-type]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1) if hits else np.zeros(0)
        aps.append(sum(precision[i:].max() for i, hit in enumerate(hits) if hit) / len(of_class))
    return float(np.mean(aps))


@pytest.mark.parametrize("seed", range(5))
def test_equals_a_plain_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def table(count: int) -> SegmentTable:
        starts = rng.uniform(0, 20, count)
        lengths = rng.uniform(0.5, 8, count)
        return SegmentTable.of(
            (f"v{rng.integers(6)}", "abc"[rng.integers(3)], s, s + n, float(rng.uniform()))
            for s, n in zip(starts, lengths, strict=True)
        )

    truth, found = table(60), table(400)
    got = detection_map(truth, found, [0.3, 0.5, 0.7])
    assert got.map == pytest.approx([naive_map(truth, found, t) for t in (0.3, 0.5, 0.7)], abs=1e-12)


def test_ties_are_counted_and_the_later_goes_first() -> None:
    truth = SegmentTable.of([("v", "a", 0, 10, 1)])
    miss, hit = ("v", "a", 20.0, 30.0, 0.5), ("v", "a", 0.0, 10.0, 0.5)
    later_hits = detection_map(truth, SegmentTable.of([miss, hit]), [0.5])
    later_misses = detection_map(truth, SegmentTable.of([hit, miss]), [0.5])
    assert (later_hits.map, later_misses.map) == ([1.0], [0.5])
    assert [w.numbers for w in later_hits.warnings] == [{"ties": 1}]


def test_unknown_labels_are_reported() -> None:
    truth = SegmentTable.of([("v", "a", 0, 10, 1)])
    got = detection_map(truth, SegmentTable.of([("v", "a", 0, 10, 0.9), ("v", "z", 0, 10, 1.0)]), [0.5])
    assert got.map == [1.0]
    assert [(w.code, w.numbers["predictions"]) for w in got.warnings] == [("unknown_label", 1)]


def test_nothing_predicted_and_nothing_annotated() -> None:
    truth, nothing = SegmentTable.of([("v", "a", 0, 10, 1)]), SegmentTable.of([])
    assert detection_map(truth, nothing, [0.5, 0.7]).map == [0.0, 0.0]
    with pytest.raises(InputError, match="no annotation"):
        detection_map(nothing, truth, [0.5])


def test_json_names_thresholds_with_two_decimals() -> None:
    truth = SegmentTable.of([("v", "a", 0, 10, 1)])
    got = detection_map(truth, truth, np.linspace(0.3, 0.7, 5).tolist()).to_json()
    assert got["map"] == {"0.30": 1.0, "0.40": 1.0, "0.50": 1.0, "0.60": 1.0, "0.70": 1.0}
    assert got["average_map"] == 1.0
