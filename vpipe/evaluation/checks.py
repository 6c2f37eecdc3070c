"""What is odd about annotations and predictions, and what is done about it: counted, and said in warnings."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from vpipe.errors import Warning_
from vpipe.evaluation.annotations import Truth
from vpipe.evaluation.formats import SegmentTable

DUPLICATE_S = 1e-3  # OpenTAD's tolerance on either end
SMALLEST_UNION_S = 1e-8  # OpenTAD's, so that its tIoU is always defined


def without_duplicates(table: SegmentTable) -> tuple[SegmentTable, Warning_]:
    """OpenTAD's ground truth: without repeated annotations and without those that last no time.

    An annotation repeats an earlier one that was kept, of the same video and label, if both ends are within
    DUPLICATE_S of it.
    """
    kept: defaultdict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
    keep = np.zeros(len(table), dtype=bool)
    short = 0
    rows = zip(table.video, table.label, table.start_s.tolist(), table.end_s.tolist(), strict=True)
    for row, (video, label, start, end) in enumerate(rows):
        if end - start <= 0:
            short += 1
            continue
        earlier = kept[video, label]
        if not any(abs(start - s) <= DUPLICATE_S and abs(end - e) <= DUPLICATE_S for s, e in earlier):
            keep[row] = True
            earlier.append((start, end))
    repeated = len(table) - int(keep.sum()) - short
    return table.where(keep), Warning_(
        "duplicate_truth",
        f"--dedup-gt left out {repeated} repeated annotations and {short} that last no time",
        {"repeated": repeated, "without_length": short},
    )


def segment_warnings(truth: Truth, predictions: SegmentTable) -> list[Warning_]:
    """Segments that are scored as they stand though their times are odd, and `prediction_warnings`."""
    tables = {"truths": truth.segments, "predictions": predictions}
    odd = {
        "zero_length_segments": (
            lambda t: t.end_s == t.start_s,
            "begin and end at one time; two of them in one video have tIoU 0/0",
        ),
        "reversed_segments": (lambda t: t.end_s < t.start_s, "end before they begin"),
        "negative_segments": (lambda t: np.minimum(t.start_s, t.end_s) < 0, "begin before their video"),
        "overlong_segments": (
            lambda t: (
                np.maximum(t.start_s, t.end_s)
                > np.array([truth.duration_s.get(v, np.inf) for v in t.video], dtype=np.float64)
            ),
            "end after their video",
        ),
    }
    warnings = []
    for code, (test, what) in odd.items():
        counts = {kind: int(test(table).sum()) for kind, table in tables.items()}
        if any(counts.values()):
            many = " and ".join(f"{n} {kind}" for kind, n in counts.items() if n)
            warnings.append(Warning_(code, f"{many} {what}; scored as they stand", dict(counts)))
    return warnings + prediction_warnings(truth, predictions)


def prediction_warnings(truth: Truth, predictions: SegmentTable) -> list[Warning_]:
    """That there are none, or that some are of videos which the ground truth does not have."""
    if not len(predictions):
        return [Warning_("no_predictions", "there are no predictions; every score is 0")]
    strangers = [video for video in predictions.video if video not in truth.videos]
    if not strangers:
        return []
    videos = len(set(strangers))
    return [
        Warning_(
            "unknown_videos",
            f"{len(strangers)} predictions are in {videos} videos without ground truth in the subset "
            f"(such as '{strangers[0]}') and cannot be right",
            {"predictions": len(strangers), "videos": videos},
        )
    ]


def tie_warning(ties: int, rule: str) -> Warning_:
    """Where `ties` predictions have the score of another one they are ranked against."""
    return Warning_(
        "score_ties",
        f"{ties} predictions have the score of another they are ranked against; {rule}, "
        "and other evaluators may order them otherwise",
        {"ties": ties},
    )
