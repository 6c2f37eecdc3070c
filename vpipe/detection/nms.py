"""Non-maximum suppression on the time axis: hard, and soft (Bodla et al. 2017) with a Gaussian."""

from __future__ import annotations

import numpy as np

AREA_EPSILON_S = 1e-6  # added to every length, as the toolboxes do: zero-length segments stay defined


def soft_nms(
    segments: np.ndarray, scores: np.ndarray, *, sigma: float = 0.5, min_score: float = 0.001
) -> tuple[np.ndarray, np.ndarray]:
    """Decays by exp(-IoU^2 / sigma) what overlaps a better segment, and drops what falls below `min_score`.

    `segments` (P, 2) seconds, `scores` (P,). Returns the kept indices in order of selection and their decayed
    scores, float64.
    """
    left = np.arange(len(scores))
    score = np.asarray(scores, dtype=np.float64).copy()
    segments = np.asarray(segments, dtype=np.float64)
    kept: list[int] = []
    kept_scores: list[float] = []
    while len(left):
        at = int(np.argmax(score))
        best = left[at]
        kept.append(int(best))
        kept_scores.append(float(score[at]))
        left = np.delete(left, at)
        score = np.delete(score, at) * np.exp(-(_iou(segments[best], segments[left]) ** 2) / sigma)
        stays = score >= min_score
        left, score = left[stays], score[stays]
    return np.array(kept, dtype=np.int64), np.array(kept_scores, dtype=np.float64)


def hard_nms(segments: np.ndarray, scores: np.ndarray, *, iou_threshold: float) -> np.ndarray:
    """Indices, by descending score, of segments (P, 2) without a better one at IoU >= `iou_threshold`."""
    segments = np.asarray(segments, dtype=np.float64)
    left = np.argsort(-np.asarray(scores), kind="stable")
    kept: list[int] = []
    while len(left):
        best, left = left[0], left[1:]
        kept.append(int(best))
        left = left[_iou(segments[best], segments[left]) < iou_threshold]
    return np.array(kept, dtype=np.int64)


def _iou(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    overlap = np.maximum(np.minimum(one[1], many[:, 1]) - np.maximum(one[0], many[:, 0]), 0.0)
    union = (one[1] - one[0] + AREA_EPSILON_S) + (many[:, 1] - many[:, 0] + AREA_EPSILON_S) - overlap
    return np.asarray(overlap / union)
