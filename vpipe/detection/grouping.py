"""Temporal actionness grouping (TAG; Zhao et al. 2017, "Temporal Action Detection with Structured
Segment Networks").

A watershed on one score sequence: at every level, snippets above it are land; land is joined across
water while water is at most a tolerated share of the whole. Each (level, tolerance) gives its own
groups, from both ends.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
TOLERANCES = (0.0, 0.2, 0.4)


def group(
    sequence: np.ndarray, *, levels: Sequence[float] = LEVELS, tolerances: Sequence[float] = TOLERANCES
) -> np.ndarray:
    """Groups of `sequence` (S,) at every level and tolerance: distinct half-open runs (K, 2) int64."""
    found: list[np.ndarray] = []
    size = len(sequence)
    for level in levels:
        lands = _runs(sequence >= level)
        if not len(lands):
            continue
        mirrored = size - lands[::-1, ::-1]
        for tolerance in tolerances:
            found.append(_join(lands, tolerance))
            if tolerance > 0:
                found.append(size - _join(mirrored, tolerance)[:, ::-1])
    if not found:
        return np.zeros((0, 2), dtype=np.int64)
    return np.asarray(np.unique(np.concatenate(found), axis=0))


def _runs(mask: np.ndarray) -> np.ndarray:
    """Half-open runs of True, (K, 2)."""
    edges = np.flatnonzero(np.diff(np.r_[False, mask, False].astype(np.int8)))
    return edges.reshape(-1, 2).astype(np.int64)


def _join(lands: np.ndarray, tolerance: float) -> np.ndarray:
    """From the start of every land, on over further lands until the share of water exceeds `tolerance`."""
    count = len(lands)
    land_up_to = np.r_[0, np.cumsum(lands[:, 1] - lands[:, 0])]
    reached = np.arange(count)
    growing = np.arange(count)
    while True:
        growing = growing[reached[growing] + 1 < count]
        if not len(growing):
            break
        ahead = reached[growing] + 1
        # Water is at its greatest share just before the next land begins.
        elapsed = lands[ahead, 0] - lands[growing, 0]
        water = elapsed - (land_up_to[ahead] - land_up_to[growing])
        growing, ahead = growing[water <= tolerance * elapsed], ahead[water <= tolerance * elapsed]
        reached[growing] = ahead
    return np.stack([lands[:, 0], lands[reached, 1]], axis=1)
