"""Snippet scores: what a model says about every short stretch of a video, and when that stretch was."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from vpipe.media.shots import Cut


@dataclass(frozen=True)
class ScorePart:
    """The next n snippets of a video whose scores come a few at a time, and what was decoded meanwhile."""

    probabilities: np.ndarray  # (n, C) float32
    centre_s: np.ndarray  # (n,) float64
    frame_times_s: np.ndarray  # (m,) float64: of the frames decoded since the last part
    cuts: tuple[Cut, ...]  # known since the last part
    decided_s: float  # before this time all cuts are known
    duration_s: float | None = None  # of the video, in its last part


def joined(parts: Iterable[ScorePart]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities (S, C), centres (S,) and frame times (N,) of all parts of a video, as they come.

    They are kept in three pieces of memory and not in thousands of small ones: those would lie between the
    pictures that come and go, and hold on to many times their own size.
    """
    probabilities, centre_s, times_s = array("f"), array("d"), array("d")
    labels = 0
    for part in parts:
        labels = part.probabilities.shape[1]
        probabilities.frombytes(np.ascontiguousarray(part.probabilities, dtype=np.float32).tobytes())
        centre_s.frombytes(part.centre_s.tobytes())
        times_s.frombytes(part.frame_times_s.tobytes())
    table = np.array(probabilities, dtype=np.float32).reshape(-1, max(1, labels))
    return table, np.array(centre_s), np.array(times_s)


@dataclass(frozen=True)
class SnippetScores:
    """Scores of S snippets over C labels, in time order, with the times they belong to.

    A snippet is one clip of the model; snippets overlap and their starts are evenly spaced on the
    sampling grid:

        grid frames   0  1  2  3  4  5  6  7  8  9 ...        (one every 1/fps s)
        snippet 0     [-----------c----------]
        snippet 1           [-----------c----------]          c: centre, between the middle two frames
    """

    labels: list[str]
    background: str | None  # the label that means "nothing"; None where the model has none
    probabilities: np.ndarray  # (S, C) float32, rows add up to 1
    start_s: np.ndarray  # (S,) float64: time of the first grid frame
    centre_s: np.ndarray  # (S,) float64, rising: the middle of what was seen, by the times of its frames
    end_s: np.ndarray  # (S,) float64: one grid step after the last grid frame
    duration_s: float  # of the video
    frame_times_s: np.ndarray  # (N,) float64: time of every frame of the video, ascending
    cuts: tuple[Cut, ...] = ()  # where a new shot begins, ascending

    @property
    def step_s(self) -> float:
        """Seconds between the starts of neighbouring snippets."""
        return float(self.start_s[1] - self.start_s[0]) if len(self.start_s) > 1 else self.span_s

    @property
    def span_s(self) -> float:
        """Length of a snippet, seconds."""
        return float(self.end_s[0] - self.start_s[0])

    def as_part(self) -> ScorePart:
        """The whole video as one part."""
        return ScorePart(
            self.probabilities, self.centre_s, self.frame_times_s, self.cuts, np.inf, self.duration_s
        )

    def frame_at(self, time_s: np.ndarray) -> np.ndarray:
        """Index of the first frame at or after each time (N where there is none), int64."""
        # Times were rounded to microseconds somewhere on the way; half of one is no later frame.
        return np.searchsorted(self.frame_times_s, np.asarray(time_s) - 5e-7, side="left").astype(np.int64)
