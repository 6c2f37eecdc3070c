"""Weight files: what is written is read, and nothing damaged or foreign is accepted."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vpipe.errors import EnvironmentFault, UsageError
from vpipe.flow.params import FlowParams
from vpipe.models import load_model
from vpipe.models.fuse import fuse
from vpipe.models.registry import build
from vpipe.models.weights import ModelHeader, StreamSpec, read_weights, write_weights

LABELS = ("left", "right", "rest")


def spec(modality: str = "rgb") -> StreamSpec:
    flow = modality == "flow"
    return StreamSpec(
        architecture="tsn",
        hyper={"classes": 3, "frames": 4, "channels": 2 if flow else 3, "widths": [8, 8]},
        modality=modality,
        frames=4,
        fps=Fraction(8),
        size=(32, 32),
        mean=(0.0,) * (2 if flow else 3),
        std=(1.0,) * (2 if flow else 3),
        flow_params=FlowParams.preset("fast", short_side_px=64, fps=Fraction(8)) if flow else None,
        flip_labels={"left": "right", "right": "left"},
    )


def write(
    path: Path, modality: str = "rgb", labels: tuple[str, ...] = LABELS, name: str = "m"
) -> torch.nn.Module:
    torch.manual_seed(3)
    network = build("tsn", spec(modality).hyper).half().float()
    header = ModelHeader(name, labels, "rest", "a test", "Apache-2.0")
    write_weights(path, header, [(spec(modality), network.state_dict())])
    return network.eval()


def test_round_trip(tmp_path: Path) -> None:
    network = write(tmp_path / "m.safetensors")
    model = load_model(tmp_path / "m.safetensors")
    (stream,) = model.streams
    assert stream.spec == spec()
    assert (model.labels, model.background, len(model.hash)) == (list(LABELS), "rest", 64)
    clip = torch.randn(2, 4, 3, 32, 32)
    with torch.inference_mode():
        assert torch.equal(stream.network(clip), network(clip))
    json.dumps(model.info())


def test_flow_recipe_travels_with_the_weights(tmp_path: Path) -> None:
    write(tmp_path / "m.safetensors", "flow")
    (stream,) = read_weights(tmp_path / "m.safetensors").streams
    assert stream.flow_params == spec("flow").flow_params


def test_equal_weights_give_equal_bytes(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors")
    write(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_fusion_keeps_both_streams_and_their_weights(tmp_path: Path) -> None:
    for modality in ("rgb", "flow"):
        write(tmp_path / f"{modality}.safetensors", modality)
    parts = [read_weights(tmp_path / f"{modality}.safetensors") for modality in ("rgb", "flow")]
    fuse(parts, [1.0, 1.5], "both", tmp_path / "both.safetensors")
    model = read_weights(tmp_path / "both.safetensors")
    assert [(s.modality, s.weight) for s in model.streams] == [("rgb", 1.0), ("flow", 1.5)]
    for wrong in ([1.0], [1.0, 0.0], [1.0, float("nan")], [1.0, float("inf")]):
        with pytest.raises(UsageError, match="one finite weight above 0"):
            fuse(parts, wrong, "both", tmp_path / "x.safetensors")
    write(tmp_path / "other.safetensors", labels=("a", "b", "rest"))
    with pytest.raises(UsageError, match="same labels"):
        fuse(
            [parts[0], read_weights(tmp_path / "other.safetensors")], [1, 1], "x", tmp_path / "x.safetensors"
        )


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "good.safetensors"
    write(good)
    data = good.read_bytes()
    rng = np.random.default_rng(0)
    bad = tmp_path / "bad.safetensors"
    for cut in (0, 7, 100, len(data) // 2, len(data) - 1):
        bad.write_bytes(data[:cut])
        with pytest.raises(UsageError, match=r"bad\.safetensors: not a usable weight file"):
            read_weights(bad)
    header_end = 8 + int.from_bytes(data[:8], "little")
    for at in rng.integers(0, header_end, 200):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        bad.write_bytes(bytes(flipped))
        try:
            read_weights(bad)
        except UsageError as error:
            assert error.code == "bad_weights" or error.code.startswith(("unknown", "bad_"))  # noqa: PT017


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(2)}, tmp_path / "foreign.safetensors")
    with pytest.raises(UsageError, match="metadata does not say"):
        read_weights(tmp_path / "foreign.safetensors")
    with pytest.raises(UsageError, match="unknown model 'motion-rgp'") as caught:
        load_model("motion-rgp")
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="no such weight file"):
        load_model(tmp_path / "none.safetensors")


def test_not_finite_values_are_refused(tmp_path: Path) -> None:
    network = build("tsn", spec().hyper)
    with torch.no_grad():
        network.fc.weight[0, 0] = float("nan")  # type: ignore[union-attr, operator]
    header = ModelHeader("m", LABELS, None, "a test", "Apache-2.0")
    write_weights(tmp_path / "nan.safetensors", header, [(spec(), network.state_dict())])
    with pytest.raises(UsageError, match="not finite"):
        read_weights(tmp_path / "nan.safetensors")


def test_unwritable_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match=r"file/m\.safetensors: cannot write .*choose another -o"):
        write(tmp_path / "file" / "m.safetensors")


def test_any_changed_byte_is_found(tmp_path: Path) -> None:
    """Tensors and header alike: a flipped bit is refused or, in what JSON ignores, changes nothing."""
    good = tmp_path / "good.safetensors"
    write(good)
    data = good.read_bytes()
    expected = read_weights(good)
    rng = np.random.default_rng(1)
    body = 8 + int.from_bytes(data[:8], "little")
    bad = tmp_path / "bad.safetensors"
    for at in rng.integers(body, len(data), 60):
        flipped = bytearray(data)
        flipped[at] ^= 1 << int(rng.integers(8))
        bad.write_bytes(bytes(flipped))
        with pytest.raises(UsageError, match="digest"):
            read_weights(bad)
    good.rename(tmp_path / "moved.safetensors")
    assert read_weights(tmp_path / "moved.safetensors").hash == expected.hash


def test_a_3d_network_is_read_too(tmp_path: Path) -> None:
    hyper = {
        "classes": 3,
        "width": 8,
        "blocks": [1, 1, 1, 1],
        "kinds": ["full", "split", "flat", "flat", "flat"],
    }
    network = build("r3d", hyper).half().float().eval()
    three = StreamSpec(**{**spec().__dict__, "architecture": "r3d", "hyper": hyper})
    header = ModelHeader("three", LABELS, "rest", "a test", "Apache-2.0")
    write_weights(tmp_path / "three.safetensors", header, [(three, network.state_dict())])
    clip = torch.randn(1, 4, 3, 32, 32)
    with torch.inference_mode():
        found = load_model(tmp_path / "three.safetensors").streams[0].network(clip)
        assert torch.allclose(found, network(clip), atol=1e-5)
