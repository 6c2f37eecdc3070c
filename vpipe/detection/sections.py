"""Cutting a video into stretches that the detector can finish one by one, whether or not more is to come.

    scores    ___/~~~~______/~~~~~|~~~______________/~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
    sections  [          ][       |    ][     ][                                ][
                quiet             cut    quiet  quiet                       the longest allowed

A section ends at a cut; in the middle of QUIET_S seconds in which no label but the background stands out; and
at the latest after HORIZON_S seconds, where the scores are closest to nothing. Where it ends depends on what
was shown up to half a quiet stretch after it, never on how many scores came at a time: a file and a stream
are cut alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

QUIET_S = 2.0
QUIET_LEVEL = 0.15  # no label but the background scores more
SHORTEST_S = 4.0  # of a section that ends in quiet
HORIZON_S = 64.0  # of a section


@dataclass(frozen=True)
class Section:
    """Rows of scores with the time that they stand for."""

    probabilities: np.ndarray  # (S, C), and what came with them
    centre_s: np.ndarray  # (S,)
    start_s: float
    end_s: float
    after_cut: bool  # a shot begins with it (or the video)
    before_cut: bool  # a shot ends with it (or the video)


class Sections:
    """Takes rows of scores and cuts as they come; `add` and `close` return the sections that are complete."""

    def __init__(self, labels: list[str], background: str | None, step_s: float) -> None:
        self._active = np.flatnonzero([label != background for label in labels])
        self._has_background = len(self._active) < len(labels)
        self._quiet = max(2, round(QUIET_S / step_s))
        self._shortest = max(self._quiet, round(SHORTEST_S / step_s))
        self._longest = max(2 * self._shortest, round(HORIZON_S / step_s))
        self._rows = np.zeros((0, 0), dtype=np.float32)
        self._centre_s = np.zeros(0)
        self._cuts_s: list[float] = []
        self._start_s, self._after_cut = 0.0, True

    @property
    def start_s(self) -> float:
        """Where the section begins that is not complete yet."""
        return self._start_s

    def add(
        self, probabilities: np.ndarray, centre_s: np.ndarray, cuts_s: list[float], decided_s: float
    ) -> list[Section]:
        """Rows (n, C) at `centre_s` (n,), the new cuts, and the time before which all cuts are known. More
        columns than there are labels are carried along."""
        if len(probabilities):
            self._rows = np.concatenate([self._rows, probabilities]) if len(self._rows) else probabilities
            self._centre_s = np.concatenate([self._centre_s, centre_s])
        self._cuts_s += cuts_s
        done = []
        while (section := self._next(decided_s)) is not None:
            done.append(section)
        return done

    def close(self, duration_s: float) -> list[Section]:
        """The video ends."""
        done = []
        while (section := self._next(np.inf)) is not None:
            done.append(section)
        for cut in [c for c in self._cuts_s if self._start_s < c < duration_s]:
            done.append(self._take(int(np.searchsorted(self._centre_s, cut)), cut, True))
        return [*done, self._take(len(self._rows), max(duration_s, self._start_s), True)]

    def _next(self, decided_s: float) -> Section | None:
        while self._cuts_s and self._cuts_s[0] <= self._start_s:
            self._cuts_s.pop(0)
        cut_row = int(np.searchsorted(self._centre_s, self._cuts_s[0])) if self._cuts_s else len(self._rows)
        split, used = self._split(cut_row)
        if split:
            if not self._cuts_s and self._centre_s[used - 1] >= decided_s:
                return None  # a cut may still turn up among the rows that speak for this split
            return self._take(split, float(self._centre_s[split - 1] + self._centre_s[split]) / 2, False)
        if cut_row < len(self._rows):
            return self._take(cut_row, self._cuts_s[0], True)
        return None

    def _split(self, rows_before_cut: int) -> tuple[int, int]:
        """The first row of the next section, by the scores alone, and how many rows tell; (0, 0): none
        yet."""
        rows = self._rows[: min(rows_before_cut, self._longest)]
        if self._has_background and len(rows) >= self._shortest:
            loud = rows[:, self._active].max(axis=1) > QUIET_LEVEL
            louder = np.r_[0, np.cumsum(loud)]
            ends = np.arange(self._shortest, len(rows) + 1)
            quiet = ends[louder[ends] == louder[ends - self._quiet]]
            if len(quiet):
                return int(quiet[0]) - self._quiet // 2, int(quiet[0])
        if len(rows) < self._longest:
            return 0, 0
        late = rows[self._longest // 2 : self._longest - self._quiet]
        least = late[:, self._active] if self._has_background else late
        return self._longest // 2 + int(np.argmin(least.max(axis=1))), self._longest

    def _take(self, rows: int, end_s: float, cut: bool) -> Section:
        section = Section(
            self._rows[:rows], self._centre_s[:rows], self._start_s, end_s, self._after_cut, cut
        )
        self._rows, self._centre_s = self._rows[rows:], self._centre_s[rows:]
        self._start_s, self._after_cut = end_s, cut
        return section
