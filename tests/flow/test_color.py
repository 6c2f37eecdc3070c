"""The colour wheel: directions have their colours, still is white, and the legend says the scale."""

from __future__ import annotations

import numpy as np
import pytest

from vpipe.flow.color import display_max_px, flow_to_rgb, render, render_size, wheel


def color(u: float, v: float, max_px: float = 10) -> tuple[int, ...]:
    return tuple(flow_to_rgb(np.array([[[u]], [[v]]], np.float32), max_px)[0, 0].tolist())


def test_directions() -> None:
    assert color(0, 0) == (255, 255, 255)
    assert color(10, 0) == (255, 0, 0)
    assert color(-10, 0) == (0, 255, 255)
    assert color(0, 10) == (128, 255, 0)
    assert color(0, -10) == (128, 0, 255)


def test_slower_is_paler_and_too_fast_is_darker() -> None:
    assert color(5, 0) == (255, 128, 128)
    assert color(11, 0) == (191, 0, 0)


def test_every_direction_has_its_own_color() -> None:
    angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    flow = 10 * np.stack([np.cos(angles), np.sin(angles)])[:, None].astype(np.float32)
    assert len(np.unique(flow_to_rgb(flow, 10)[0], axis=0)) == 360


def test_the_legend_shows_the_motion_from_its_centre() -> None:
    disc = wheel(101)
    assert disc.shape == (101, 101, 4)
    assert tuple(disc[50, 50, :3]) == (255, 255, 255)
    assert tuple(disc[50, 100, :3]) == color(10, 0)
    assert tuple(disc[0, 50, :3]) == color(0, -10)
    assert disc[0, 0, 3] == 0
    assert disc[50, 50, 3] == 255


def test_small_flow_is_drawn_large_with_the_legend_in_its_corner() -> None:
    flow = np.zeros((2, 96, 128), np.float32)
    flow[0] = 4
    picture = render(flow, 4, caption="1.00 s")
    assert picture.shape == (360, 480, 3)
    assert render_size((128, 96)) == (480, 360)
    assert (picture[:180, :240] == (255, 0, 0)).all()
    assert len(np.unique(picture[-140:, -140:].reshape(-1, 3), axis=0)) > 500
    assert render_size((1920, 1080)) == (1920, 1080)


def test_scale_of_the_display() -> None:
    still = np.zeros((2, 20, 20), np.float32)
    assert display_max_px([still]) == 1
    assert display_max_px([still + 3]) == pytest.approx(3 * 2**0.5)
    assert display_max_px([]) == 1


def test_refusals() -> None:
    with pytest.raises(ValueError, match="max_px"):
        flow_to_rgb(np.zeros((2, 4, 4), np.float32), 0)
    with pytest.raises(ValueError, match=r"\(2, H, W\)"):
        flow_to_rgb(np.zeros((4, 4, 2), np.float32), 1)
