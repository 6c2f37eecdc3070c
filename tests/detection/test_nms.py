from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vpipe.detection.nms import hard_nms, soft_nms


def iou(a: np.ndarray, b: np.ndarray) -> float:
    overlap = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    return overlap / ((a[1] - a[0] + 1e-6) + (b[1] - b[0] + 1e-6) - overlap)


def brute_soft(
    segments: np.ndarray, scores: np.ndarray, sigma: float, min_score: float
) -> list[tuple[int, float]]:
    left = dict(enumerate(scores))
    kept = []
    while left:
        best = max(left, key=lambda i: (left[i], -i))
        kept.append((best, left.pop(best)))
        decayed = {i: s * np.exp(-(iou(segments[best], segments[i]) ** 2) / sigma) for i, s in left.items()}
        left = {i: s for i, s in decayed.items() if s >= min_score}
    return kept


def random_segments(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    start = rng.uniform(0, 30, count)
    return np.stack([start, start + rng.uniform(0.2, 10, count)], axis=1), rng.uniform(0.1, 1, count)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sigma", [0.1, 0.5])
def test_soft_equals_brute_force(seed: int, sigma: float) -> None:
    segments, scores = random_segments(seed, 60)
    kept, decayed = soft_nms(segments, scores, sigma=sigma, min_score=0.05)
    expected = brute_soft(segments, scores, sigma, 0.05)
    assert kept.tolist() == [i for i, _ in expected]
    np.testing.assert_allclose(decayed, [s for _, s in expected], rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_hard_keeps_what_no_better_one_covers(seed: int) -> None:
    segments, scores = random_segments(seed, 60)
    kept: list[int] = []
    for i in np.argsort(-scores):
        if all(iou(segments[i], segments[k]) < 0.4 for k in kept):
            kept.append(int(i))
    assert hard_nms(segments, scores, iou_threshold=0.4).tolist() == kept


@pytest.mark.parametrize("source", ["nms_actionformer", "nms_opentad"])
def test_published_implementations(shared_dir: Path, source: str) -> None:
    """Hard and Gaussian soft NMS of two toolboxes; they compute in float32."""
    cases = json.loads((shared_dir / "fixtures" / "detection" / f"{source}.json").read_text())["cases"]
    checked = 0
    for case in cases:
        function, params = case.get("function"), case.get("params", {})
        if case["has_score_ties"] or not case["segments"]:
            continue
        segments, scores = np.array(case["segments"]), np.array(case["scores"])
        if function == "nms_1d":
            got = hard_nms(segments, scores, iou_threshold=params["iou_threshold"])
            assert got.tolist() == case["kept_indices"], case["name"]
        elif (
            function == "softnms_1d"
            and params["method"] == 2
            and not params.get("t1")
            and not params.get("t2")
        ):
            kept, decayed = soft_nms(segments, scores, sigma=params["sigma"], min_score=params["min_score"])
            expected = np.array(case["out_start_end_score"])
            solid = int((expected[:, 2] > 1e-6).sum())  # below, float32 decides the order
            assert kept[:solid].tolist() == case["kept_indices"][:solid], case["name"]
            np.testing.assert_allclose(decayed[:solid], expected[:solid, 2], rtol=1e-5, err_msg=case["name"])
        else:
            continue
        checked += 1
    assert checked > 50


def test_nothing_in_nothing_out() -> None:
    kept, decayed = soft_nms(np.zeros((0, 2)), np.zeros(0))
    assert len(kept) == len(decayed) == len(hard_nms(np.zeros((0, 2)), np.zeros(0), iou_threshold=0.5)) == 0
