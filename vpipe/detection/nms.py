"""Non-maximum suppression on the time axis: hard, soft (Bodla et al. 2017) and voting, without an extension.

The rules are those of ActionFormer and OpenTAD: the best segment left is taken, and what overlaps it is
dropped (hard) or has its score multiplied by a weight (soft), until nothing is left that scores `min_score`.
IoU has 1e-6 s added to every length. Where scores tie the earlier in the list goes first.

A segment that beats all those it overlaps will be taken before any of them, whatever happens elsewhere. So
all such segments are taken at once, in a few rounds over the overlapping pairs. Where nearly everything
overlaps there would be many pairs and many rounds, and one segment at a time is faster.

Arithmetic is float32 where `segments` are, else float64. Letters in shapes: P segments, K kept ones.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

LENGTH_EPSILON_S = 1e-6  # as the toolboxes have it: segments without length stay defined
SMALLEST_WEIGHT = 1e-30  # instead of 0, which would make NaN of the -inf that marks what is taken
VOTES_AT_A_TIME = 1_000_000  # pairs of a kept segment and any other held in memory at once
PAIRS_PER_SEGMENT = 15  # with more overlapping pairs, one segment at a time is faster

Method = Literal["hard", "linear", "gaussian"]
# (IoU, length_s of the better segment) of pairs -> what the score of the other is multiplied by, in (0, 1]
Weigh = Callable[[np.ndarray, np.ndarray], np.ndarray]


def hard_nms(segments: np.ndarray, scores: np.ndarray, *, iou_threshold: float) -> np.ndarray:
    """Indices (K,), the best first, of segments (P, 2) without a better kept one at IoU >= the threshold.

    `scores` (P,). With a threshold of 0 the best segment alone is kept.
    """
    best_first = np.argsort(-np.asarray(scores), kind="stable")
    if iou_threshold <= 0:
        return best_first[:1]
    # Ranks in place of scores: they say the same, and are far above what a dropped one is left with.
    rank = np.empty(len(best_first))
    rank[best_first] = np.arange(len(best_first), 0, -1)
    kept, _ = _suppress(
        segments, rank, lambda iou, _: np.where(iou >= iou_threshold, SMALLEST_WEIGHT, 1.0), min_score=0.5
    )
    return kept


def soft_nms(
    segments: np.ndarray,
    scores: np.ndarray,
    *,
    method: Literal["linear", "gaussian"] = "gaussian",
    sigma: float = 0.5,
    iou_threshold: float = 0.0,
    iou_threshold_per_s: float = 0.0,
    min_score: float = 0.001,
) -> tuple[np.ndarray, np.ndarray]:
    """Lowers the score of what overlaps a better segment: by exp(-IoU^2 / sigma), or linearly by 1 - IoU.

    It does from IoU >= `iou_threshold` + `iou_threshold_per_s` * length of the better one on; the second is
    BMN's. `segments` (P, 2) seconds, `scores` (P,). Returns the kept indices (K,), by descending lowered
    score, and those scores, float64. The best segment is kept even if it scores less than `min_score`.
    """

    def weigh(iou: np.ndarray, length_s: np.ndarray) -> np.ndarray:
        lowered = 1 - iou if method == "linear" else np.exp(iou * iou / -sigma)
        lowered = np.maximum(lowered, SMALLEST_WEIGHT)
        if not iou_threshold and not iou_threshold_per_s:
            return lowered
        return np.where(iou >= iou_threshold + iou_threshold_per_s * length_s, lowered, 1.0)

    return _suppress(segments, scores, weigh, min_score=min_score)


def vote(
    kept: np.ndarray,
    segments: np.ndarray,
    scores: np.ndarray,
    *,
    iou_threshold: float,
    weight: Literal["score", "score-iou"] = "score",
) -> np.ndarray:
    """`kept` (K, 2) as means of all `segments` (P, 2) at IoU >= the threshold, weighted by `scores` (P,).

    `score-iou` weighs by score * IoU. A segment without neighbours, or whose neighbours score 0, stays.
    """
    voted = np.array(kept)
    rows = max(1, VOTES_AT_A_TIME // max(len(segments), 1))
    for first in range(0, len(kept), rows):
        some = kept[first : first + rows]
        latest_start = np.maximum(some[:, None, 0], segments[None, :, 0])
        shared = np.maximum(np.minimum(some[:, None, 1], segments[None, :, 1]) - latest_start, 0)
        union = (some[:, 1] - some[:, 0])[:, None] + (segments[:, 1] - segments[:, 0])[None, :] - shared
        iou = np.divide(shared, union, out=np.zeros_like(union), where=union > 0)
        weights = np.where(iou >= iou_threshold, scores[None, :] * (iou if weight == "score-iou" else 1), 0)
        total = weights.sum(axis=1, keepdims=True)
        mean = weights @ segments / np.where(total > 0, total, 1)
        voted[first : first + rows] = np.where(total > 0, mean, some)
    return voted


@dataclass(frozen=True)
class Suppressed:
    """What is left, by descending score."""

    segments: np.ndarray  # (K, 2), seconds
    scores: np.ndarray  # (K,)
    labels: np.ndarray  # (K,)
    indices: np.ndarray  # (K,), into the input


def suppress(
    segments: np.ndarray,
    scores: np.ndarray,
    labels: np.ndarray,
    *,
    method: Method = "gaussian",
    per_class: bool = True,
    iou_threshold: float = 0.5,
    sigma: float = 0.5,
    min_score: float = 0.001,
    limit: int | None = None,
    voting_iou: float | None = None,
    voting_weight: Literal["score", "score-iou"] = "score",
) -> Suppressed:
    """NMS of segments (P, 2) of many labels (P,), of each label by itself or of all together.

    `iou_threshold` is of hard and linear NMS, `sigma` of Gaussian; hard NMS begins with the scores above
    `min_score`. `limit` is the most to keep, and the most of one label. `voting_iou` votes with all segments
    of the same label, or with all; the toolboxes vote only in the second case.
    """
    segments, scores, labels = np.asarray(segments).reshape(-1, 2), np.asarray(scores), np.asarray(labels)
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if not per_class or not groups:
        groups = [np.arange(len(scores))]
    parts = []
    for group in groups:
        if method == "hard":
            group = group[scores[group] > min_score] if min_score > 0 else group
            kept = hard_nms(segments[group], scores[group], iou_threshold=iou_threshold)
            left = scores[group][kept]
        else:
            kept, left = soft_nms(
                segments[group],
                scores[group],
                method=method,
                sigma=sigma,
                iou_threshold=iou_threshold if method == "linear" else 0.0,
                min_score=min_score,
            )
        kept, left = kept[:limit], left[:limit]
        times = segments[group][kept]
        if voting_iou is not None:
            times = vote(
                times, segments[group], scores[group], iou_threshold=voting_iou, weight=voting_weight
            )
        parts.append((times, left, group[kept]))
    times, left, indices = (np.concatenate(column) for column in zip(*parts, strict=True))
    best = np.argsort(-left, kind="stable")[:limit]
    return Suppressed(times[best], left[best], labels[indices[best]], indices[best])


def _suppress(
    segments: np.ndarray, scores: np.ndarray, weigh: Weigh, *, min_score: float
) -> tuple[np.ndarray, np.ndarray]:
    """Indices (K,) of what is left, by descending lowered score, and those scores, float64."""
    dtype = np.float32 if getattr(segments, "dtype", None) == np.float32 else np.float64
    segments = np.asarray(segments, dtype=dtype).reshape(-1, 2)
    score: np.ndarray = np.array(scores, dtype=dtype)
    if not len(score):
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    enough = np.asarray(score >= min_score)
    enough[score.argmax()] = True
    index = np.flatnonzero(enough)
    index = index[np.argsort(segments[index, 0], kind="stable")]
    start, end = np.ascontiguousarray(segments[index].T)
    work = _Work(index, start, end, end - start + dtype(LENGTH_EPSILON_S), score[index], weigh, min_score)
    # Those after a segment, in order of their starts, that begin before it ends.
    count = np.maximum(np.searchsorted(start, end) - np.arange(1, len(start) + 1), 0)
    crowded = count.sum() > PAIRS_PER_SEGMENT * len(start)
    kept, left = _one_by_one(work) if crowded else _in_rounds(work, count)
    order = np.lexsort((index[kept], -left))
    return index[kept][order], left[order].astype(np.float64)


@dataclass(frozen=True)
class _Work:
    """Segments in order of their starts, all (P,); `index` is their place in the input."""

    index: np.ndarray
    start: np.ndarray
    end: np.ndarray
    length: np.ndarray
    score: np.ndarray
    weigh: Weigh
    min_score: float


def _in_rounds(work: _Work, count: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is left and its scores; segment i overlaps at most the `count[i]` next ones."""
    score = work.score.copy()
    a = np.repeat(np.arange(len(count)), count)
    b = a + 1 + np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
    shared = np.maximum(np.minimum(work.end[a], work.end[b]) - work.start[b], 0)
    iou = shared / (work.length[a] + work.length[b] - shared)
    if_a = work.weigh(iou, work.length[a]).astype(score.dtype)  # weight for b where a is the better one
    if_b = work.weigh(iou, work.length[b]).astype(score.dtype)
    matters = np.flatnonzero((if_a < 1) | (if_b < 1))
    left = np.ones(len(score), dtype=bool)
    taken = np.zeros(len(score), dtype=bool)
    while len(matters):
        a, b, if_a, if_b = a[matters], b[matters], if_a[matters], if_b[matters]
        a_first = (score[a] > score[b]) | ((score[a] == score[b]) & (work.index[a] < work.index[b]))
        worse = np.where(a_first, b, a)
        best = left.copy()
        best[worse] = False
        settled = best[np.where(a_first, a, b)]
        lowered = worse[settled]
        np.multiply.at(score, lowered, np.where(a_first, if_a, if_b)[settled])
        taken |= best
        left &= ~best
        left[lowered[score[lowered] < work.min_score]] = False
        matters = np.flatnonzero(left[a] & left[b])
    kept = np.flatnonzero(taken | left)
    return kept, score[kept]


def _one_by_one(work: _Work) -> tuple[np.ndarray, np.ndarray]:
    """What is left and its scores."""
    score = work.score.copy()
    # All that overlap a segment lie from the first that ends after its start to the last that begins in it.
    first = np.searchsorted(np.maximum.accumulate(work.end), work.start, side="right").tolist()
    last = np.searchsorted(work.start, work.end).tolist()
    ties = len(np.unique(score)) < len(score)

    def best_left() -> int:
        at = int(score.argmax())
        if ties:
            equal = np.flatnonzero(score == score[at])
            at = int(equal[work.index[equal].argmin()])
        return at

    kept: list[int] = []
    scores: list[float] = []
    best = best_left()
    while True:
        kept.append(best)
        scores.append(score[best])
        score[best] = -np.inf
        near = slice(first[best], last[best])
        shared = np.minimum(work.end[near], work.end[best]) - np.maximum(work.start[near], work.start[best])
        np.maximum(shared, 0, out=shared)
        iou = shared / (work.length[near] + work.length[best] - shared)
        score[near] *= work.weigh(iou, work.length[best])
        best = best_left()
        if score[best] < work.min_score or score[best] == -np.inf:
            return np.array(kept), np.array(scores, dtype=score.dtype)
