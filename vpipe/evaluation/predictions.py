"""Predictions, as vpipe or others write them, under the ids of the ground truth."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpipe.errors import InputError, Warning_
from vpipe.evaluation.annotations import Truth, same_id
from vpipe.evaluation.columns import Columns
from vpipe.evaluation.documents import Entry, read_entries
from vpipe.evaluation.formats import SegmentTable

SHAPE = "expected ActivityNet's results/<id>/[label, score, segment], or rows as `vpipe detect` prints them"
EVENTS_AT_A_TIME = 1_000  # held as Python objects


@dataclass(frozen=True)
class Predictions:
    """What was predicted outside the blocked videos."""

    segments: SegmentTable
    videos: frozenset[str]  # also those in which nothing was found
    warnings: list[Warning_] = field(default_factory=list)


def read_predictions(
    path: Path, truth: Truth | None = None, *, wants: tuple[str, ...] = ("label", "segment", "score")
) -> Predictions:
    """The predictions in `path`. Raises InputError: as `read_entries`, or `not_predictions`."""
    known, blocked = (truth.known, truth.blocked) if truth else ((), ())
    return predictions_of(read_entries(path), known=known, blocked=blocked, wants=wants, name=str(path))


def predictions_of(
    entries: Iterable[Entry],
    *,
    known: Collection[str] = (),
    blocked: Collection[str] = (),
    wants: tuple[str, ...] = ("label", "segment", "score"),
    name: str = "predictions",
) -> Predictions:
    """Gathers predictions, under the ids of `known`, without those of `blocked`.

    Lists are those of ActivityNet, the `segments` of vpipe's rows, or, where no segment is wanted, their
    `labels`; a line of JSONL may also be one segment of a `video_id`. An empty file is JSONL without a line:
    nothing was found.
    """
    columns = Columns(name, "not_predictions", wants)
    events: list[tuple[str, Any]] = []  # segments that stand alone, with their videos
    videos: set[str] = set()
    recognised: bool | None = None  # None: an empty file
    failed = 0
    in_rows = "segments" if "segment" in wants else "labels"

    def wanted(video: str) -> str | None:
        """The truth's id of `video`; None for a blocked one."""
        ours = same_id(video, known)
        if video in blocked or ours in blocked:
            return None
        videos.add(ours)
        return ours

    def add(video: str, notes: Any) -> None:
        if (ours := wanted(video)) is not None:
            columns.add(ours, notes)

    def add_events() -> None:
        if events:
            columns.add_each(*map(list, zip(*events, strict=True)))
            events.clear()

    for entry in entries:
        recognised = recognised or False
        if entry.section == "results":
            recognised = True
            if entry.name is not None:
                add(entry.name, entry.value)
        elif entry.section == "rows":
            recognised = True
            row = entry.value
            if not isinstance(row, dict) or "video_id" not in row:
                raise InputError("not_predictions", f"{name}: a row has no video_id: {SHAPE}")
            if in_rows in row:
                add(str(row["video_id"]), row[in_rows])
            elif "label" in row or "segment" in row or "start_s" in row:
                if (ours := wanted(str(row["video_id"]))) is not None:
                    events.append((ours, row))
                if len(events) == EVENTS_AT_A_TIME:
                    add_events()
            elif row.get("status") == "failed":
                failed += 1
            else:
                raise InputError(
                    "not_predictions", f"{name}: the row of '{row['video_id']}' has no {in_rows}: {SHAPE}"
                )
        elif entry.name == "failures" and isinstance(entry.value, list):
            failed += len(entry.value)
    add_events()
    if recognised is False:
        raise InputError("not_predictions", f"{name}: not predictions: {SHAPE}")
    segments, warnings = columns.table()
    if failed:
        warnings.append(
            Warning_(
                "failed_videos",
                f"{name}: {failed} videos had failed; they count as without prediction",
                {"videos": failed},
            )
        )
    return Predictions(segments, frozenset(videos), warnings)
