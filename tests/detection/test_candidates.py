"""Grouping and windows: which runs are proposed."""

from __future__ import annotations

import numpy as np
import pytest

from vpipe.detection.grouping import group
from vpipe.detection.windows import PrefixSums, sliding_windows


def brute_group(mask: np.ndarray, tolerance: float) -> set[tuple[int, int]]:
    """TAG by the book: from each rise extend until the share of water exceeds the tolerance."""
    runs = set()
    for direction in (1, -1):
        m = mask[::direction]
        for i in range(len(m)):
            if not m[i] or (i > 0 and m[i - 1]):
                continue
            last = i + 1
            for j in range(i, len(m)):
                if np.sum(~m[i : j + 1]) > tolerance * (j + 1 - i):
                    break
                if m[j]:
                    last = j + 1
            runs.add((i, last) if direction == 1 else (len(m) - last, len(m) - i))
    return runs


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("tolerance", [0.0, 0.2, 0.5])
def test_grouping_equals_the_definition(seed: int, tolerance: float) -> None:
    sequence = np.random.default_rng(seed).uniform(size=50)
    got = group(sequence, levels=(0.6,), tolerances=(tolerance,))
    assert {tuple(r) for r in got.tolist()} == brute_group(sequence >= 0.6, tolerance)


def test_grouping_finds_both_levels_of_a_step() -> None:
    sequence = np.array([0, 0.5, 0.5, 0.9, 0.9, 0.5, 0])
    assert group(sequence, levels=(0.4, 0.8), tolerances=(0.0,)).tolist() == [[1, 6], [3, 5]]


def test_no_land_no_groups() -> None:
    assert group(np.zeros(5)).shape == (0, 2)


def test_windows_cover_the_video_at_every_length() -> None:
    runs = sliding_windows(37, 0.25, lengths_s=(1.0, 3.0))
    for length in (4, 12):
        of_length = runs[runs[:, 1] - runs[:, 0] == length]
        assert of_length[0, 0] == 0
        assert of_length[-1, 1] == 37
        assert np.diff(of_length[:, 0]).max() <= length // 4


def test_a_window_longer_than_the_video_is_the_video() -> None:
    assert sliding_windows(3, 0.25, lengths_s=(8.0,)).tolist() == [[0, 3]]
    assert sliding_windows(0, 0.25).shape == (0, 2)


def test_window_count_grows_with_the_video_not_with_its_square() -> None:
    short, long = len(sliding_windows(1000, 0.25)), len(sliding_windows(10_000, 0.25))
    assert long < 10.5 * short


def test_prefix_means_equal_plain_means() -> None:
    rng = np.random.default_rng(0)
    table = rng.uniform(size=(30, 3))
    sums = PrefixSums(table)
    first, length = rng.integers(0, 30, 200), rng.integers(1, 30, 200)
    last, column = np.minimum(first + length, 30), rng.integers(0, 3, 200)
    expected = [table[f:e, c].mean() for f, e, c in zip(first, last, column, strict=True)]
    np.testing.assert_allclose(sums.mean(first, last, column), expected, atol=1e-12)


def test_prefix_means_of_partial_snippets_and_of_nothing() -> None:
    sums = PrefixSums(np.array([[0.0], [1.0], [3.0]]))
    zero = np.zeros(1, dtype=int)
    assert sums.mean(np.array([0.5]), np.array([2.5]), zero)[0] == pytest.approx((0 + 1 + 1.5) / 2)
    assert sums.mean(np.array([-4.0]), np.array([0.0]), zero)[0] == 0.0  # outside: nothing
    assert sums.mean(np.array([2.0]), np.array([9.0]), zero)[0] == 3.0
