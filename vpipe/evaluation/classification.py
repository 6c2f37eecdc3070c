"""What labels of whole videos are worth: top-k and mean class accuracy, and ActivityNet's mAP of videos.

A video's truth is the set of labels annotated in it. Predictions are ranked by score in each video; of equal
scores the later goes first, as `argsort(kind="stable")[::-1]` has it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vpipe.errors import InputError, Warning_
from vpipe.evaluation.anet import detection_map
from vpipe.evaluation.checks import tie_warning
from vpipe.evaluation.formats import SegmentTable

TOP = (1, 3, 5)


@dataclass(frozen=True)
class ClassificationScores:
    """All in [0, 1]."""

    top_k: dict[
        int, float
    ]  # share of videos with one of their labels among the first k (ActivityNet's hit@k)
    average_top_k: dict[int, float]  # mean over videos of the share of their labels among the first k
    class_accuracy: dict[str, float]  # share of a label's videos that have it first
    mean_class_accuracy: float
    map: float
    ap: dict[str, float]
    videos: int
    predictions: int
    warnings: list[Warning_] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "top_k": {str(k): value for k, value in self.top_k.items()},
            "average_top_k": {str(k): value for k, value in self.average_top_k.items()},
            "mean_class_accuracy": self.mean_class_accuracy,
            "class_accuracy": self.class_accuracy,
            "map": self.map,
            "ap": self.ap,
            "warnings": [w.to_json() for w in self.warnings],
        }


def classification_scores(
    truth: SegmentTable, predictions: SegmentTable, top: Sequence[int] = TOP
) -> ClassificationScores:
    """Scores of `predictions`; times are ignored. Raises InputError `no_truth`.

    A label that the truth does not know is wrong wherever it ranks, and has no AP.
    """
    if not len(truth):
        raise InputError("no_truth", "the ground truth holds no label; nothing can be scored")
    labels_of: defaultdict[str, set[str]] = defaultdict(set)
    for video, label in zip(truth.video, truth.label, strict=True):
        labels_of[video].add(label)
    rows_of: defaultdict[str, list[int]] = defaultdict(list)
    for row, video in enumerate(predictions.video):
        rows_of[video].append(row)

    shares: dict[int, list[float]] = {k: [] for k in top}
    first: defaultdict[str, list[bool]] = defaultdict(list)
    for video, labels in labels_of.items():
        rows = np.array(rows_of.get(video, []), dtype=np.int64)
        score = predictions.score[rows]
        ranked = [predictions.label[i] for i in rows[np.argsort(score, kind="stable")[::-1]]]
        for k in top:
            shares[k].append(len(labels & set(ranked[:k])) / len(labels))
        for label in labels:
            first[label].append(ranked[:1] == [label])
    accuracy = {label: float(np.mean(first[label])) for label in sorted(first)}

    # AP of a label in a video is that of a segment which is the whole video.
    pairs = [(video, label) for video, labels in labels_of.items() for label in sorted(labels)]
    whole = detection_map(_whole(pairs, None), _whole(_pairs(predictions), predictions.score), [0.5])
    warnings = [w for w in whole.warnings if w.code != "score_ties"]
    if ties := _ties(predictions, set(labels_of), set(accuracy)):
        warnings.append(tie_warning(ties, "the later one goes first"))
    return ClassificationScores(
        top_k={k: float(np.mean([share > 0 for share in shares[k]])) for k in top},
        average_top_k={k: float(np.mean(shares[k])) for k in top},
        class_accuracy=accuracy,
        mean_class_accuracy=float(np.mean(list(accuracy.values()))),
        map=whole.average_map,
        ap={label: values[0] for label, values in whole.ap.items()},
        videos=len(labels_of),
        predictions=len(predictions),
        warnings=warnings,
    )


def _ties(predictions: SegmentTable, videos: set[str], labels: set[str]) -> int:
    """Predictions with the score of an earlier one of their video (ranked for top-k) or label (for AP)."""
    ties = 0
    seen: set[tuple[str, str, float]] = set()
    for video, label, score in zip(
        predictions.video, predictions.label, predictions.score.tolist(), strict=True
    ):
        ranked = [("video", video, score)] if video in videos else []
        ranked += [("label", label, score)] if label in labels else []
        ties += not seen.isdisjoint(ranked)
        seen.update(ranked)
    return ties


def _pairs(table: SegmentTable) -> list[tuple[str, str]]:
    return list(zip(table.video, table.label, strict=True))


def _whole(pairs: list[tuple[str, str]], score: np.ndarray | None) -> SegmentTable:
    size = len(pairs)
    ones = np.ones(size)
    return SegmentTable(
        [video for video, _ in pairs],
        [label for _, label in pairs],
        np.zeros(size),
        ones,
        ones if score is None else score,
    )
