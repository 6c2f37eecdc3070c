"""Mean average precision of temporal detection by ActivityNet's rules.

The rules (ActivityNet/Evaluation, eval_detection.py), here in vectorised form:
- Classes are the labels of the ground truth. A prediction in an unknown video is a false positive.
- Per class, predictions go by descending score. Each takes, of the same video's truth in decreasing tIoU, the
  first that is still free and has tIoU >= threshold; a prediction that finds none is a false positive.
- AP is the area under the precision envelope with sentinels (recall 0 and 1, precision 0); classes without a
  prediction have AP 0 and count in the mean. Duplicate truth counts. Nothing is clipped.
- A zero-length prediction and zero-length truth of one video have tIoU 0/0, which matches at every threshold.

Where the official result is undefined or a crash: equal scores are ordered by
`argsort(kind="stable")[::-1]`, the later first, and counted in a warning; predictions whose label is not
in the truth are left out with a warning.

Letters in shapes: P predictions, G ground truths, T tIoU thresholds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vpipe.errors import InputError, Warning_
from vpipe.evaluation.checks import tie_warning
from vpipe.evaluation.formats import SegmentTable

PAIRS_AT_A_TIME = 2_000_000  # prediction-truth pairs held in memory at once


@dataclass(frozen=True)
class DetectionScores:
    """mAP of one set of predictions; every AP is in [0, 1]."""

    tious: list[float]
    map: list[float]  # one for each tIoU
    average_map: float
    ap: dict[str, list[float]]  # label -> one for each tIoU
    truths: int
    predictions: int  # those of known labels
    warnings: list[Warning_] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """{"map": {"0.50": mAP}, "average_map": ..., "ap": {label: {"0.50": AP}}, "warnings": [...]}."""
        names = [f"{t:.2f}" for t in self.tious]
        return {
            "map": dict(zip(names, self.map, strict=True)),
            "average_map": self.average_map,
            "ap": {label: dict(zip(names, values, strict=True)) for label, values in self.ap.items()},
            "truths": self.truths,
            "predictions": self.predictions,
            "warnings": [w.to_json() for w in self.warnings],
        }


def detection_map(
    truth: SegmentTable, predictions: SegmentTable, tious: Sequence[float], *, smallest_union_s: float = 0.0
) -> DetectionScores:
    """ActivityNet mAP of `predictions` against `truth` at each threshold of `tious`.

    `smallest_union_s` above 0 keeps tIoU defined where lengths are not positive, as OpenTAD does with 1e-8.
    Raises InputError `no_truth` where `truth` is empty.
    """
    if not len(truth):
        raise InputError("no_truth", "the ground truth holds no annotation; nothing can be scored")
    thresholds = np.asarray(tious, dtype=np.float64)
    labels = sorted(set(truth.label))

    label_code = {label: i for i, label in enumerate(labels)}
    video_code = {video: i for i, video in enumerate(sorted(set(truth.video)))}
    truth_label = _codes(truth.label, label_code)
    truth_group = truth_label * len(video_code) + _codes(truth.video, video_code)

    label = _codes(predictions.label, label_code)
    known = label >= 0
    warnings = unknown_label_warning(predictions.label, set(labels))
    order = np.flatnonzero(known)
    order = order[np.argsort(predictions.score[order], kind="stable")[::-1]]
    order = order[np.argsort(label[order], kind="stable")]  # by class, and within it by descending score
    label = label[order]
    score = predictions.score[order]
    ties = int(((np.diff(score) == 0) & (np.diff(label) == 0)).sum())
    if ties:
        warnings.append(tie_warning(ties, "of one class the later goes first"))
    video = _codes(predictions.video, video_code)[order]
    group = np.where(video >= 0, label * len(video_code) + video, -1)

    matched = _match(
        group,
        predictions.start_s[order],
        predictions.end_s[order],
        truth_group,
        truth.start_s,
        truth.end_s,
        thresholds,
        smallest_union_s,
    )
    truth_count = np.bincount(truth_label, minlength=len(labels))
    first = np.searchsorted(label, np.arange(len(labels) + 1))
    table = np.stack(
        [
            _average_precision(matched[first[c] : first[c + 1]], int(truth_count[c]))
            for c in range(len(labels))
        ]
    )
    return DetectionScores(
        tious=[float(t) for t in thresholds],
        map=[float(v) for v in table.mean(axis=0)],
        average_map=float(table.mean(axis=0).mean()),
        ap={name: [float(v) for v in row] for name, row in zip(labels, table, strict=True)},
        truths=len(truth),
        predictions=len(order),
        warnings=warnings,
    )


def unknown_label_warning(labels: Sequence[str], known: set[str]) -> list[Warning_]:
    """Says how many predictions have a label that the ground truth does not know."""
    strange = [label for label in labels if label not in known]
    if not strange:
        return []
    names = sorted(set(strange))
    return [
        Warning_(
            "unknown_label",
            f"{len(strange)} predictions left out, their labels are not in the ground truth: "
            + ", ".join(names[:5])
            + (" ..." if len(names) > 5 else ""),
            {"predictions": len(strange), "labels": len(names)},
        )
    ]


def _codes(names: Sequence[str], code: dict[str, int]) -> np.ndarray:
    return np.fromiter((code.get(n, -1) for n in names), dtype=np.int64, count=len(names))


def temporal_iou(
    start_s: np.ndarray,
    end_s: np.ndarray,
    truth_start_s: np.ndarray,
    truth_end_s: np.ndarray,
    smallest_union_s: float = 0.0,
) -> np.ndarray:
    """tIoU of pairs of segments, element by element; 0/0 gives NaN, as the official code has it."""
    overlap = np.maximum(np.minimum(end_s, truth_end_s) - np.maximum(start_s, truth_start_s), 0.0)
    union = (truth_end_s - truth_start_s) + (end_s - start_s) - overlap
    if smallest_union_s:
        union = np.maximum(union, smallest_union_s)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(overlap / union)


def _match(
    group: np.ndarray,
    start_s: np.ndarray,
    end_s: np.ndarray,
    truth_group: np.ndarray,
    truth_start_s: np.ndarray,
    truth_end_s: np.ndarray,
    thresholds: np.ndarray,
    smallest_union_s: float,
) -> np.ndarray:
    """True positives (P, T). A group is one class in one video (-1: unknown video); predictions come in
    order.

    Matching is greedy within a group and independent between groups, so all groups advance together: round r
    settles the r-th (prediction, truth) pair of every group, at all thresholds.
    """
    matched = np.zeros((len(group), len(thresholds)), dtype=bool)
    lowest = float(thresholds.min(initial=np.inf))
    pred, truth, tiou = _overlapping_pairs(
        group, start_s, end_s, truth_group, truth_start_s, truth_end_s, lowest, smallest_union_s
    )
    if not len(pred):
        return matched
    # Within a prediction by decreasing tIoU, NaN first; of equal ones the later truth first.
    key = np.where(np.isnan(tiou), np.inf, tiou)
    sequence = np.lexsort((-truth, -key, pred, group[pred]))
    pred, truth, tiou = pred[sequence], truth[sequence], tiou[sequence]
    pair_group = group[pred]
    begins = np.flatnonzero(np.r_[True, pair_group[1:] != pair_group[:-1]])
    lengths = np.diff(np.r_[begins, len(pred)])
    longest_first = np.argsort(-lengths, kind="stable")
    begins, lengths = begins[longest_first], lengths[longest_first]
    active = np.searchsorted(-lengths, -np.arange(lengths[0]), side="left")  # groups longer than r
    taken = np.zeros((len(truth_group), len(thresholds)), dtype=bool)
    with np.errstate(invalid="ignore"):
        for r in range(int(lengths[0])):
            pair = begins[: active[r]] + r
            p, g = pred[pair], truth[pair]
            hit = ~(tiou[pair, None] < thresholds) & ~taken[g] & ~matched[p]
            matched[p] |= hit
            taken[g] |= hit
    return matched


def _overlapping_pairs(
    group: np.ndarray,
    start_s: np.ndarray,
    end_s: np.ndarray,
    truth_group: np.ndarray,
    truth_start_s: np.ndarray,
    truth_end_s: np.ndarray,
    lowest: float,
    smallest_union_s: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(prediction, truth, tIoU) of every pair of one group with tIoU >= `lowest` or NaN."""
    by_group = np.argsort(truth_group, kind="stable")
    sorted_group = truth_group[by_group]
    first = np.searchsorted(sorted_group, group, side="left")
    count = np.searchsorted(sorted_group, group, side="right") - first
    with_truth = np.flatnonzero(count)
    kept: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    batch_of = np.cumsum(count[with_truth]) // PAIRS_AT_A_TIME
    for batch in np.split(with_truth, np.flatnonzero(np.diff(batch_of)) + 1):
        n = count[batch]
        pred = np.repeat(batch, n)
        offset = np.arange(int(n.sum())) - np.repeat(np.cumsum(n) - n, n)
        truth = by_group[np.repeat(first[batch], n) + offset]
        tiou = temporal_iou(
            start_s[pred], end_s[pred], truth_start_s[truth], truth_end_s[truth], smallest_union_s
        )
        keep = ~(tiou < lowest)
        kept.append((pred[keep], truth[keep], tiou[keep]))
    pred, truth, tiou = (np.concatenate(column) for column in zip(*kept, strict=True))
    return pred, truth, tiou


def _average_precision(matched: np.ndarray, truths: int) -> np.ndarray:
    """AP at each threshold, (T,), of one class's predictions in descending score, `matched` (P, T)."""
    if not len(matched):
        return np.zeros(matched.shape[1])
    hits = np.cumsum(matched, axis=0, dtype=np.float64)
    precision = hits / np.arange(1, len(matched) + 1)[:, None]
    envelope = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    # Recall moves by 1 / truths at each true positive and nowhere else.
    return np.asarray((envelope * matched).sum(axis=0) / truths)
