"""The median kernel: the same values as OpenCV's, in place, and a network that selects the right one."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
import pytest

from vpipe.flow.median_kernel import median3, median5, scratch_length
from vpipe.flow.simd import LANES

SIZES = [
    *((n, n) for n in range(16, 36)),
    (16, 97), (97, 16), (61, 62), (62, 63), (63, 64), (64, 65), (65, 66), (127, 31), (128, 33), (340, 256),
    (1, 1), (1, 9), (2, 3), (5, 2), (15, 4),
]  # fmt: skip
PLANES = 3


def in_place(picture: np.ndarray) -> np.ndarray:
    """The medians by the kernel, of the middle one of three planes whose rows alternate, as in the engine."""
    height, width = picture.shape
    pitch = LANES * (2 + -(-width // LANES))
    rows = np.full((height, PLANES, pitch), 7, np.float32)
    rows[:, :, :LANES] = 0
    rows[:, 1, LANES : LANES + width] = picture
    rows[:, 1, LANES + width :] = 1e9
    before = rows.copy()
    scratch = np.full(scratch_length(width) + 8, 1e9, np.float32)
    median5(rows.reshape(-1), pitch + LANES, PLANES * pitch, width, height, scratch[:-8])
    assert np.array_equal(rows[:, [0, 2]], before[:, [0, 2]])
    assert not rows[:, 1, :LANES].any()
    assert (rows[:, 1, LANES + width + LANES :] == 1e9).all()
    assert (scratch[-8:] == 1e9).all()
    return rows[:, 1, LANES : LANES + width].copy()


def pictures(width: int, height: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(width * 1000 + height)
    noise = rng.normal(0, 10, (height, width)).astype(np.float32)
    return {
        "random": noise,
        "constant": np.full((height, width), -2.5, np.float32),
        "sparse": np.where(rng.random((height, width)) < 0.1, noise, 0).astype(np.float32),
        "repeated": rng.integers(-2, 3, (height, width)).astype(np.float32),
        "ramp": np.add.outer(np.arange(height), -2 * np.arange(width)).astype(np.float32),
        "huge and tiny": (noise * 10.0 ** rng.integers(-38, 37, (height, width))).astype(np.float32),
    }


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_as_opencv_to_the_bit(width: int, height: int) -> None:
    for name, picture in pictures(width, height).items():
        expected = cv2.medianBlur(picture, 5)
        # Adding zero: which of two zeros of either sign is the median is nobody's business.
        assert (in_place(picture) + 0).tobytes() == (expected + 0).tobytes(), name


def test_infinite_values_count_as_any_other() -> None:
    picture = pictures(37, 29)["random"]
    picture[::3, ::2] = np.inf
    picture[1::3, 1::2] = -np.inf
    assert np.array_equal(in_place(picture), cv2.medianBlur(picture, 5))


def every_word(symbols: int, length: int) -> np.ndarray:
    """The shortest sequence in which every word of this length stands once (de Bruijn; after Martin 1934)."""
    seen = set()
    word = (0,) * length
    sequence = list(word)
    seen.add(word)
    while True:
        for symbol in reversed(range(symbols)):
            following = (*word[1:], symbol)
            if following not in seen:
                break
        else:
            return np.array(sequence)
        seen.add(following)
        sequence.append(symbol)
        word = following


def test_every_word_stands_there_once() -> None:
    sequence = every_word(3, 4).tolist()
    words = [tuple(sequence[i : i + 4]) for i in range(len(sequence) - 3)]
    assert sorted(words) == list(itertools.product(range(3), repeat=4))


@pytest.mark.parametrize("first", [0, 1], ids=["left of a tile", "right of a tile"])
def test_zero_one_principle(first: int) -> None:
    """Minima and maxima that are right for all zeros and ones are right for all values (Knuth, 5.3.4).

    A window of zeros and ones is five columns, a column of ones is known by how many: 6^5 windows, each as
    the left and as the right output of a tile; and each column in many orders, for the sort of columns.
    """
    ones = np.concatenate([np.zeros(first, int), every_word(6, 5)])
    rng = np.random.default_rng(first)
    sums = np.convolve(ones, np.ones(5, int), "valid")
    for _ in range(4):
        columns = rng.permuted(np.arange(5)[:, None] < ones, axis=0).astype(np.float32)
        patterns = np.unique(columns.T @ 2 ** np.arange(5))
        assert len(patterns) == 32
        assert np.array_equal(in_place(columns)[2, 2:-2], sums > 12)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 3), (16, 16), (17, 31), (24, 33), (33, 65)])
def test_three_by_three_equals_opencv(height: int, width: int) -> None:
    rng = np.random.default_rng(height * width)
    for plane in (rng.normal(0, 3, (height, width)), rng.integers(0, 3, (height, width))):
        plane = plane.astype(np.float32)
        row = 16 + width + 32
        room = np.zeros(height * row + 32, np.float32)
        rows = room[: height * row].reshape(height, row)
        rows[:, 16 : 16 + width] = plane
        median3(room, 16, row, width, height, np.zeros(scratch_length(width), np.float32))
        assert np.array_equal(rows[:, 16 : 16 + width], cv2.medianBlur(plane, 3))
        assert not rows[:, :16].any()
