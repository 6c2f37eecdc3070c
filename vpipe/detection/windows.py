"""Sliding windows of several lengths over snippets, pooled by prefix sums.

A run of snippets is a half-open pair of snippet indices [first, last). Pooling any number of runs costs
the same per run however long it is, so every snippet goes through the network once and never again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WINDOW_LENGTHS_S = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
WINDOW_STEP = 0.25  # share of the window's length between neighbouring windows


def sliding_windows(
    snippets: int, snippet_step_s: float, lengths_s: Sequence[float] = WINDOW_LENGTHS_S
) -> np.ndarray:
    """All windows of the given lengths, (W, 2) int64 runs; one longer than the video is the whole video."""
    if snippets == 0:
        return np.zeros((0, 2), dtype=np.int64)
    runs: set[tuple[int, int]] = set()
    for length_s in lengths_s:
        length = min(snippets, max(1, round(length_s / snippet_step_s)))
        step = max(1, int(length * WINDOW_STEP))
        starts = list(range(0, snippets - length + 1, step))
        if starts[-1] + length < snippets:
            starts.append(snippets - length)
        runs.update((s, s + length) for s in starts)
    return np.array(sorted(runs), dtype=np.int64)


class PrefixSums:
    """Means over runs of the rows of a table (S, C), in float64; a run may begin and end within a row."""

    def __init__(self, table: np.ndarray) -> None:
        self.rows = len(table)
        zero = np.zeros((1, table.shape[1]))
        # One row of nothing at the end, so that the fraction of a run that ends at S has a row to be 0 of.
        self._sums = np.cumsum(np.concatenate([zero, table, zero]), axis=0, dtype=np.float64)

    def mean(self, first: np.ndarray, last: np.ndarray, column: np.ndarray) -> np.ndarray:
        """Mean of table[first:last, column], element by element, over what lies inside the table, or 0."""
        first = np.clip(first, 0, self.rows)
        last = np.maximum(np.clip(last, 0, self.rows), first)
        length = last - first
        total = self._up_to(last, column) - self._up_to(first, column)
        return np.asarray(np.where(length > 0, total / np.where(length > 0, length, 1), 0.0))

    def _up_to(self, position: np.ndarray, column: np.ndarray) -> np.ndarray:
        whole = np.floor(position).astype(np.int64)
        below, above = self._sums[whole, column], self._sums[whole + 1, column]
        return np.asarray(below + (position - whole) * (above - below))
