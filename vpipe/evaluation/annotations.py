"""Ground truth: the annotated segments of a subset, and the names its videos go by.

ActivityNet writes the id of a video without the `v_` that its file begins with. Ids are therefore the same
with and without it, unless the ground truth holds both.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vpipe.errors import InputError, Warning_
from vpipe.evaluation.columns import Columns
from vpipe.evaluation.documents import Entry, entries_of, read_entries, read_text
from vpipe.evaluation.formats import SegmentTable

PREFIX = "v_"
SHAPE = "expected ActivityNet's database/<id>/annotations, or rows with video_id and segments"


@dataclass(frozen=True)
class Truth:
    """Annotations of one subset without the blocked videos."""

    segments: SegmentTable
    videos: frozenset[str]  # of the subset, also those without a segment
    known: frozenset[str]  # every id of the file
    blocked: frozenset[str]
    duration_s: dict[str, float] = field(default_factory=dict)  # of the videos that say it
    warnings: list[Warning_] = field(default_factory=list)


def same_id(video: str, known: Collection[str]) -> str:
    """`video`, or `video` with or without `v_` if that is the one in `known`."""
    if video in known:
        return video
    other = video[len(PREFIX) :] if video.startswith(PREFIX) else PREFIX + video
    return other if other in known else video


def read_truth(
    path: Path,
    *,
    subset: str | None = None,
    blocked: Collection[str] = (),
    wants: tuple[str, ...] = ("label", "segment"),
) -> Truth:
    """The ground truth in `path`. Raises InputError: as `read_entries`, `not_ground_truth`, `no_truth`."""
    return truth_of(read_entries(path), subset=subset, blocked=blocked, wants=wants, name=str(path))


def truth_table(document: Any, *, subset: str | None = None) -> SegmentTable:
    """The segments of a ground truth document in memory."""
    return truth_of(entries_of(document), subset=subset).segments


def truth_of(
    entries: Iterable[Entry],
    *,
    subset: str | None = None,
    blocked: Collection[str] = (),
    wants: tuple[str, ...] = ("label", "segment"),
    name: str = "ground truth",
) -> Truth:
    """Gathers the ground truth; `subset` None takes all subsets, with a warning where there are several."""
    columns = Columns(name, "not_ground_truth", wants)
    subset_of: dict[str, str | None] = {}
    duration_s: dict[str, float] = {}
    recognised = False
    for entry in entries:
        if entry.section in ("database", "videos", "results") and entry.name is None:
            recognised = True
        elif entry.section:
            recognised = True
            video, values, notes = _video(entry, name)
            subset_of[video] = values.get("subset")
            length: Any = values.get("duration", values.get("duration_s"))
            if type(length) in (int, float) and 0 <= length < float("inf"):
                duration_s[video] = float(length)
            if subset is None or values.get("subset") == subset:
                columns.add(video, notes)
    if not recognised:
        raise InputError("not_ground_truth", f"{name}: not a ground truth: {SHAPE}")

    out = frozenset(same_id(video, subset_of) for video in blocked)
    everything, warnings = columns.table()
    left_in = [video not in out for video in everything.video]
    segments = everything.where(np.array(left_in, dtype=bool))
    subsets = sorted({str(s) for s in subset_of.values() if s is not None})
    if subset is None and len(subsets) > 1:
        warnings.append(
            Warning_(
                "all_subsets",
                f"{name}: {len(subsets)} subsets scored as one ({', '.join(subsets)}); --subset picks one",
                {"subsets": len(subsets)},
            )
        )
    gone = out & set(subset_of)
    if blocked:
        count = len(everything) - len(segments)
        warnings.append(
            Warning_(
                "blocked_videos",
                f"{len(gone)} blocked videos with {count} annotations left out, as are predictions in them",
                {"videos": len(gone), "truths": count},
            )
        )
    if not len(segments):
        wanted = f" in subset '{subset}'; it has {', '.join(subsets) or 'none'}" if subset is not None else ""
        raise InputError("no_truth", f"{name}: holds no annotation{wanted}: check the file and --subset")
    videos = frozenset(v for v, s in subset_of.items() if (subset is None or s == subset) and v not in out)
    return Truth(segments, videos, frozenset(subset_of), out, duration_s, warnings)


def _video(entry: Entry, name: str) -> tuple[str, dict[str, Any], Any]:
    """Id, members and notes of one video."""
    values = entry.value
    if entry.section == "results":
        return str(entry.name), {}, values
    if not isinstance(values, dict):
        raise InputError("not_ground_truth", f"{name}: '{entry.name or values}' is not a video: {SHAPE}")
    if entry.section == "database":
        return str(entry.name), values, values.get("annotations", [])
    if entry.section == "videos":  # generated clips: one label each, by file
        return Path(str(entry.name)).stem, values, [values] if "label" in values else []
    if "video_id" not in values:
        raise InputError("not_ground_truth", f"{name}: a row has no video_id: {SHAPE}")
    return str(values["video_id"]), values, values.get("segments", values.get("labels", []))


def read_blocked(path: Path) -> list[str]:
    """Ids of blocked videos: a JSON list, or text with one a line.

    Raises InputError: as `read_text`, or `not_blocked_list`.
    """
    text = read_text(path)
    if not text.lstrip().startswith(("[", "{")):
        return [line.strip() for line in text.splitlines() if line.strip()]
    try:
        ids = json.loads(text)
    except (ValueError, RecursionError):
        ids = None
    if not isinstance(ids, list) or not all(isinstance(video, str) for video in ids):
        raise InputError("not_blocked_list", f"{path}: write a JSON list of video ids, or one id a line")
    return ids
