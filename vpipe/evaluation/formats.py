"""ActivityNet JSON: ground truth and results as tables, and detections as a results document.

Truth:   {"version", "taxonomy", "database": {id: {"subset", "duration", "annotations": [NOTE]}}},
         NOTE {"segment": [start_s, end_s], "label"}
Results: {"version", "results": {id: [{"label", "score", "segment": [start_s, end_s]}]}, "external_data"}
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpipe.errors import InputError

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


def read_json(path: Path) -> Any:
    """The JSON document in `path`. Raises InputError `not_found`, `os_error` or `not_json`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError("not_found", f"{path}: no such file; check the name") from None
    except OSError as fault:
        raise InputError("os_error", f"{path}: cannot be read ({fault.strerror})") from fault
    except UnicodeDecodeError:
        raise InputError("not_json", f"{path}: is not JSON text in UTF-8") from None
    try:
        return json.loads(text)
    except json.JSONDecodeError as fault:
        raise InputError("not_json", f"{path}: is not JSON (line {fault.lineno}: {fault.msg})") from None


def truth_table(
    document: Mapping[str, Any],
    *,
    subset: str | None = None,
    blocked: Collection[str] = (),
    name: str = "ground truth",
) -> SegmentTable:
    """Annotations of an ActivityNet truth document; `subset` None takes all, `blocked` videos are left out.

    Segments may be written as strings. Raises InputError `not_ground_truth` or `no_truth`.
    """
    rows: list[tuple[str, str, float, float, float]] = []
    try:
        for video, entry in document["database"].items():
            if video in blocked or (subset is not None and entry.get("subset") != subset):
                continue
            for note in entry["annotations"]:
                start, end = note["segment"]
                rows.append((video, str(note["label"]), float(start), float(end), 1.0))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            "not_ground_truth",
            f"{name}: not ActivityNet ground truth: expected database/<id>/annotations/[segment, label]",
        ) from None
    if not rows:
        wanted = f" in subset '{subset}'" if subset is not None else ""
        raise InputError("no_truth", f"{name}: holds no annotation{wanted}; check --subset")
    return SegmentTable.of(rows)


def results_table(document: Any, *, blocked: Collection[str] = (), name: str = "predictions") -> SegmentTable:
    """Predictions of an ActivityNet results document, or of what `vpipe detect --json` prints.

    Raises InputError `not_predictions`.
    """
    rows: list[tuple[str, str, float, float, float]] = []
    try:
        results = document["results"]
        if isinstance(results, list):  # vpipe's rows
            results = results_document(results)["results"]
        for video, found in results.items():
            if video in blocked:
                continue
            for entry in found:
                start, end = entry["segment"]
                rows.append((video, str(entry["label"]), float(start), float(end), float(entry["score"])))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            "not_predictions",
            f"{name}: not ActivityNet results (results/<id>/[label, score, segment]), nor of `vpipe detect`",
        ) from None
    return SegmentTable.of(rows)


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
