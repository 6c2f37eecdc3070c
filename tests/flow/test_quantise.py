"""Rounding for storage: zero stays zero, errors have a bound, what is beyond is clipped and counted."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vpipe.errors import UsageError
from vpipe.flow.quantise import Storage

storages = st.one_of(
    st.floats(0.5, 1000, width=32).map(lambda bound: Storage("standard", bound)), st.just(Storage("high"))
)
flows = arrays(np.float32, array_shapes(max_dims=4, max_side=5), elements=st.floats(-2000, 2000, width=32))


@given(storages, flows)
def test_error_inside_the_bound_and_clipping_beyond_it(storage: Storage, flow: np.ndarray) -> None:
    codes = storage.quantise(flow)
    back = storage.dequantise(codes)
    assert codes.dtype == storage.dtype
    assert back.dtype == np.float32
    assert back.shape == flow.shape
    inside = np.abs(flow) <= storage.bound_px
    # Half a step, and what float32 itself rounds at this size.
    slack = storage.scale / 2 + 4e-6 * storage.bound_px
    assert (np.abs(back - flow)[inside] <= slack).all()
    assert np.allclose(np.abs(back[~inside]), storage.bound_px, rtol=1e-5)
    assert (np.sign(back) * np.sign(flow) >= 0).all()


@given(storages, st.integers(1, 50))
def test_zero_is_exact(storage: Storage, count: int) -> None:
    zeros = np.zeros((2, count), np.float32)
    assert (storage.quantise(zeros) == storage.zero).all()
    assert not storage.dequantise(storage.quantise(zeros)).any()
    assert not storage.dequantise(storage.quantise(-zeros)).any()


@given(storages, flows)
def test_rounding_twice_changes_nothing_and_mirrors(storage: Storage, flow: np.ndarray) -> None:
    codes = storage.quantise(flow)
    assert np.array_equal(storage.quantise(storage.dequantise(codes)), codes)
    assert np.array_equal(storage.dequantise(storage.quantise(-flow)), -storage.dequantise(codes))


@given(storages, flows)
def test_clipped_fraction(storage: Storage, flow: np.ndarray) -> None:
    fraction = storage.clipped(flow)
    limit = storage.bound_px + storage.scale / 2
    assert fraction == pytest.approx(np.mean(np.abs(flow.astype(np.float64)) > limit), abs=1e-9)
    assert storage.clipped(storage.dequantise(storage.quantise(flow))) == 0


def test_the_numbers_of_the_default() -> None:
    storage = Storage()
    assert storage.bound_px == 20
    ramp = np.linspace(-20, 20, 4001, dtype=np.float32)
    assert np.abs(storage.dequantise(storage.quantise(ramp)) - ramp).max() <= 0.0788
    assert np.unique(storage.quantise(ramp)).size == 255  # 254 steps
    assert np.abs(Storage("high").dequantise(Storage("high").quantise(ramp)) - ramp).max() <= 0.0157


def test_json_and_back() -> None:
    for storage in (Storage(), Storage("standard", 32), Storage("high")):
        assert Storage.from_dict(json.loads(json.dumps(storage.to_dict()))) == storage
    with pytest.raises(UsageError):
        Storage.from_dict(Storage().to_dict() | {"zero": 128})
    with pytest.raises(UsageError):
        Storage.from_dict({})


def test_one_name_per_storage() -> None:
    assert Storage("standard", 20) == Storage()
    assert Storage("standard", 20).name == Storage().name == "standard-20"
    assert Storage("high", 7) == Storage("high")


@pytest.mark.parametrize("wrong", [("float", 20.0), ("standard", 0.0), ("standard", float("nan"))])
def test_refusals(wrong: tuple[str, float]) -> None:
    with pytest.raises(UsageError):
        Storage(*wrong)
