"""Labelled segments of many videos as one table, and detections as an ActivityNet results document.

Truth:   {"version", "taxonomy", "database": {id: {"subset", "duration", "annotations": [NOTE]}}},
         NOTE {"segment": [start_s, end_s], "label"}
Results: {"version", "results": {id: [{"label", "score", "segment": [start_s, end_s]}]}, "external_data"}
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

RESULTS_VERSION = "VERSION 1.3"


@dataclass(frozen=True)
class SegmentTable:
    """Labelled segments of many videos as columns of one length; times in seconds, float64."""

    video: list[str]
    label: list[str]
    start_s: np.ndarray
    end_s: np.ndarray
    score: np.ndarray  # ones for ground truth

    def __len__(self) -> int:
        return len(self.video)

    @staticmethod
    def of(rows: Iterable[tuple[str, str, float, float, float]]) -> SegmentTable:
        """From (video, label, start_s, end_s, score) rows."""
        video: list[str] = []
        label: list[str] = []
        numbers: list[tuple[float, float, float]] = []
        for name, what, start, end, score in rows:
            video.append(name)
            label.append(what)
            numbers.append((start, end, score))
        table = np.array(numbers, dtype=np.float64).reshape(-1, 3)
        return SegmentTable(video, label, table[:, 0], table[:, 1], table[:, 2])

    def where(self, keep: np.ndarray) -> SegmentTable:
        """The rows where `keep` (len,) bool is true, in their order."""
        if keep.all():
            return self
        chosen = np.flatnonzero(keep)
        return SegmentTable(
            [self.video[i] for i in chosen],
            [self.label[i] for i in chosen],
            self.start_s[chosen],
            self.end_s[chosen],
            self.score[chosen],
        )


def results_document(rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """ActivityNet results from rows of `vpipe detect`: video_id, segments of label, score, start_s, end_s."""
    results = {
        str(row["video_id"]): [
            {"label": s["label"], "score": s["score"], "segment": [s["start_s"], s["end_s"]]}
            for s in row["segments"]
        ]
        for row in rows
    }
    return {"version": RESULTS_VERSION, "results": results, "external_data": {"used": False, "details": ""}}
