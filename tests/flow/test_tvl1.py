"""Our TV-L1 engine: against OpenCV's, against closed forms, and what must hold for any pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.flow_pairs import KINDS, end_point_error, generated_pair, middlebury
from vpipe.flow import tvl1, tvl1_sequence
from vpipe.flow.inputs import FlowInputError
from vpipe.flow.methods import FlowFrame, compute, flow_between
from vpipe.flow.params import PRESETS, FlowParams

ACCURATE = FlowParams.preset("accurate")
IDENTITY = np.array([[1.0, 0, 0], [0, 1, 0]])


def texture(seed: int, height: int, width: int, blur: float = 1.5) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (height, width)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), blur)
    return cv2.normalize(smooth, np.empty_like(smooth), 20, 235, cv2.NORM_MINMAX)


def moved(picture: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The picture with point x at matrix x."""
    height, width = picture.shape
    return np.clip(cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC), 0, 255)


def true_flow(matrix: np.ndarray, height: int, width: int) -> np.ndarray:
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack(
        [
            matrix[0, 0] * x + matrix[0, 1] * y + matrix[0, 2] - x,
            matrix[1, 0] * x + matrix[1, 1] * y + matrix[1, 2] - y,
        ]
    )


def inner(flow: np.ndarray, px: int = 16) -> np.ndarray:
    return flow[:, px:-px, px:-px]


def about(centre: tuple[float, float], angle: float, scale: float) -> np.ndarray:
    return cv2.getRotationMatrix2D(centre, np.rad2deg(angle), scale)


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) != 5, reason="parity is with OpenCV 5's DualTVL1")
@pytest.mark.parametrize("kind", KINDS)
def test_parity_with_opencv(kind: str) -> None:
    pair = generated_pair(kind, np.random.default_rng(11))
    a, b = (picture[40:200, 60:260].copy() for picture in (pair.first, pair.second))
    theirs = cv2.optflow.DualTVL1OpticalFlow_create().calc(a, b, None).transpose(2, 0, 1)
    ours = tvl1(a, b, FlowParams.preset("parity"))
    distance = np.hypot(*(ours - theirs))
    assert distance.mean() < 0.03
    assert np.percentile(distance, 50) < 0.015
    assert np.percentile(distance, 95) < 0.1


@pytest.mark.skipif(int(cv2.__version__.split(".")[0]) != 5, reason="parity is with OpenCV 5's DualTVL1")
@pytest.mark.slow
def test_parity_on_the_real_pairs(shared_dir: Path) -> None:
    engine = cv2.optflow.DualTVL1OpticalFlow_create()
    distances, errors = [], []
    for pair in middlebury(shared_dir / "flow_pairs"):
        theirs = engine.calc(pair.first, pair.second, None).transpose(2, 0, 1)
        ours = tvl1(pair.first, pair.second, FlowParams.preset("parity"))
        distances.append(np.hypot(*(ours - theirs)).mean())
        assert pair.truth is not None
        errors.append(abs(end_point_error(ours, pair.truth) - end_point_error(theirs, pair.truth)))
    assert np.mean(distances) < 0.015
    assert max(errors) < 0.005


@pytest.mark.parametrize(("preset", "limit"), [("accurate", 0.21), ("fast", 0.26)])
def test_accuracy_on_the_real_pairs(shared_dir: Path, preset: str, limit: float) -> None:
    params = FlowParams.preset(preset)
    errors = []
    for pair in middlebury(shared_dir / "flow_pairs"):
        assert pair.truth is not None
        errors.append(end_point_error(tvl1(pair.first, pair.second, params), pair.truth))
    assert np.mean(errors) < limit


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("shift", [(3.0, 0.0), (0.0, -2.0), (1.5, -0.5), (-0.25, 2.75)], ids=str)
def test_translation(preset: str, shift: tuple[float, float]) -> None:
    a = texture(1, 96, 112)
    matrix = IDENTITY + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
    flow = inner(tvl1(a, moved(a, matrix), FlowParams.preset(preset)))
    assert np.abs(flow - np.array(shift).reshape(2, 1, 1)).mean() < 0.06


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "matrix", [about((80, 64), 0.05, 1.0), about((80, 64), 0.0, 1.06), about((80, 64), -0.03, 0.95)],
    ids=["rotation", "zoom", "both"],
)  # fmt: skip
def test_rotation_and_zoom(preset: str, matrix: np.ndarray) -> None:
    a = texture(2, 128, 160)
    flow = tvl1(a, moved(a, matrix), FlowParams.preset(preset))
    assert np.hypot(*inner(flow - true_flow(matrix, 128, 160))).mean() < 0.12


@pytest.mark.parametrize("preset", ["accurate", "fast"])
def test_motion_of_fifteen_pixels(preset: str) -> None:
    a = texture(3, 160, 200, blur=3)
    matrix = IDENTITY + np.array([[0, 0, 15.0], [0, 0, 0]])
    flow = tvl1(a, moved(a, matrix), FlowParams.preset(preset))
    assert np.median(np.hypot(*inner(flow - true_flow(matrix, 160, 200), 30))) < 0.1


@pytest.mark.parametrize("preset", PRESETS)
def test_a_mirrored_pair_has_the_mirrored_flow(preset: str) -> None:
    a, b = texture(4, 64, 80), moved(texture(4, 64, 80), about((40, 32), 0.04, 1.02))
    params = FlowParams.preset(preset)
    flow = tvl1(a, b, params)
    left_right = tvl1(a[:, ::-1].copy(), b[:, ::-1].copy(), params)[:, :, ::-1] * np.array([-1, 1]).reshape(
        2, 1, 1
    )
    turned = tvl1(a.T.copy(), b.T.copy(), params).transpose(0, 2, 1)[::-1]
    # Forward differences are not symmetric, so neither are the last digits.
    assert np.abs(inner(left_right - flow, 6)).mean() < 0.05
    assert np.abs(inner(turned - flow, 6)).mean() < 0.05


def test_noise_lowers_the_trust_in_values() -> None:
    a = texture(5, 120, 160, blur=4) * 0.3 + 80
    b = moved(a, IDENTITY + np.array([[0, 0, 2.0], [0, 0, 1.0]]))
    rng = np.random.default_rng(0)
    noisy = [np.clip(p + rng.normal(0, 6, p.shape), 0, 255).astype(np.float32) for p in (a, b)]
    truth = np.array([2.0, 1.0]).reshape(2, 1, 1)
    errors = [
        np.hypot(*inner(tvl1(*noisy, FlowParams.preset("accurate", noise=noise)) - truth)).mean()
        for noise in (3.5, 0.0)
    ]
    assert errors[0] < 0.6 * errors[1]
    assert errors[0] < 0.3


def test_bits_do_not_depend_on_threads() -> None:
    pairs = [(texture(s, 60 + s, 90 - s), texture(s, 60 + s, 90 - s, blur=1.6)) for s in range(8)]
    alone = [tvl1(a, b, ACCURATE) for a, b in pairs]
    for threads in (2, 4):
        with ThreadPoolExecutor(threads) as pool:
            together = list(pool.map(lambda pair: tvl1(*pair, ACCURATE), pairs * 3))
        assert all(np.array_equal(x, y) for x, y in zip(together, alone * 3, strict=True))


def test_a_sequence_gives_the_flow_of_its_pairs() -> None:
    frames = [moved(texture(6, 64, 72), about((36, 32), 0.02 * k, 1.0)).astype(np.uint8) for k in range(4)]
    pairs = [tvl1(a, b, ACCURATE) for a, b in pairwise(frames)]
    sequence = list(tvl1_sequence(iter(frames), ACCURATE))
    assert len(sequence) == 3
    assert all(np.array_equal(x, y) for x, y in zip(sequence, pairs, strict=True))
    shared = [FlowFrame(frame, ACCURATE) for frame in frames]
    with ThreadPoolExecutor(3) as pool:
        threaded = list(pool.map(flow_between, shared[:-1], shared[1:]))
    assert all(np.array_equal(x, y) for x, y in zip(threaded, pairs, strict=True))
    assert list(tvl1_sequence(frames[:1], ACCURATE)) == []


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("level", [0, 7, 255])
def test_constant_pictures_stand_still(preset: str, level: int) -> None:
    params = FlowParams.preset(preset)
    flat = np.full((33, 47), level, np.uint8)
    assert not tvl1(flat, flat, params).any()
    other = np.full((33, 47), 255 - level, np.uint8)
    assert np.abs(tvl1(flat, other, params)).max() == 0
    picture = texture(7, 40, 40).astype(np.uint8)
    assert not tvl1(picture, picture.copy(), params).any()


# Widths around the vector length, and the smallest allowed.
SIDES = st.sampled_from([16, 17, 23, 31, 32, 33, 47, 48, 49, 63])


@settings(max_examples=25, deadline=None)
@given(height=SIDES, width=SIDES, kind=st.sampled_from(["uint8", "float32", "float64"]), data=st.data())
def test_any_size_and_type_gives_finite_flow(height: int, width: int, kind: str, data: st.DataObject) -> None:
    preset = data.draw(st.sampled_from(PRESETS))
    pictures = []
    for _ in range(2):
        values = data.draw(arrays(np.uint8, (height, width)))
        pictures.append(values if kind == "uint8" else values.astype(kind))
    flow = tvl1(*pictures, FlowParams.preset(preset))
    assert flow.shape == (2, height, width)
    assert flow.dtype == np.float32
    assert flow.flags.c_contiguous
    assert np.isfinite(flow).all()
    assert np.array_equal(flow, compute(*pictures, FlowParams.preset(preset)))


@settings(max_examples=15, deadline=None)
@given(
    numbers=st.fixed_dictionaries(
        {},
        optional={
            "lambda_": st.floats(0.01, 50), "theta": st.floats(0.01, 10), "tau": st.floats(0.01, 1),
            "warps": st.integers(1, 4), "inner_iterations": st.integers(1, 40),
            "outer_iterations": st.integers(1, 3), "median": st.sampled_from([1, 3, 5]),
            "epsilon": st.floats(0, 1), "scale_step": st.floats(0.3, 0.95), "scales": st.integers(1, 32),
            "edge": st.floats(0, 100), "blend": st.floats(0, 1), "derivative": st.sampled_from([3, 5]),
            "pyramid_blur": st.floats(0, 3), "median_after": st.integers(0, 1),
            "zero_outside": st.integers(0, 1), "noise": st.floats(0, 50),
        },
    )
)  # fmt: skip
def test_every_number_may_be_another(numbers: dict[str, float]) -> None:
    a, b = (texture(s, 37, 45).astype(np.uint8) for s in (8, 9))
    assert np.isfinite(tvl1(a, b, FlowParams.preset("fast", **numbers))).all()


def test_what_cannot_be_a_pair_is_refused() -> None:
    good = np.zeros((20, 30), np.uint8)
    holey = good.astype(np.float32)
    holey[3, 4] = np.nan
    endless = good.astype(np.float64)
    endless[2, 2] = np.inf
    for wrong in (
        np.zeros((20, 31), np.uint8), np.zeros((0, 30), np.uint8), np.zeros((15, 30), np.uint8),
        good.astype(np.int32), good.astype(np.float16), holey, endless, good[..., None],
    ):  # fmt: skip
        with pytest.raises(FlowInputError):
            tvl1(good, wrong, ACCURATE)
        with pytest.raises(ValueError, match="picture"):
            tvl1(wrong, good, ACCURATE)
        with pytest.raises(FlowInputError):
            list(tvl1_sequence([good, wrong], ACCURATE))


def test_a_view_is_a_picture_too() -> None:
    big = texture(10, 80, 100).astype(np.uint8)
    a, b = big[::2, 5:45], big[1::2, 5:45]
    assert np.array_equal(tvl1(a, b, ACCURATE), tvl1(a.copy(), b.copy(), ACCURATE))


def test_rounding_and_denormals_stay_as_they_were() -> None:
    tiny, third = np.float32(1e-39), np.float64(1) / 3
    before = (tiny * np.float32(0.5), third)
    tvl1(texture(11, 32, 32), texture(12, 32, 32), ACCURATE)
    assert (tiny * np.float32(0.5), np.float64(1) / 3) == before
    assert tiny * np.float32(0.5) != 0


_RUN = """
import sys, numpy as np, cv2
from vpipe.flow.params import FlowParams
from vpipe.flow import tvl1
rng = np.random.default_rng(0)
a = cv2.GaussianBlur(rng.normal(128, 90, (70, 90)), (0, 0), 2).clip(0, 255).astype(np.uint8)
b = np.roll(a, (1, 2), (0, 1))
np.save(sys.argv[1], [tvl1(a, b, FlowParams.preset(p)) for p in ("parity", "accurate")])
"""


@pytest.mark.parametrize(
    ("name", "features"),
    [
        pytest.param("haswell", "+avx2,+fma", id="AVX2", marks=pytest.mark.slow),
        pytest.param("nehalem", "+sse4.2,-avx,-avx2,-fma", id="SSE", marks=pytest.mark.slow),
    ],
)
def test_older_processors_compute_the_same(tmp_path: Path, name: str, features: str) -> None:
    if os.uname().machine != "x86_64":
        pytest.skip("instructions of x86 can be left out on x86 only")
    settings_ = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features, "XDG_CACHE_HOME": str(tmp_path)}
    flows = []
    for number, extra in enumerate(({}, settings_)):
        out = tmp_path / f"{number}.npy"
        subprocess.run([sys.executable, "-c", _RUN, str(out)], env=os.environ | extra, check=True)
        flows.append(np.load(out))
    assert np.abs(flows[0] - flows[1]).mean() < 0.002


def test_kernels_are_kept_and_compiling_is_said(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    run = [
        sys.executable,
        "-c",
        "import logging; logging.basicConfig(level=20)\n" + _RUN,
        str(tmp_path / "x"),
    ]
    first = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert "compil" in first.stderr
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.nb?")}
    assert kept
    flow = np.load(tmp_path / "x.npy")
    again = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert "compil" not in again.stderr
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.nb?")}
    # A kernel may be compiled into its caller when kept, and alone in the run that compiles.
    assert np.array_equal(flow, np.load(tmp_path / "x.npy"))


@pytest.mark.slow
def test_where_kernels_cannot_be_kept_they_still_run(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("no folder")
    environment = os.environ | {"XDG_CACHE_HOME": str(blocked)}
    run = [sys.executable, "-c", _RUN, str(tmp_path / "x")]
    done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
    assert "cannot be kept" in done.stderr


def test_the_example_of_the_documentation_runs() -> None:
    page = (Path(__file__).parents[2] / "docs" / "flow.md").read_text()
    names: dict[str, object] = {}
    exec(page.split("```python\n")[1].split("```")[0], names)
    assert isinstance(names["flow"], np.ndarray)
    assert names["flow"].shape == (2, 64, 80)
    assert len(names["flows"]) == 2  # type: ignore[arg-type]
