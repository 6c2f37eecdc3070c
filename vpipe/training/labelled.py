"""A user's own labels: which video shows what, and when, from folders, a CSV file or ActivityNet JSON.

    DATA/serve/a.mp4, DATA/goal/b.mp4      a folder with a subfolder for each label
    labels.csv                             path,label[,start_s,end_s]; paths are relative to the file
    truth.json                             ActivityNet's database, its videos beside it

A video with a segment is untrimmed: what of it no segment covers is background.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vpipe.errors import InputError, UsageError, VpipeError, Warning_, plain_text
from vpipe.evaluation.annotations import Truth, read_truth, same_id
from vpipe.timeline import parse_time

BACKGROUND = "background"
VideosBelow = Callable[[Path], Sequence[Path]]  # the video files in a folder, recursively, sorted


@dataclass(frozen=True)
class Example:
    """One label of one video: the whole video, or [start_s, end_s) of it."""

    label: str
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True)
class LabelledVideo:
    """A video with its examples, in order of time; none: all of it is background."""

    path: Path
    examples: tuple[Example, ...]
    subset: str | None = None  # "training" or "validation" where the annotations say so

    @property
    def untrimmed(self) -> bool:
        return not self.examples or any(example.start_s is not None for example in self.examples)


@dataclass(frozen=True)
class LabelledData:
    """What DATA says, before any video is opened."""

    videos: list[LabelledVideo]
    failures: list[tuple[Path, VpipeError]] = field(default_factory=list)
    warnings: list[Warning_] = field(default_factory=list)


def read_labelled(data: Path, videos_below: VideosBelow) -> LabelledData:
    """Reads DATA. Raises UsageError `bad_data`, `not_found`; InputError for JSON that is no ground truth."""
    try:
        return _read(data, videos_below)
    except OSError as error:
        raise UsageError("bad_data", f"{data}: cannot be read ({error.strerror or error})") from None


def _read(data: Path, videos_below: VideosBelow) -> LabelledData:
    if data.is_dir():
        if any(_label_folders(data)):
            return _from_folders(data, videos_below)
        documents = sorted(data.glob("*.json"))
        if len(documents) == 1:
            return _from_json(documents[0], videos_below)
        raise UsageError(
            "bad_data", f"{data}: holds no folder for a label; make one for each and put its videos there"
        )
    if not data.is_file():
        raise UsageError("not_found", f"{data}: no such file or folder; give labelled videos")
    if data.suffix.lower() == ".json":
        return _from_json(data, videos_below)
    if data.suffix.lower() == ".csv":
        return _from_csv(data)
    raise UsageError("bad_data", f"{data}: labels come as a folder, a .csv file or a .json file")


def _label_folders(data: Path) -> list[Path]:
    return sorted(p for p in data.iterdir() if p.is_dir() and not p.name.startswith("."))


def _from_folders(data: Path, videos_below: VideosBelow) -> LabelledData:
    videos = []
    warnings = []
    inside = 0
    for folder in _label_folders(data):
        found = videos_below(folder)
        inside += len(found)
        videos += [LabelledVideo(path, (Example(plain_text(folder.name)),)) for path in found]
        if not found:
            text = f"{folder}: no videos in this folder: label '{plain_text(folder.name)}' is left out"
            warnings.append(Warning_("empty_label", text))
    if loose := len(videos_below(data)) - inside:
        text = f"{data}: {loose} videos lie in no label's folder; they are left out"
        warnings.append(Warning_("no_label", text, {"videos": loose}))
    return LabelledData(videos, [], warnings)


def _from_csv(path: Path) -> LabelledData:
    rows: dict[Path, list[Example]] = {}
    try:
        with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
            for number, cells in enumerate(csv.reader(file), start=1):
                row = [cell.strip() for cell in cells]
                if not any(row) or (number == 1 and [c.lower() for c in row[:2]] == ["path", "label"]):
                    continue
                rows.setdefault(path.parent / row[0], []).append(_csv_example(row))
    except (OSError, csv.Error) as error:
        raise UsageError("bad_data", f"{path}: cannot be read as CSV ({error})") from None
    except ValueError as error:
        raise UsageError("bad_data", f"{path}, line {number}: {error}") from None
    return _checked([LabelledVideo(video, tuple(examples)) for video, examples in rows.items()], path)


def _csv_example(row: list[str]) -> Example:
    """Raises ValueError with what is wrong."""
    if len(row) < 2 or not row[0] or not row[1] or "\0" in row[0]:
        raise ValueError("path,label or path,label,start_s,end_s is expected")
    times = [cell for cell in row[2:4] if cell]
    if not times:
        return Example(plain_text(row[1]))
    if len(times) != 2:
        raise ValueError("a start without an end: give both, or neither")
    try:
        start, end = (float(parse_time(cell)) for cell in times)
    except VpipeError as error:
        raise ValueError(error.message) from None
    return Example(plain_text(row[1]), *_ordered(start, end))


def _ordered(start: float, end: float) -> tuple[float, float]:
    if not 0 <= start < end:
        raise ValueError(
            f"a segment from {start:g} to {end:g} s: its end must come after its start, from 0 on"
        )
    return start, end


def _from_json(path: Path, videos_below: VideosBelow) -> LabelledData:
    subsets: dict[str, Truth] = {}
    try:
        for subset in ("training", "validation"):
            subsets[subset] = read_truth(path, subset=subset)
    except InputError:
        subsets = {}
    if len(subsets) == 2:
        return _from_truths(path, subsets, videos_below)
    try:
        return _from_truths(path, {"": read_truth(path)}, videos_below)
    except InputError as fault:
        try:  # labels of whole videos
            return _from_truths(path, {"": read_truth(path, wants=("label",))}, videos_below)
        except InputError:
            raise fault from None


def _from_truths(path: Path, subsets: dict[str, Truth], videos_below: VideosBelow) -> LabelledData:
    files: dict[str, Path] = {}
    for file in videos_below(path.parent):
        files.setdefault(plain_text(file.stem), file)
    videos = []
    warnings: dict[str, Warning_] = {}
    for subset, truth in subsets.items():
        warnings |= {w.code: w for w in truth.warnings}
        rows = truth.segments
        by_video: dict[str, list[Example]] = {video: [] for video in sorted(truth.videos)}
        for video, label, start, end in zip(rows.video, rows.label, rows.start_s, rows.end_s, strict=True):
            if start == end == 0:
                by_video[video].append(Example(label))
                continue
            try:
                by_video[video].append(Example(label, *_ordered(float(start), float(end))))
            except ValueError as error:
                text = f"{path}: segments left out; the first, of video '{video}': {error}"
                warnings.setdefault("bad_segments", Warning_("bad_segments", text))
        for video, examples in by_video.items():
            file = files.get(same_id(video, files), path.parent / f"{video}.mp4")
            videos.append(LabelledVideo(file, tuple(examples), subset or None))
    return _checked(videos, path, warnings.values())


def _checked(videos: list[LabelledVideo], path: Path, warnings: Iterable[Warning_] = ()) -> LabelledData:
    """Videos that are not there become failures."""
    here = [video for video in videos if os.path.exists(video.path)]
    missing = [
        (video.path, InputError("not_found", f"{video.path}: no such video, but {path} names it"))
        for video in videos
        if not os.path.exists(video.path)
    ]
    ordered = [
        LabelledVideo(v.path, tuple(sorted(v.examples, key=lambda e: (e.start_s or 0.0, e.label))), v.subset)
        for v in here
    ]
    return LabelledData(ordered, list(missing), list(warnings))
