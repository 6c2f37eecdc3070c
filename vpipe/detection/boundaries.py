"""Where a segment begins and ends within the snippets of a section.

Runs are in positions: snippet i covers [i, i + 1), so a run may begin and end within a snippet. A snippet
that straddles a boundary scores each side by its share of time, so the boundary is about where the label's
score crosses the middle between its level inside and its level outside.
"""

from __future__ import annotations

import numpy as np

from vpipe.detection.sections import Section
from vpipe.detection.windows import PrefixSums

REFINE_ROUNDS = 2  # the levels inside and outside depend on the boundaries, and the other way round


def own_rows(section: Section, span_s: float, step_s: float) -> np.ndarray:
    """The section's scores (S, C), where snippets that look across a cut say what the nearest whole one says.

    In a shot shorter than a snippet that is the one nearest to its middle.
    """
    count = len(section.centre_s)
    reach = (span_s - step_s) / 2  # half a step across the cut is let pass
    whole = np.ones(count, dtype=bool)
    if section.after_cut:
        whole &= section.centre_s - reach >= section.start_s
    if section.before_cut:
        whole &= section.centre_s + reach <= section.end_s
    inside = np.flatnonzero(whole)
    if not len(inside):
        inside = np.array([np.abs(section.centre_s - (section.start_s + section.end_s) / 2).argmin()])
    return np.asarray(section.probabilities[np.clip(np.arange(count), inside[0], inside[-1])])


def smooth(table: np.ndarray, sigma: float) -> np.ndarray:
    """Each column of (S, C) smoothed by a Gaussian of `sigma` rows, the ends repeated; float64."""
    table = np.asarray(table, dtype=np.float64)
    if sigma <= 0:
        return table
    reach = int(np.ceil(3 * sigma))
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    weights /= weights.sum()
    padded = np.pad(table, ((reach, reach), (0, 0)), mode="edge")
    return np.asarray(sum(w * padded[i : i + len(table)] for i, w in enumerate(weights)))


def refine(runs: np.ndarray, sequence: np.ndarray, *, span: int) -> np.ndarray:
    """Runs (K, 2) with each end moved to where `sequence` (S,) crosses half way, within `span` snippets.

    A snippet is `span` steps long, so scores ramp over span / 2 on either side of a boundary. Half way is
    between the level inside, ramps left out, and the level outside, beyond the ramp:

        level   0 0 0 0 .1 .3 .5 .7 .9 1 1 1 1 1        outside: [edge - span, edge - span/2)
                [outsid]       ^      [inside...        inside:  from edge + span/2 on
                             edge

    An end without a crossing near it stays; one at the border of the section stays there if the sequence is
    above half way there.
    """
    size, ramp = len(sequence), span / 2
    runs = np.asarray(runs, dtype=np.float64)
    if not len(runs):
        return runs
    sums = PrefixSums(sequence[:, None])
    column = np.zeros(len(runs), dtype=np.int64)
    for _ in range(REFINE_ROUNDS):
        start, end = runs[:, 0], runs[:, 1]
        trim = np.minimum(ramp, (end - start) / 4)
        inside = sums.mean(start + trim, end - trim, column)
        before = sums.mean(start - span, start - ramp, column)
        after = sums.mean(end + ramp, end + span, column)
        new_start = _crossing(sequence, start, (inside + before) / 2, span)
        # The same from the right: mirror the sequence and the ends.
        new_end = size - _crossing(sequence[::-1], size - end, (inside + after) / 2, span)
        moved = np.stack([new_start, new_end], axis=1)
        runs = np.where((new_start < new_end)[:, None], moved, runs)
    return runs


def to_time(runs: np.ndarray, section: Section, step_s: float) -> np.ndarray:
    """Seconds (K, 2) of runs in positions; the borders of the rows are the borders of the section."""
    centre = section.centre_s
    # Beyond the first and the last centre time goes on at the pace of the grid.
    known = np.r_[centre[0] - step_s, centre, centre[-1] + step_s]
    times = np.interp(runs, np.arange(-1, len(centre) + 1) + 0.5, known)
    times[:, 0] = np.where(runs[:, 0] <= 0, section.start_s, times[:, 0])
    times[:, 1] = np.where(runs[:, 1] >= len(centre), section.end_s, times[:, 1])
    return np.clip(times, section.start_s, section.end_s)


def _crossing(sequence: np.ndarray, edge: np.ndarray, level: np.ndarray, reach: int) -> np.ndarray:
    """Position nearest to each `edge` where `sequence`, read from the left, rises through `level`."""
    # Snippet i sits at position i + 1/2; a rise between snippets i-1 and i is near position i.
    padded = np.r_[-np.inf, sequence]  # padded[i + 1] is snippet i; before the section there is nothing
    at = np.rint(edge).astype(np.int64)[:, None] + np.arange(-reach, reach + 1)[None, :]
    inside = (at >= 0) & (at < len(sequence))
    at = np.clip(at, 0, len(sequence) - 1)
    low, high = padded[at], padded[at + 1]
    rises = inside & (low < level[:, None]) & (high >= level[:, None])
    with np.errstate(invalid="ignore"):
        share = np.where(np.isinf(low), 0.5, (level[:, None] - low) / np.where(high > low, high - low, 1.0))
    position = at - 0.5 + share  # the border of the section is position 0
    distance = np.where(rises, np.abs(position - edge[:, None]), np.inf)
    nearest = np.argmin(distance, axis=1)
    row = np.arange(len(edge))
    return np.asarray(np.where(np.isfinite(distance[row, nearest]), position[row, nearest], edge))
