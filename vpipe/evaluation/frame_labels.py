"""Frame labels of many videos: read as they are, or painted from segments.

Read as they are:
- a folder with a text file for each video, `<id>.txt` or `<id>`: one label a line, or MS-TCN's result, a line
  that begins with ### and then all labels in one line;
- JSON {id: [label, ...]} or {id: [[label, frames], ...]}, also below `videos` or `results`;
- rows {"video_id", "frame_labels": the same}, as JSON or JSONL.

Painted: everything that `eval detection` reads. A second is `fps` frames; frame i is of the segment with
round(start * fps) <= i < round(end * fps), background where there is none. Where annotations overlap, the
later one in the file shows; where predictions do, the one with the higher score.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from vpipe.errors import InputError, Warning_
from vpipe.evaluation.annotations import Truth, same_id, truth_of
from vpipe.evaluation.documents import Entry, read_entries, read_text
from vpipe.evaluation.formats import SegmentTable
from vpipe.evaluation.frames import Runs
from vpipe.evaluation.predictions import predictions_of

HEADING = "###"
MOST_FRAMES = 50_000_000  # of a painted video: three weeks at 25 a second
SHAPE = (
    "expected a folder of label files, JSON {id: [label, ...]}, or segments as `eval detection` reads them"
)


@dataclass(frozen=True)
class FrameTruth:
    """Runs by video; `native` where the file had frames, so that predicted frame indices mean the same."""

    runs: dict[str, Runs]
    native: bool
    blocked: frozenset[str]
    warnings: list[Warning_] = field(default_factory=list)


def read_frame_truth(
    path: Path, *, fps: float, background: str, subset: str | None = None, blocked: Collection[str] = ()
) -> FrameTruth:
    """Raises InputError: as `read_entries`, `not_ground_truth`, `no_truth`."""
    if path.is_dir():
        runs, entries = _folder(path), []
    else:
        entries = list(read_entries(path))
        runs = _listed(entries, "not_ground_truth", str(path))
    if runs or not entries:
        out = frozenset(same_id(video, runs) for video in blocked)
        return FrameTruth({v: r for v, r in runs.items() if v not in out}, True, out)
    truth = truth_of(entries, subset=subset, blocked=blocked, name=str(path))
    frames = {video: round(length * fps) for video, length in _lengths(truth).items()}
    return FrameTruth(paint(truth.segments, frames, fps, background), False, truth.blocked, truth.warnings)


def read_frame_predictions(
    path: Path, truth: FrameTruth, *, fps: float, background: str
) -> tuple[dict[str, Runs], list[Warning_]]:
    """Runs by the truth's ids. Raises InputError: as `read_entries`, or `not_predictions`."""
    if path.is_dir():
        runs, entries = _folder(path), []
    else:
        entries = list(read_entries(path))
        runs = _listed(entries, "not_predictions", str(path))
    warnings: list[Warning_] = []
    if not runs and any(entry.section or entry.value not in ([], {}) for entry in entries):
        counted = [_in_frames(entry) for entry in entries] if truth.native else []
        if counted and all(counted):
            entries, fps = [entry for entry in counted if entry], 1.0
        found = predictions_of(entries, known=truth.runs, blocked=truth.blocked, name=str(path))
        frames = {video: sum(n for _, n in truth.runs.get(video, [])) for video in found.videos}
        runs, warnings = paint(found.segments, frames, fps, background), found.warnings
    ours = {same_id(video, truth.runs): video_runs for video, video_runs in runs.items()}
    return {video: r for video, r in ours.items() if video not in truth.blocked}, warnings


def paint(segments: SegmentTable, frames: Mapping[str, int], fps: float, background: str) -> dict[str, Runs]:
    """Runs of the videos in `frames`, which says how many each has; higher scores paint over lower ones.

    Raises InputError `too_many_frames`.
    """
    rows: dict[str, list[int]] = {video: [] for video in frames}
    for row in np.argsort(segments.score, kind="stable"):
        if segments.video[row] in rows:
            rows[segments.video[row]].append(int(row))
    painted: dict[str, Runs] = {}
    for video, count in frames.items():
        if count > MOST_FRAMES:
            raise InputError(
                "too_many_frames", f"video '{video}' would have {count} frames; check its duration and --fps"
            )
        shown = np.full(count, -1, dtype=np.int64)
        for row in rows[video]:
            first, last = (round(float(s) * fps) for s in (segments.start_s[row], segments.end_s[row]))
            shown[max(first, 0) : max(last, 0)] = row
        changes = np.flatnonzero(np.r_[True, shown[1:] != shown[:-1]]) if count else np.zeros(0, np.int64)
        labels = [segments.label[r] if r >= 0 else background for r in shown[changes]]
        painted[video] = _merged(zip(labels, np.diff(np.r_[changes, count]).tolist(), strict=True))
    return painted


def _folder(folder: Path) -> dict[str, Runs]:
    """Label files of a folder by their stem."""
    runs: dict[str, Runs] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file() or path.suffix not in ("", ".txt"):
            continue
        text = read_text(path)
        if text.startswith(HEADING):
            labels = text.partition("\n")[2].split()
        else:
            labels = [line.strip() for line in text.splitlines() if line.strip()]
        runs[path.stem] = _merged((label, 1) for label in labels)
    if not runs:
        raise InputError("no_label_files", f"{folder}: holds no label file: {SHAPE}")
    return runs


def _listed(entries: Sequence[Entry], code: str, name: str) -> dict[str, Runs]:
    """Frame labels that stand in a document; empty where it has none."""
    runs: dict[str, Runs] = {}
    plain = not any(entry.section for entry in entries)  # else other keys of the document are no videos
    for entry in entries:
        video, value = entry.name, entry.value
        if entry.section == "rows" and isinstance(value, dict) and "frame_labels" in value:
            video, value = str(value.get("video_id")), value["frame_labels"]
        elif video is None or not (plain or entry.section in ("videos", "results")):
            continue
        if isinstance(value, list) and value and not isinstance(value[0], dict):
            runs[video] = _runs(value, code, f"{name}: video '{video}'")
    return runs


def _runs(value: list[Any], code: str, where: str) -> Runs:
    pairs = [item if isinstance(item, list) else [item, 1] for item in value]
    for pair in pairs:
        if len(pair) != 2 or type(pair[0]) not in (str, int) or type(pair[1]) is not int or pair[1] < 0:
            raise InputError(code, f"{where}: write a list of labels, or of [label, frames]")
    return _merged((str(label), frames) for label, frames in pairs)


def _merged(runs: Iterable[tuple[str, int]]) -> Runs:
    """Neighbours of one label joined, empty runs dropped."""
    kept = (run for run in runs if run[1])
    return [(label, sum(n for _, n in same)) for label, same in groupby(kept, key=lambda run: run[0])]


def _lengths(truth: Truth) -> dict[str, float]:
    """Seconds of every video: what the file says, else to the end of the last annotation."""
    last = dict.fromkeys(truth.videos, 0.0)
    for video, end in zip(truth.segments.video, truth.segments.end_s.tolist(), strict=True):
        last[video] = max(last[video], end)
    return {video: truth.duration_s.get(video, end) for video, end in sorted(last.items())}


def _in_frames(entry: Entry) -> Entry | None:
    """The entry with frame indices in place of times; None where its segments do not have them all."""
    row = entry.value
    if entry.section != "rows" or not isinstance(row, dict) or "segments" not in row:
        return entry
    if not isinstance(row["segments"], list) or not all(
        isinstance(s, dict) and {"start_frame", "end_frame"} <= set(s) for s in row["segments"]
    ):
        return None
    segments = [{**s, "segment": [s["start_frame"], s["end_frame"]]} for s in row["segments"]]
    return Entry(entry.section, entry.name, {**row, "segments": segments})
