"""Every method against motion whose exact flow is known, and against input it must refuse."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from vpipe.errors import VpipeError
from vpipe.flow.methods import compute
from vpipe.flow.params import METHODS, FlowParams

SIZE = (136, 104)  # width, height


def texture(seed: int, width: int = 400, height: int = 400) -> np.ndarray:
    """Smooth random gray uint8 (height, width) with detail at several scales."""
    rng = np.random.default_rng(seed)
    layers = [
        s * cv2.resize(rng.random((height // s, width // s), np.float32), (width, height), interpolation=2)
        for s in (4, 8, 16, 32)
    ]
    return cv2.normalize(sum(layers), None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def warped(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The middle of `picture` seen through the 2x3 map from view pixel to (centred) picture pixel."""
    centre = np.array([[1, 0, 200.0], [0, 1, 200.0], [0, 0, 1]])
    view = np.array([[1, 0, -(SIZE[0] - 1) / 2], [0, 1, -(SIZE[1] - 1) / 2], [0, 0, 1]])
    full = (centre @ np.vstack([matrix, [0, 0, 1]]) @ view)[:2]
    return cv2.warpAffine(picture, full, SIZE, flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP)


IDENTITY = np.eye(2, 3)


def true_flow(matrix: np.ndarray) -> np.ndarray:
    """Flow (2, H, W) from the identity view to the view of `matrix`: a point moves by inverse(matrix) - 1."""
    inverse = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    y, x = np.mgrid[: SIZE[1], : SIZE[0]].astype(np.float64)
    x, y = x - (SIZE[0] - 1) / 2, y - (SIZE[1] - 1) / 2
    moved = np.einsum("ij,jhw->ihw", inverse, np.stack([x, y, np.ones_like(x)]))
    return moved - np.stack([x, y])


def error_px(flow: np.ndarray, truth: np.ndarray, margin: int = 16) -> float:
    inside = np.s_[:, margin:-margin, margin:-margin]
    return float(np.hypot(*(flow - truth)[inside]).mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (0, -2), (-2.5, 1.25)], ids=str)
def test_translation(method: str, shift: tuple[float, float]) -> None:
    # The view moves by -shift over the picture, so that the content moves by +shift.
    matrix = np.array([[1, 0, -shift[0]], [0, 1, -shift[1]]])
    a, b = (warped(texture(1), view) for view in (IDENTITY, matrix))
    flow = compute(a, b, FlowParams.preset("accurate", method=method))
    assert flow.shape == (2, SIZE[1], SIZE[0])
    assert flow.dtype == np.float32
    assert error_px(flow, true_flow(matrix)) < 0.15
    if shift == (0, 0) and method in ("tvl1", "opencv-tvl1"):
        assert not flow.any()


@pytest.mark.parametrize(
    "matrix",
    [
        np.array([[np.cos(0.05), -np.sin(0.05), 0], [np.sin(0.05), np.cos(0.05), 0]]),
        np.array([[0.95, 0, 0], [0, 0.95, 0]]),
    ],
    ids=["rotation", "zoom in"],
)
def test_rotation_and_zoom(matrix: np.ndarray) -> None:
    picture = texture(2)
    flow = compute(warped(picture, IDENTITY), warped(picture, matrix), FlowParams.preset("accurate"))
    assert error_px(flow, true_flow(matrix)) < 0.15


def test_zoom_in_moves_points_away_from_the_centre() -> None:
    flow = true_flow(np.array([[0.95, 0, 0], [0, 0.95, 0]]))
    assert flow[0, 50, 0] < 0 < flow[0, 50, -1]
    assert flow[1, 0, 60] < 0 < flow[1, -1, 60]


def test_accurate_finds_large_motion() -> None:
    picture = cv2.GaussianBlur(texture(3), (0, 0), 2)
    flow = compute(picture[100:280, 100:340], picture[100:280, 82:322], FlowParams.preset("accurate"))
    assert error_px(flow, np.array([18, 0]).reshape(2, 1, 1), 24) < 0.5


@pytest.mark.parametrize(("method", "limit"), [("tvl1", 0.21), ("dis", 0.25)])
def test_on_a_real_pair(shared_dir: Path, method: str, limit: float) -> None:
    folder = shared_dir / "flow_pairs" / "RubberWhale"
    a, b = (cv2.imread(str(folder / f"frame{n}.png"), cv2.IMREAD_GRAYSCALE) for n in (10, 11))
    data = np.fromfile(folder / "flow10.flo", np.float32)
    width, height = data[1:3].view(np.int32)
    truth = data[3:].reshape(height, width, 2).transpose(2, 0, 1)
    known = (np.abs(truth) < 1e9).all(0)
    flow = compute(a, b, FlowParams.preset("accurate", method=method))
    assert np.hypot(*(flow - truth))[known].mean() < limit


def test_equal_pictures_and_equal_runs_give_equal_bits() -> None:
    a, b = texture(4)[:96, :128], texture(5)[:96, :128]
    params = FlowParams.preset("accurate")
    once = compute(a, b, params)
    with ThreadPoolExecutor(4) as pool:
        for flow in pool.map(lambda _: compute(a, b, params), range(8)):
            assert np.array_equal(flow, once)


def test_a_small_picture_before_changes_nothing() -> None:
    a, b = texture(4)[:160, :200], texture(4)[:160, 12:212]
    params = FlowParams.preset("accurate", warps=2)
    fresh = compute(a, b, params)
    compute(a[:20, :24], b[:20, :24], params)
    assert np.array_equal(compute(a, b, params), fresh)


def test_float_input_is_the_same_picture() -> None:
    a, b = texture(4)[:96, :128], texture(4)[2:98, 2:130]
    params = FlowParams.preset("fast")
    expected = compute(a, b, params)
    assert np.array_equal(compute(a.astype(np.float32), b.astype(np.float64), params), expected)


GOOD = np.zeros((32, 40), np.uint8)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (np.zeros((32, 41), np.uint8), "flow_sizes_differ"),
        (np.full((32, 40), np.nan, np.float32), "flow_not_finite"),
        (np.zeros((0, 40), np.uint8), "flow_empty"),
        (np.zeros((32, 40), np.int32), "flow_bad_dtype"),
        (np.full((32, 40), 300, np.float32), "flow_bad_range"),
        (np.zeros((32, 40, 3), np.uint8), "flow_bad_shape"),
        (np.zeros((8, 40), np.uint8), "flow_too_small"),
        ("a.png", "flow_bad_shape"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals(method: str, wrong: object, code: str) -> None:
    for pair in ((GOOD, wrong), (wrong, GOOD)):
        with pytest.raises(VpipeError) as caught:
            compute(*pair, FlowParams.preset("fast", method=method))  # type: ignore[arg-type]
        assert caught.value.code == code
        assert isinstance(caught.value, ValueError)
