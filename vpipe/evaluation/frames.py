"""Frame-wise metrics of temporal segmentation: accuracies, IoU, segmental edit score and F1@k.

A video is a list of runs, (label, frames), neighbours of different labels. A class's accuracy and IoU come
from the confusion of all frames together (as mmsegmentation's aAcc, mAcc, mIoU); the edit score is the
mean over videos; F1@k counts the segments of all videos together (both as MS-TCN). Segments are the runs
that are not background; one is right if its best IoU with a segment of its label reaches k %, and no earlier
one has taken that segment.

Where the official code fails or gives NaN:
- No segment in the truth nor predicted: edit 100. None in the truth: predicted ones are false positives and
  edit is 0.
- Frames without a prediction are wrong, and of no class; predicted frames past the truth are not looked at,
  but their segments are as long as predicted (as in the official code).
- A metric without anything to average is None, F1 without a right segment is 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vpipe.errors import InputError, Warning_

Runs = Sequence[tuple[str, int]]

OVERLAPS_PERCENT = (10, 25, 50)


@dataclass(frozen=True)
class FrameScores:
    """`pa`, `mpa`, `miou`, `fwiou` in [0, 1]; `edit` and `f1` in percent, as MS-TCN gives them."""

    pa: float
    mpa: float | None
    miou: float | None
    fwiou: float
    edit: float
    f1: dict[int, float]
    without_background: dict[str, float | None]  # pa of the frames that are not background; mpa, miou
    classes: dict[str, dict[str, float | int | None]]  # label -> frames, accuracy, iou
    frames: int
    videos: int
    warnings: list[Warning_] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "pa": self.pa,
            "mpa": self.mpa,
            "miou": self.miou,
            "fwiou": self.fwiou,
            "edit": self.edit,
            "f1": {str(k): value for k, value in self.f1.items()},
            "without_background": self.without_background,
            "classes": self.classes,
            "frames": self.frames,
            "videos": self.videos,
            "warnings": [w.to_json() for w in self.warnings],
        }


def frame_scores(
    truth: Mapping[str, Runs], predictions: Mapping[str, Runs], background: Collection[str] = ("background",)
) -> FrameScores:
    """Scores of runs by video id. Raises InputError `no_truth` where the truth has no frame."""
    truth = {video: runs for video, runs in truth.items() if sum(n for _, n in runs)}
    if not truth:
        raise InputError("no_truth", "the ground truth holds no frame; nothing can be scored")
    confusion: Counter[tuple[str, str | None]] = Counter()
    edits: list[float] = []
    hits = {k: np.zeros(3) for k in OVERLAPS_PERCENT}  # true positives, false positives, false negatives
    unlike = short = long = without = 0
    for video, runs in truth.items():
        found = predictions.get(video, [])
        confusion.update(_confusion(runs, found))
        difference = sum(n for _, n in found) - sum(n for _, n in runs)
        if difference and video in predictions:
            unlike += 1
            short, long = short + max(-difference, 0), long + max(difference, 0)
        true_segments, found_segments = segments_of(runs, background), segments_of(found, background)
        without += not true_segments and not found_segments
        edits.append(edit_score([s[0] for s in found_segments], [s[0] for s in true_segments]))
        for k in OVERLAPS_PERCENT:
            hits[k] += _matches(found_segments, true_segments, k / 100)
    return FrameScores(
        **_class_scores(confusion, background),
        edit=float(np.mean(edits)),
        f1={k: _f1(*counts) for k, counts in hits.items()},
        frames=sum(confusion.values()),
        videos=len(truth),
        warnings=_warnings(truth, predictions, unlike=unlike, short=short, long=long, without=without),
    )


def segments_of(runs: Runs, background: Collection[str]) -> list[tuple[str, int, int]]:
    """(label, first frame, frame after the last) of the runs that are not background."""
    segments, at = [], 0
    for label, frames in runs:
        if label not in background:
            segments.append((label, at, at + frames))
        at += frames
    return segments


def edit_score(found: Sequence[str], truth: Sequence[str]) -> float:
    """100 * (1 - Levenshtein distance / length of the longer) of two lists of labels; 100 for empty ones."""
    longer = max(len(found), len(truth))
    if longer == 0:
        return 100.0
    code: dict[str, int] = {}
    a = np.array([code.setdefault(label, len(code)) for label in found], dtype=np.int64)
    b = np.array([code.setdefault(label, len(code)) for label in truth], dtype=np.int64)
    steps = np.arange(len(b) + 1)
    row = steps.copy()
    for i, label in enumerate(a, start=1):
        # Substitution and deletion column by column; insertions are the running minimum less the way there.
        best = np.minimum(row[1:] + 1, row[:-1] + (b != label))
        row = np.minimum.accumulate(np.r_[i, best] - steps) + steps
    return float((1 - row[-1] / longer) * 100)


def _matches(
    found: Sequence[tuple[str, int, int]], truth: Sequence[tuple[str, int, int]], overlap: float
) -> np.ndarray:
    """True positives, false positives, false negatives at IoU >= `overlap`."""
    starts, ends = np.array([s[1] for s in truth]), np.array([s[2] for s in truth])
    names = np.array([s[0] for s in truth], dtype=object)
    taken = np.zeros(len(truth), dtype=bool)
    for label, start, end in found if truth else ():
        shared = np.minimum(end, ends) - np.maximum(start, starts)
        hull = np.maximum(end, ends) - np.minimum(start, starts)
        iou = np.where(names == label, shared / hull, 0.0)
        best = int(iou.argmax())
        if iou[best] >= overlap:
            taken[best] = True
    right = int(taken.sum())
    return np.array([right, len(found) - right, len(truth) - right])


def _f1(right: float, wrong: float, missed: float) -> float:
    """In percent."""
    return float(200 * right / (2 * right + wrong + missed)) if right else 0.0


def _confusion(truth: Runs, found: Runs) -> Counter[tuple[str, str | None]]:
    """(true label, predicted label or None) -> frames of the truth."""
    pairs: Counter[tuple[str, str | None]] = Counter()
    rest = iter([*found, (None, sum(n for _, n in truth))])  # None: predicted nothing
    name, left = next(rest)
    for label, frames in truth:
        while frames:
            while not left:
                name, left = next(rest)
            both = min(frames, left)
            pairs[label, name] += both
            frames, left = frames - both, left - both
    return pairs


def _class_scores(confusion: Counter[tuple[str, str | None]], background: Collection[str]) -> dict[str, Any]:
    """Everything of FrameScores that comes from the confusion alone."""
    actual: Counter[str] = Counter()
    predicted: Counter[str | None] = Counter()
    for (label, name), frames in confusion.items():
        actual[label] += frames
        predicted[name] += frames
    names = sorted(set(actual) | {name for name in predicted if name is not None})
    right = {c: confusion[c, c] for c in names}
    accuracy = {c: right[c] / actual[c] for c in names if actual[c]}
    iou = {c: right[c] / (actual[c] + predicted[c] - right[c]) for c in names}
    inside = [c for c in names if c not in background]
    total = sum(actual.values())
    return {
        "pa": sum(right.values()) / total,
        "mpa": _mean(accuracy, names),
        "miou": _mean(iou, names),
        "fwiou": sum(actual[c] / total * iou[c] for c in names),
        "without_background": {
            "pa": sum(right[c] for c in inside) / sum(actual[c] for c in inside)
            if any(actual[c] for c in inside)
            else None,
            "mpa": _mean(accuracy, inside),
            "miou": _mean(iou, inside),
        },
        "classes": {c: {"frames": actual[c], "accuracy": accuracy.get(c), "iou": iou[c]} for c in names},
    }


def _mean(values: Mapping[str, float], names: Sequence[str]) -> float | None:
    """Over those of `names` that have a value."""
    found = [values[name] for name in names if name in values]
    return float(np.mean(found)) if found else None


def _warnings(
    truth: Mapping[str, Runs],
    predictions: Mapping[str, Runs],
    *,
    unlike: int,
    short: int,
    long: int,
    without: int,
) -> list[Warning_]:
    missing, strange = len(set(truth) - set(predictions)), len(set(predictions) - set(truth))
    said = []
    if not predictions:
        said.append(Warning_("no_predictions", "there are no predictions; every frame counts as wrong"))
    elif missing:
        text = f"{missing} videos have no prediction; their frames count as wrong"
        said.append(Warning_("missing_videos", text, {"videos": missing}))
    if strange:
        text = f"{strange} predicted videos are not in the ground truth; left out"
        said.append(Warning_("unknown_videos", text, {"videos": strange}))
    if unlike:
        text = (
            f"{unlike} videos have another number of frames than the ground truth: {short} frames without "
            f"prediction count as wrong, {long} frames past the end are not looked at"
        )
        numbers: dict[str, int | float | str] = {"videos": unlike, "missing": short, "extra": long}
        said.append(Warning_("length_mismatch", text, numbers))
    if without:
        text = f"{without} videos have no segment, neither annotated nor predicted; their edit score is 100"
        said.append(Warning_("no_segments", text, {"videos": without}))
    return said
