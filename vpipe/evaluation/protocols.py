"""Whole evaluations: ground truth and predictions by one of the protocols, with every warning on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from vpipe.errors import Warning_
from vpipe.evaluation.anet import DetectionScores, detection_map
from vpipe.evaluation.annotations import Truth
from vpipe.evaluation.checks import SMALLEST_UNION_S, segment_warnings, without_duplicates
from vpipe.evaluation.predictions import Predictions
from vpipe.evaluation.proposals import OFFICIAL_TIOUS, ProposalScores, average_recall
from vpipe.evaluation.thumos_kit import AMBIGUOUS, kit_map

Protocol = Literal["activitynet", "thumos14", "thumos14-kit"]


def score_detection(
    truth: Truth, found: Predictions, tious: Sequence[float], *, protocol: Protocol, dedup: bool
) -> tuple[DetectionScores, list[Warning_]]:
    """mAP, and the warnings beside those in the scores. Raises InputError `no_truth`.

    `dedup` takes OpenTAD's ground truth and its tIoU, which is never 0/0. By `thumos14`, ActivityNet's rules,
    annotations labelled Ambiguous are left out; by `thumos14-kit` they excuse detections.
    """
    truth, warnings = _prepared(truth, found, dedup)
    smallest_union_s = SMALLEST_UNION_S if dedup else 0.0
    if protocol == "thumos14-kit":
        return kit_map(truth.segments, found.segments, tious), warnings
    segments = truth.segments
    if protocol == "thumos14" and AMBIGUOUS in segments.label:
        segments = segments.where(np.array([label != AMBIGUOUS for label in segments.label]))
        left_out = len(truth.segments) - len(segments)
        text = f"{left_out} annotations labelled {AMBIGUOUS} left out"
        warnings.append(Warning_("ambiguous_truth", text, {"truths": left_out}))
    return detection_map(segments, found.segments, tious, smallest_union_s=smallest_union_s), warnings


def score_proposals(
    truth: Truth, found: Predictions, tious: Sequence[float] | None, *, max_proposals: int | None, dedup: bool
) -> tuple[ProposalScores, list[Warning_]]:
    """AR@AN, and the warnings beside those in the scores; `tious` None are the official ones."""
    truth, warnings = _prepared(truth, found, dedup)
    scores = average_recall(
        truth.segments,
        found.segments,
        OFFICIAL_TIOUS if tious is None else tious,
        max_proposals=max_proposals,
        smallest_union_s=SMALLEST_UNION_S if dedup else 0.0,
    )
    return scores, warnings


def _prepared(truth: Truth, found: Predictions, dedup: bool) -> tuple[Truth, list[Warning_]]:
    """The truth to score against, and what is to be said about both sides."""
    said = [*truth.warnings, *found.warnings]
    if dedup:
        segments, warning = without_duplicates(truth.segments)
        truth = replace(truth, segments=segments)
        said.append(warning)
    return truth, said + segment_warnings(truth, found.segments)
