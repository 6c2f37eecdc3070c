"""The flow recipe: one spelling per recipe, nothing out of range, nothing that does not belong."""

from __future__ import annotations

import json
from fractions import Fraction

import pytest

from vpipe.errors import UsageError
from vpipe.flow.params import METHODS, PACKAGED, PRESETS, FlowParams


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("preset", PRESETS)
def test_json_and_back(method: str, preset: str) -> None:
    params = FlowParams.preset(preset, method=method, short_side_px=96, step=2, fps=Fraction(30000, 1001))
    again = FlowParams.from_dict(json.loads(json.dumps(params.to_dict())))
    assert again == params
    assert hash(again) == hash(params)
    assert again.canonical_json() == params.canonical_json()
    assert params.preset_name == preset
    assert params.to_dict()["fps"] == "30000/1001"


def test_presets_are_the_published_numbers() -> None:
    parity = FlowParams.preset("parity")
    numbers = (parity.tau, parity.lambda_, parity.theta, parity.scales, parity.scale_step, parity.warps)
    assert numbers == (0.25, 0.15, 0.3, 5, 0.8, 5)
    assert (parity.epsilon, parity.outer_iterations, parity.inner_iterations) == (0.01, 10, 30)
    assert (parity.median, parity.derivative) == (5, 3)
    assert (parity.edge, parity.blend, parity.pyramid_blur, parity.noise) == (0, 0, 0, 0)
    assert FlowParams.preset("parity", method="opencv-tvl1").gamma == 0.0
    assert FlowParams() == FlowParams.preset("accurate")


def test_the_packaged_recipe() -> None:
    expected = FlowParams.preset("accurate", short_side_px=128, fps=Fraction(8))
    assert expected == PACKAGED
    assert PACKAGED.method == "tvl1"


def test_a_preset_with_another_number_is_no_preset() -> None:
    changed = FlowParams.preset("accurate", warps=9)
    assert changed.preset_name is None
    assert changed.canonical_json() != FlowParams.preset("accurate").canonical_json()
    fast = FlowParams.preset("fast")
    numbers = {name: getattr(fast, name) for name in ("scale_step", "noise", "inner_iterations")}
    assert FlowParams.preset("accurate", **numbers).preset_name == "fast"


def test_equal_recipes_have_one_spelling() -> None:
    whole = FlowParams.preset("fast", fps=8, theta=0.3)
    assert whole.canonical_json() == FlowParams.preset("fast", fps=Fraction(8)).canonical_json()
    assert FlowParams.preset("fast", edge=12).canonical_json() == FlowParams.preset("fast").canonical_json()


def test_a_recipe_outlives_the_name_of_its_preset() -> None:
    stored = FlowParams.preset("accurate").to_dict() | {"inner_iterations": 12}
    read = FlowParams.from_dict(stored)
    assert read.inner_iterations == 12
    assert read.preset_name is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "lucas"},
        {"scales": 0},
        {"scales": 5.5},
        {"warps": True},
        {"scale_step": 1.0},
        {"tau": float("nan")},
        {"median": 4},
        {"short_side_px": 8},
        {"short_side_px": 128.0},
        {"step": 0},
        {"fps": Fraction(0)},
        {"fps": 29.97},
        {"no_such_field": 1},
        {"method": "dis", "warps": 2},
        {"gamma": 0.0},
        {"method": "opencv-tvl1", "edge": 12.0},
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        FlowParams.preset("accurate", **wrong)


def test_unknown_preset_says_what_is_allowed() -> None:
    with pytest.raises(UsageError, match="parity, accurate, fast"):
        FlowParams.preset("best")


@pytest.mark.parametrize("change", [{"tau": None}, {"fps": "x"}, {"extra": 1}, {"method": "x"}], ids=str)
def test_a_damaged_dict_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        FlowParams.from_dict(PACKAGED.to_dict() | change)
    with pytest.raises(UsageError):
        FlowParams.from_dict({})


def test_the_engine_names_the_library_version() -> None:
    import cv2

    for method in METHODS:
        engine = FlowParams.preset("fast", method=method).engine()
        assert engine["id"] == method
        assert (cv2.__version__ in engine["version"]) == (method != "tvl1")
