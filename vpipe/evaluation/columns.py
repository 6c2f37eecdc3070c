"""Lists of labelled segments, one for each video, gathered into a `SegmentTable` and checked on the way.

A note is {"label", "score", "segment": [start_s, end_s]}, or has "start_s" and "end_s" for "segment".
Numbers may be written as strings. What is not finite is left out; both are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vpipe.errors import InputError, Warning_
from vpipe.evaluation.formats import SegmentTable


class Columns:
    """Grows by one video at a time; `table()` is what came together.

    `wants` names the parts a note must have: "label", "segment", "score". Without them labels are "",
    segments (0, 0) and scores 1.
    """

    def __init__(self, name: str, code: str, wants: tuple[str, ...]) -> None:
        self.name, self.code, self.wants = name, code, wants
        self.strings = 0
        self.repeated: set[str] = set()
        self._as_strings: set[int] = set()  # of the video at hand
        self._names: dict[str, str] = {}  # one object for each video and label, not one for each note
        self._video: list[str] = []
        self._label: list[str] = []
        self._numbers: list[np.ndarray] = []  # (notes, 3): start, end, score
        self._rows: dict[str, slice] = {}
        self._replaced: list[slice] = []
        self._one_by_one: set[str] = set()

    def add(self, video: str, notes: Any) -> None:
        """The notes of one video; those of an earlier call for it are replaced. Raises InputError `code`."""
        if not isinstance(notes, list):
            raise InputError(self.code, f"{self.name}: video '{video}': expected a list of segments")
        first = len(self._video)
        self._append([video] * len(notes), notes, listed=True)
        if video in self._rows:
            self.repeated.add(video)
            self._replaced.append(self._rows[video])
        self._rows[video] = slice(first, len(self._video))

    def add_each(self, videos: list[str], notes: list[Any]) -> None:
        """One note of each of `videos`, in which others may follow. They replace what `add` had of a video.

        Raises InputError `code`.
        """
        self._append(videos, notes, listed=False)
        self._one_by_one.update(videos)

    def _append(self, videos: list[str], notes: list[Any], *, listed: bool) -> None:
        numbers = np.zeros((len(notes), 3))
        numbers[:, 2] = 1.0
        self._as_strings.clear()
        try:
            labels = self._labels_of(notes) if "label" in self.wants else [""] * len(notes)
            if "segment" in self.wants:
                numbers[:, :2] = self._numbers_of([_segment(note) for note in notes], (len(notes), 2))
            if "score" in self.wants:
                numbers[:, 2] = self._numbers_of([note["score"] for note in notes], (len(notes),))
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            raise InputError(self.code, f"{self.name}: {self._fault(videos, notes, listed)}") from None
        self.strings += len(self._as_strings)
        self._video.extend(self._names.setdefault(video, video) for video in videos)
        self._label.extend(labels)
        self._numbers.append(numbers)

    def table(self) -> tuple[SegmentTable, list[Warning_]]:
        """All notes in the order they came, and what had to be said about them."""
        numbers = np.concatenate(self._numbers) if self._numbers else np.zeros((0, 3))
        self._numbers.clear()
        table = SegmentTable(self._video, self._label, numbers[:, 0], numbers[:, 1], numbers[:, 2])
        keep = np.ones(len(table), dtype=bool)
        for video in self._one_by_one & self._rows.keys():
            self.repeated.add(video)
            self._replaced.append(self._rows[video])
        for rows in self._replaced:
            keep[rows] = False
        finite = np.isfinite(numbers).all(axis=1)
        infinite = int((keep & ~finite).sum())
        warnings = []
        if self.repeated:
            warnings.append(
                Warning_(
                    "repeated_videos",
                    f"{self.name}: {len(self.repeated)} videos stand there more than once "
                    f"({_some(self.repeated)}); the last one counts",
                    {"videos": len(self.repeated)},
                )
            )
        if infinite:
            warnings.append(
                Warning_(
                    "not_finite",
                    f"{self.name}: {infinite} segments left out: a time or a score is NaN or infinite",
                    {"segments": infinite},
                )
            )
        if self.strings:
            warnings.append(
                Warning_(
                    "string_numbers",
                    f"{self.name}: {self.strings} segments have numbers written as strings; read as numbers",
                    {"segments": self.strings},
                )
            )
        return table.where(keep & finite), warnings

    def _labels_of(self, notes: list[Any]) -> list[str]:
        labels = [note["label"] for note in notes]
        if not set(map(type, labels)) <= {str, int}:
            raise TypeError
        names = self._names
        return [names.setdefault(label, label) for label in map(str, labels)]

    def _numbers_of(self, values: list[Any], shape: tuple[int, ...]) -> np.ndarray:
        """float64 of `shape`, from numbers or strings. Raises ValueError."""
        if not values:
            return np.zeros(shape)
        found = np.array(values)
        if found.shape != shape or found.dtype.kind not in "fiuU":
            raise ValueError
        if found.dtype.kind == "U":
            self._as_strings.update(
                row
                for row, value in enumerate(values)
                if any(isinstance(part, str) for part in (value if isinstance(value, list) else [value]))
            )
        return found.astype(np.float64)

    def _fault(self, videos: list[str], notes: list[Any], listed: bool) -> str:
        """Which note is wrong, and how; its number where the notes are the list of one video."""
        for number, (video, note) in enumerate(zip(videos, notes, strict=True), start=1):
            entry = f"video '{video}': {f'entry {number}' if listed else 'a segment'}"
            if not isinstance(note, Mapping):
                return f"{entry} is not an object with {', '.join(self.wants)}"
            if "label" in self.wants and type(note.get("label")) not in (str, int):
                return f"{entry} has no label; write a string"
            if "segment" in self.wants:
                try:
                    self._numbers_of([_segment(note)], (1, 2))
                except (KeyError, TypeError, ValueError, OverflowError):
                    return f"{entry} has no segment; write [start, end] in seconds"
            if "score" in self.wants:
                try:
                    self._numbers_of([note["score"]], (1,))
                except (KeyError, TypeError, ValueError, OverflowError):
                    return f"{entry} has no score; write a number"
        return f"video '{videos[0]}': its entries are not all alike"


def _segment(note: Mapping[str, Any]) -> Any:
    return note["segment"] if "segment" in note else [note["start_s"], note["end_s"]]


def _some(names: set[str], most: int = 3) -> str:
    return ", ".join(sorted(names)[:most]) + (" ..." if len(names) > most else "")
