"""NMS against plain loops and against two toolboxes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vpipe.detection import nms
from vpipe.detection.nms import hard_nms, soft_nms, suppress, vote

FIXTURES = Path(__file__).parent.parent / "fixtures" / "detection"
SOURCES = {"nms_actionformer": "score-iou", "nms_opentad": "score"}  # what their voting weighs by


def iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return overlap / ((a[1] - a[0] + 1e-6) + (b[1] - b[0] + 1e-6) - overlap)


def brute(
    segments: np.ndarray, scores: np.ndarray, weigh: Callable[[float], float], min_score: float
) -> list[tuple[int, float]]:
    left = dict(enumerate(scores.tolist()))
    kept = []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        kept.append((best, left.pop(best)))
        left = {i: s * weigh(iou(segments[best], segments[i])) for i, s in left.items()}
        left = {i: s for i, s in left.items() if s >= min_score}
    return kept


def random_segments(seed: int, count: int, spread_s: float = 30.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, spread_s, count)
    return np.stack([start, start + rng.uniform(0.2, 10, count)], axis=1), rng.uniform(0.1, 1, count)


@pytest.fixture(params=["in rounds", "one by one"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nms, "PAIRS_PER_SEGMENT", {"in rounds": 10**9, "one by one": -1}[request.param])


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("options", "weigh"),
    [
        ({"sigma": 0.1}, lambda x: np.exp(-(x**2) / 0.1)),
        ({"sigma": 0.5}, lambda x: np.exp(-(x**2) / 0.5)),
        ({"sigma": 0.5, "iou_threshold": 0.3}, lambda x: np.exp(-(x**2) / 0.5) if x >= 0.3 else 1),
        ({"method": "linear", "iou_threshold": 0.3}, lambda x: 1 - x if x >= 0.3 else 1),
        ({"method": "linear"}, lambda x: 1 - x),
    ],
)
def test_soft_equals_brute_force(seed: int, options: dict[str, Any], weigh: Callable[[float], float]) -> None:
    segments, scores = random_segments(seed, 60)
    if seed == 3:
        scores = np.round(scores, 1)  # many ties: the earlier goes first
    kept, lowered = soft_nms(segments, scores, min_score=0.05, **options)
    expected = sorted(brute(segments, scores, weigh, 0.05), key=lambda pair: (-pair[1], pair[0]))
    assert kept.tolist() == [i for i, _ in expected]
    np.testing.assert_allclose(lowered, [s for _, s in expected], rtol=1e-12)


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.1, 0.4, 1.0])
def test_hard_keeps_what_no_better_one_covers(seed: int, threshold: float) -> None:
    segments, scores = random_segments(seed, 60)
    if seed == 3:
        scores = np.round(scores, 1)
    kept: list[int] = []
    for i in np.argsort(-scores, kind="stable"):
        if all(iou(segments[i], segments[k]) < threshold for k in kept):
            kept.append(int(i))
    assert hard_nms(segments, scores, iou_threshold=threshold).tolist() == kept


def cases(folder: Path, source: str) -> list[dict[str, Any]]:
    found = json.loads((folder / f"{source}.json").read_text())["cases"]
    return [case for case in found if not case["has_score_ties"]]


def assert_same(case: dict[str, Any], source: str, dtype: type) -> None:
    """A case of a toolbox, which computes in float32: 1e-6 of scores, and of times relatively."""
    segments = np.array(case["segments"], dtype=dtype).reshape(-1, 2)
    scores, params = np.array(case["scores"], dtype=dtype), case.get("params", {})
    if case.get("function") == "nms_1d":
        got = hard_nms(segments, scores, iou_threshold=params["iou_threshold"])
        assert got.tolist() == case["kept_indices"]
    elif case.get("function") == "softnms_1d":
        if params["method"] == 0:
            assert scores.min(initial=1) >= params["min_score"]
            kept = hard_nms(segments, scores, iou_threshold=params["iou_threshold"])
            lowered = scores[kept]
        else:
            linear, improved = params["method"] == 1, params["method"] == 3
            kept, lowered = soft_nms(
                segments,
                scores,
                method="linear" if linear else "gaussian",
                sigma=params["sigma"],
                iou_threshold=params["iou_threshold"] if linear else params["t1"] if improved else 0.0,
                iou_threshold_per_s=params["t2"] if improved else 0.0,
                min_score=params["min_score"],
            )
        official = np.array(case["out_start_end_score"]).reshape(-1, 3)
        assert len(kept) == len(official)
        np.testing.assert_allclose(lowered, official[:, 2], rtol=0, atol=1e-6)
        sure = int((official[:, 2] > 1e-30).sum())  # below, float32 runs out and decides the order
        assert kept[:sure].tolist() == case["kept_indices"][:sure]
    elif "out_segments" in case:
        votes = params["voting_thresh"] > 0 and not params["multiclass"]
        got = suppress(
            segments,
            scores,
            np.array(case["labels"]),
            method="gaussian" if params["use_soft_nms"] else "hard",
            per_class=params["multiclass"],
            iou_threshold=params["iou_threshold"],
            sigma=params["sigma"],
            min_score=params["min_score"],
            limit=params["max_seg_num"],
            voting_iou=params["voting_thresh"] if votes else None,
            voting_weight=SOURCES[source],  # type: ignore[arg-type]
        )
        np.testing.assert_allclose(got.scores, case["out_scores"], rtol=0, atol=1e-6)
        np.testing.assert_allclose(
            got.segments, np.reshape(case["out_segments"], (-1, 2)), rtol=1e-6, atol=1e-6
        )
        assert got.labels.tolist() == case["out_labels"]
    else:
        assert not case["segments"]


@pytest.mark.usefixtures("either_way")
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("source", SOURCES)
def test_the_toolboxes(source: str, dtype: type) -> None:
    found = cases(FIXTURES, source)
    assert len(found) > 100
    for case in found:
        assert_same(case, source, dtype)


@pytest.mark.parametrize("source", SOURCES)
def test_the_toolboxes_on_more_segments(shared_dir: Path, source: str) -> None:
    for case in cases(shared_dir / "fixtures" / "detection", source):
        assert_same(case, source, np.float32)
        assert_same(case, source, np.float64)


def test_labels_by_themselves_or_together() -> None:
    segments = np.array([[0.0, 10.0], [0.0, 9.0], [0.0, 8.0]])
    scores, labels = np.array([0.9, 0.8, 0.7]), np.array(["a", "b", "a"])
    apart = suppress(segments, scores, labels, method="hard")
    assert (apart.indices.tolist(), apart.labels.tolist()) == ([0, 1], ["a", "b"])
    together = suppress(segments, scores, labels, method="hard", per_class=False)
    assert together.indices.tolist() == [0]
    assert suppress(segments, scores, labels, method="hard", limit=1).indices.tolist() == [0]
    everything = suppress(segments, scores, labels, method="hard", iou_threshold=0.95, min_score=0.7)
    assert everything.indices.tolist() == [0, 1]  # the third does not score above 0.7


def test_voting_is_a_weighted_mean_of_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    segments, scores = np.array([[0.0, 10.0], [1.0, 10.0], [40.0, 50.0]]), np.array([0.6, 0.2, 0.9])
    got = vote(segments[:1], segments, scores, iou_threshold=0.5)
    np.testing.assert_allclose(got, [[0.25, 10.0]])
    got = vote(segments[:1], segments, scores, iou_threshold=0.5, weight="score-iou")
    np.testing.assert_allclose(got, [[0.18 / 0.78, 10.0]])
    got = suppress(segments, scores, np.array([0, 0, 1]), method="hard", voting_iou=0.5)
    np.testing.assert_allclose(got.segments, [[40.0, 50.0], [0.25, 10.0]])
    many, weights = random_segments(5, 40)
    whole = vote(many, many, weights, iou_threshold=0.3)
    monkeypatch.setattr(nms, "VOTES_AT_A_TIME", 100)
    np.testing.assert_allclose(vote(many, many, weights, iou_threshold=0.3), whole)
    alone = np.array([[3.0, 3.0]])
    assert vote(alone, alone, np.array([0.5]), iou_threshold=0.5).tolist() == [[3.0, 3.0]]


def test_odd_segments() -> None:
    segments = np.array([[5.0, 5.0], [5.0, 5.0], [9.0, 2.0], [0.0, 10.0]])
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    assert hard_nms(segments, scores, iou_threshold=0.5).tolist() == [0, 1, 2, 3]
    assert hard_nms(segments, scores, iou_threshold=0.0).tolist() == [0]
    # The best is kept even below min_score, as in the toolboxes.
    assert soft_nms(segments, scores, min_score=5.0)[0].tolist() == [0]


def test_nothing_in_nothing_out() -> None:
    nothing = np.zeros((0, 2)), np.zeros(0)
    kept, lowered = soft_nms(*nothing)
    assert len(kept) == len(lowered) == len(hard_nms(*nothing, iou_threshold=0.5)) == 0
    for method in ("hard", "linear", "gaussian"):
        got = suppress(*nothing, np.zeros(0), method=method, voting_iou=0.5)  # type: ignore[arg-type]
        assert got.segments.shape == (0, 2)


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.parametrize("spread_s", [20, 200, 600, 1400, 2400])
def test_two_thousand_segments_take_10_ms(spread_s: float) -> None:
    """From all over each other to a few neighbours each; the best of many, as the machine may be busy.

    A slow machine may take twice what it needs for finding the best and lowering its neighbours alone.
    """
    rng = np.random.default_rng(0)
    start = rng.uniform(0, spread_s, 2000)
    segments, scores = np.stack([start, start + rng.uniform(1, 20, 2000)], axis=1), rng.uniform(size=2000)
    runs: dict[str, Callable[[], object]] = {
        "hard": lambda: hard_nms(segments, scores, iou_threshold=0.5),
        "linear": lambda: soft_nms(segments, scores, method="linear", iou_threshold=0.3),
        "gaussian": lambda: soft_nms(segments, scores),
    }
    for name, run in runs.items():
        turns = [(timed(run), timed(bare_suppression)) for _ in range(40)]
        best, bare = (min(times) for times in zip(*turns, strict=True))
        allowed = max(0.010, 2 * bare)
        print(f"{name} over {spread_s} s: {1000 * best:.1f} ms of {1000 * allowed:.1f}")
        assert best < allowed, name


def bare_suppression() -> None:
    score, near = np.random.default_rng(0).uniform(size=2000), np.full(40, 0.3)
    for _ in range(2000):
        best = min(int(score.argmax()), 1960)
        score[best : best + 40] *= np.exp(near * near / -0.5)


def timed(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin
