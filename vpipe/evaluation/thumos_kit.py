"""Average precision of temporal detection as THUMOS14's own kit has it: another protocol than ActivityNet's.

The rules (TH14evalkit, TH14eventdetpr.m), per class and video:
- Each annotation, in the order of the list, takes the free detection that overlaps it most, if by more than
  the threshold (IoU, strictly; the ends of reversed segments are swapped). Of equal ones the higher score,
  then the earlier, is taken.
- A detection that is not taken is a false positive, unless it touches an interval annotated `Ambiguous`.
- By descending score over all videos, true positives first among equals: AP is the sum of the precisions at
  the true positives / annotations. Some copies of the kit take the mean of the highest precision at the
  recalls 0, 0.1 .. 1 instead: the 11-point AP, given beside it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vpipe.errors import InputError
from vpipe.evaluation.anet import DetectionScores, unknown_label_warning
from vpipe.evaluation.checks import tie_warning
from vpipe.evaluation.formats import SegmentTable

AMBIGUOUS = "Ambiguous"
RECALLS = np.arange(11) * 0.1  # in floating point: a recall of 3 in 10 misses the fourth, as in the kit
TIOUS = (0.3, 0.4, 0.5, 0.6, 0.7)


@dataclass(frozen=True)
class KitScores(DetectionScores):
    """As DetectionScores, and the same by the 11-point AP."""

    map_11point: list[float] = field(default_factory=list)
    ap_11point: dict[str, list[float]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        names = [f"{t:.2f}" for t in self.tious]
        return super().to_json() | {
            "map_11point": dict(zip(names, self.map_11point, strict=True)),
            "ap_11point": {c: dict(zip(names, v, strict=True)) for c, v in self.ap_11point.items()},
        }


def kit_map(truth: SegmentTable, predictions: SegmentTable, tious: Sequence[float] = TIOUS) -> KitScores:
    """Scores of `predictions`; `Ambiguous` annotations are no class. Raises InputError `no_truth`."""
    classes = sorted(set(truth.label) - {AMBIGUOUS})
    if not classes:
        raise InputError("no_truth", f"the ground truth holds no annotation but {AMBIGUOUS} ones")
    thresholds = np.asarray(tious, dtype=np.float64)
    truth_rows, found_rows = _by_label_and_video(truth), _by_label_and_video(predictions)
    spans = np.stack([truth.start_s, truth.end_s], axis=1)
    found_spans = np.stack([predictions.start_s, predictions.end_s], axis=1)
    table = np.zeros((2, len(classes), len(thresholds)))
    ties = 0
    for c, label in enumerate(classes):
        hits, counted, scores = [], [], []
        elsewhere: list[int] = []  # where nothing is annotated that could match or excuse
        for video in sorted(found_rows[label]):
            if video not in truth_rows[label] and video not in truth_rows[AMBIGUOUS]:
                elsewhere += found_rows[label][video]
                continue
            rows = np.array(found_rows[label][video])
            rows = rows[np.argsort(-predictions.score[rows], kind="stable")]
            annotated = overlaps(spans[truth_rows[label].get(video, [])], found_spans[rows])
            ambiguous = overlaps(spans[truth_rows[AMBIGUOUS].get(video, [])], found_spans[rows])
            hit = _taken(annotated, thresholds)
            hits.append(hit)
            counted.append(hit | (ambiguous.sum(axis=0) == 0)[:, None])
            scores.append(predictions.score[rows])
        hits.append(np.zeros((len(elsewhere), len(thresholds)), dtype=bool))
        counted.append(~hits[-1])
        scores.append(predictions.score[elsewhere])
        count = sum(len(rows) for rows in truth_rows[label].values())
        score = np.concatenate(scores)
        ties += len(score) - len(np.unique(score))
        for t in range(len(thresholds)):
            hit_t, counted_t = np.concatenate(hits)[:, t], np.concatenate(counted)[:, t]
            table[:, c, t] = _average_precisions(hit_t[counted_t], score[counted_t], count)
    warnings = unknown_label_warning(predictions.label, set(classes))
    if ties:
        warnings.append(tie_warning(ties, "right ones go first"))
    known = set(classes)
    return KitScores(
        tious=[float(t) for t in thresholds],
        map=table[0].mean(axis=0).tolist(),
        average_map=float(table[0].mean(axis=0).mean()),
        ap={label: row.tolist() for label, row in zip(classes, table[0], strict=True)},
        truths=sum(label != AMBIGUOUS for label in truth.label),
        predictions=sum(label in known for label in predictions.label),
        warnings=warnings,
        map_11point=table[1].mean(axis=0).tolist(),
        ap_11point={label: row.tolist() for label, row in zip(classes, table[1], strict=True)},
    )


def overlaps(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """IoU (K, D) of the intervals (K, 2) and (D, 2), their ends in either order; 0 where they only touch."""
    low, high = one.min(axis=1, initial=np.inf)[:, None], one.max(axis=1, initial=-np.inf)[:, None]
    other_low, other_high = other.min(axis=1)[None, :], other.max(axis=1)[None, :]
    shared = np.minimum(high, other_high) - np.maximum(low, other_low)
    hull = np.maximum(high, other_high) - np.minimum(low, other_low)
    return np.divide(shared, hull, out=np.zeros_like(shared), where=shared > 0)


def _taken(overlap: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which detections (D, T) the annotations of `overlap` (K, D) take, one after the other."""
    taken = np.zeros((overlap.shape[1], len(thresholds)), dtype=bool)
    for row in overlap:
        free = np.where(taken, -1.0, row[:, None])
        best = free.argmax(axis=0)
        t = np.flatnonzero(free[best, np.arange(len(thresholds))] > thresholds)
        taken[best[t], t] = True
    return taken


def _average_precisions(hit: np.ndarray, score: np.ndarray, truths: int) -> tuple[float, float]:
    """AP as a sum over the true positives, and the 11-point AP."""
    hit = hit[np.lexsort((~hit, -score))]
    if not hit.any():
        return 0.0, 0.0
    hits = np.cumsum(hit)
    precision = hits / np.arange(1, len(hit) + 1)
    recall = hits / truths
    best = [precision[recall >= r].max(initial=0.0) for r in RECALLS]
    return float(precision[hit].sum() / truths), float(sum(best) / len(RECALLS))


def _by_label_and_video(table: SegmentTable) -> defaultdict[str, defaultdict[str, list[int]]]:
    rows: defaultdict[str, defaultdict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for row, (label, video) in enumerate(zip(table.label, table.video, strict=True)):
        rows[label][video].append(row)
    return rows
