"""Average recall against the average number of proposals a video (AR@AN), by ActivityNet's rules.

The rules (ActivityNet/Evaluation, eval_proposal.py), here in vectorised form:
- Labels do not matter. Videos are those with an annotation. Each keeps the best share of its n proposals that
  makes `max` a video on average: min(int(n * ratio), n), ratio = max * videos / proposals, where proposals of
  unknown videos count too.
- At AN the best int(kept * AN * videos / all kept) of each video are looked at. An annotation is recalled if
  one of them has tIoU >= threshold; recall is over all annotations; AR is its mean over the thresholds.
- AUC is the area under AR by trapezoids over 100 equal steps of AN up to `max`, divided by the last AN.

Equal scores in a video are ordered by `argsort(kind="stable")[::-1]`, the later first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vpipe.errors import InputError, Warning_
from vpipe.evaluation.anet import PAIRS_AT_A_TIME, temporal_iou
from vpipe.evaluation.checks import tie_warning
from vpipe.evaluation.formats import SegmentTable

STEPS = 100  # of AN, of the official curve and its AUC
# As the official code writes them: 0.9 is 0.8999999999999999 there, which matters at a tIoU of exactly 0.9.
OFFICIAL_TIOUS: tuple[float, ...] = tuple(np.linspace(0.5, 0.95, 10).tolist())


@dataclass(frozen=True)
class ProposalScores:
    """All in [0, 1] but `proposals_per_video`, the AN at which each AR is."""

    tious: list[float]
    ar: list[float]  # at 1, 2 .. max proposals a video; at STEPS equal steps without a max
    recall: list[list[float]]  # the same for each tIoU
    proposals_per_video: list[float]
    auc: float
    truths: int
    proposals: int
    warnings: list[Warning_] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "ar": self.ar,
            "auc": self.auc,
            "proposals_per_video": self.proposals_per_video,
            "truths": self.truths,
            "proposals": self.proposals,
            "recall": {f"{t:.2f}": row for t, row in zip(self.tious, self.recall, strict=True)},
            "warnings": [w.to_json() for w in self.warnings],
        }


def average_recall(
    truth: SegmentTable,
    proposals: SegmentTable,
    tious: Sequence[float] = OFFICIAL_TIOUS,
    *,
    max_proposals: int | None = 100,
    smallest_union_s: float = 0.0,
) -> ProposalScores:
    """AR@AN of `proposals`; `max_proposals` None is all there are, as the official code's None.

    `smallest_union_s` as in `detection_map`. Raises InputError `no_truth`.
    """
    if not len(truth):
        raise InputError("no_truth", "the ground truth holds no annotation; nothing can be scored")
    thresholds = np.asarray(tious, dtype=np.float64)
    code: dict[str, int] = {}
    truth_video = np.array([code.setdefault(v, len(code)) for v in truth.video], dtype=np.int64)
    videos = len(code)
    video = np.fromiter((code.get(v, -1) for v in proposals.video), dtype=np.int64, count=len(proposals))

    # By video, and within it by descending score.
    order = np.argsort(proposals.score, kind="stable")[::-1]
    order = order[np.argsort(video[order], kind="stable")]
    order = order[video[order] >= 0]
    by_video = video[order]
    ties = int(((np.diff(proposals.score[order]) == 0) & (np.diff(by_video) == 0)).sum())
    warnings = [tie_warning(ties, "the later one goes first")] if ties else []

    count = np.bincount(by_video, minlength=videos)
    first = np.cumsum(count) - count
    most = float(max_proposals) if max_proposals else len(proposals) / videos
    if len(proposals):
        ratio = most * float(videos) / len(proposals)
        kept = np.minimum((count * ratio).astype(np.int64), count)
    else:
        kept = count
    total = int(kept.sum())

    def curve(share: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Recall (T, N) and the AN at shares (N,) of `most`."""
        if not total:
            return np.zeros((len(thresholds), len(share))), share * most
        # The products in the official order: int() below turns on their last bit.
        part = share * (most * float(videos) / total)
        recall = np.empty((len(thresholds), len(share)))
        for i, factor in enumerate(part):
            looked_at = np.minimum((kept * factor).astype(np.int64), kept)
            recall[:, i] = (rank < looked_at[truth_video, None]).sum(axis=0) / len(truth)
        return recall, part * (float(total) / videos)

    rank = _first_hits(truth, truth_video, proposals, order, first, kept, thresholds, smallest_union_s)
    official, at = curve(np.arange(1, STEPS + 1) / float(STEPS))
    average = official.mean(axis=0)
    auc = float(np.trapezoid(average, at) / at[-1]) if at[-1] > 0 else 0.0
    if max_proposals and max_proposals != STEPS:
        official, at = curve(np.arange(1, max_proposals + 1) / float(max_proposals))
        average = official.mean(axis=0)
    return ProposalScores(
        tious=[float(t) for t in thresholds],
        ar=average.tolist(),
        recall=official.tolist(),
        proposals_per_video=at.tolist(),
        auc=auc,
        truths=len(truth),
        proposals=len(proposals),
        warnings=warnings,
    )


def _first_hits(
    truth: SegmentTable,
    truth_video: np.ndarray,
    proposals: SegmentTable,
    order: np.ndarray,
    first: np.ndarray,
    kept: np.ndarray,
    thresholds: np.ndarray,
    smallest_union_s: float,
) -> np.ndarray:
    """Rank (G, T) of the first of its video's kept proposals with tIoU >= threshold; past all where none."""
    never = np.iinfo(np.int64).max
    rank = np.full((len(truth), len(thresholds)), never)
    pairs = kept[truth_video]
    with_any = np.flatnonzero(pairs)
    batch_of = np.cumsum(pairs[with_any]) // PAIRS_AT_A_TIME
    for batch in np.split(with_any, np.flatnonzero(np.diff(batch_of)) + 1):
        n = pairs[batch]
        if not len(n):
            continue
        begins = np.cumsum(n) - n
        place = np.arange(int(n.sum())) - np.repeat(begins, n)
        proposal = order[np.repeat(first[truth_video[batch]], n) + place]
        g = np.repeat(batch, n)
        tiou = temporal_iou(
            proposals.start_s[proposal],
            proposals.end_s[proposal],
            truth.start_s[g],
            truth.end_s[g],
            smallest_union_s,
        )
        for t, threshold in enumerate(thresholds):
            # NaN is no hit here, as in the official code.
            rank[batch, t] = np.minimum.reduceat(np.where(tiou >= threshold, place, never), begins)
    return rank
