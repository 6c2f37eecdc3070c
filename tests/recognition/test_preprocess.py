from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_models import Colour, Drift, flow_stream, rgb_stream

from vpipe.recognition.preprocess import Normalise, decode_size, mirror_columns, resize_flow, views

SIZE = (96, 96)


def test_crops_are_cut_from_a_larger_frame() -> None:
    assert decode_size(SIZE, 1) == SIZE
    assert decode_size(SIZE, 3) == decode_size(SIZE, 10) == (110, 110)


def numbered(width: int, height: int) -> np.ndarray:
    """A clip (1, H, W, 2) whose values are x and y."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y], axis=-1)[None].astype(np.float32)


@pytest.mark.parametrize(
    ("wide", "corners"), [(True, [(0, 7), (7, 7), (14, 7)]), (False, [(7, 0), (7, 7), (7, 14)])]
)
def test_three_crops_lie_along_the_longer_side(wide: bool, corners: list[tuple[int, int]]) -> None:
    found = [tuple(v.inputs[0, 0, 0]) for v in views(numbered(110, 110), SIZE, 3, wide=wide)]
    assert found == corners


def test_ten_crops_are_corners_centre_and_mirrors() -> None:
    found = list(views(numbered(110, 110), SIZE, 10, wide=True))
    assert all(v.inputs.shape == (1, 96, 96, 2) for v in found)
    assert [v.mirrored for v in found] == [False] * 5 + [True] * 5
    assert [tuple(v.inputs[0, 0, 0]) for v in found[:5]] == [(0, 0), (14, 0), (0, 14), (14, 14), (7, 7)]
    for plain, mirror in zip(found[:5], found[5:], strict=True):
        np.testing.assert_array_equal(mirror.inputs[:, :, ::-1] * [-1, 1], plain.inputs)


def test_mirrored_rgb_keeps_its_values() -> None:
    clip = np.random.default_rng(0).integers(0, 255, (2, 110, 110, 3), np.uint8)
    found = list(views(clip, SIZE, 10, wide=True))
    np.testing.assert_array_equal(found[5].inputs, clip[:, :96, :96][:, :, ::-1])


def test_flow_is_in_pixels_of_the_new_size() -> None:
    flows = np.zeros((2, 2, 128, 170), np.float32)
    flows[:, 0], flows[:, 1] = 17.0, -12.8
    resized = resize_flow(flows, SIZE)
    assert resized.shape == (2, 96, 96, 2)
    np.testing.assert_allclose(resized[..., 0], 17.0 * 96 / 170, rtol=1e-5)
    np.testing.assert_allclose(resized[..., 1], -12.8 * 96 / 128, rtol=1e-5)


def test_normalising_rgb_and_flow() -> None:
    rgb = Normalise(rgb_stream(Colour(), mean=(0.5, 0.4, 0.3), std=(0.5, 0.25, 0.2)), "cpu", torch.float32)
    got = rgb(np.full((2, 8, 4, 5, 3), 255, np.uint8))
    assert got.shape == (2, 8, 3, 4, 5)
    np.testing.assert_allclose(got[0, 0, :, 0, 0], [1.0, 2.4, 3.5], rtol=1e-5)
    flow = Normalise(flow_stream(Drift(), std=(2.0, 4.0)), "cpu", torch.float32)
    got = flow(np.full((7, 4, 5, 2), 8, np.float32))
    np.testing.assert_allclose(got[0, :, 0, 0], [4.0, 2.0])


def test_mirrored_scores_are_named_back() -> None:
    stream = rgb_stream(Colour(), flip_labels={"left": "right", "right": "left"})
    columns = mirror_columns(stream, ["up", "left", "right"])
    assert np.array([0.1, 0.2, 0.7])[columns].tolist() == [0.1, 0.7, 0.2]
