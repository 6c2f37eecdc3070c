"""ONNX files against the networks they came from, in onnxruntime."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch

from vpipe.errors import UsageError
from vpipe.models import Model, Stream, onnx_file
from vpipe.models.registry import ARCHITECTURES
from vpipe.models.weights import ModelHeader, StreamSpec

from .test_networks import FRAMES, SIDES, TINY, tiny

LABELS = tuple("abcde")
NO_ONNX = ("tsn-affine",)  # it solves linear systems, for which ONNX has no operator


def stream(name: str, weight: float = 1.0) -> Stream:
    side, channels = SIDES.get(name, 32), TINY[name].get("channels", 3)
    modality = "rgb" if channels == 3 else "flow"
    statistics = ((0.0,) * channels, (1.0,) * channels)
    frames = FRAMES.get(name, 4)
    spec = StreamSpec(
        name, TINY[name], modality, frames, Fraction(8), (side, side), *statistics, weight=weight
    )
    return Stream(spec, tiny(name))


def model(*streams: Stream, fusion: str = "softmax") -> Model:
    return Model(ModelHeader("toy", LABELS, None, "made by hand", "none", fusion), streams, "0" * 64)


def test_two_streams_with_any_batch(tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    two = model(stream("tsm-diff"), stream("tsn", 2.0), fusion="logits")
    path = tmp_path / "two.onnx"
    assert onnx_file.export_onnx(two, path) < 1e-5
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_inputs()] == ["rgb0", "rgb1"]
    clips = [torch.randn(5, 4, 3, 32, 32), torch.randn(5, 4, 3, 32, 32)]
    names = [one.name for one in session.get_inputs()]
    found = session.run(["probabilities"], dict(zip(names, (c.numpy() for c in clips), strict=True)))[0]
    with torch.inference_mode():
        ours = [one.network(clip) for one, clip in zip(two.streams, clips, strict=True)]
    assert torch.allclose(torch.from_numpy(found), (ours[0] + 2 * ours[1]).softmax(1), atol=1e-5)
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == list(LABELS)
    assert json.loads(metadata["vpipe"])["streams"][1]["weight"] == 2.0


def test_what_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnx_file, "TOLERANCE", -1.0)
    with pytest.raises(UsageError, match="nothing was written") as caught:
        onnx_file.export_onnx(model(stream("tsn")), tmp_path / "a.onnx")
    assert caught.value.code == "export_differs"
    assert list(tmp_path.iterdir()) == []


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named '{name}'", name=name)

    monkeypatch.setattr(onnx_file, "import_module", missing)
    with pytest.raises(UsageError, match=r"pip install 'vpipe\[onnx\]'"):
        onnx_file.export_onnx(model(stream("tsn")), tmp_path / "a.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sorted(ARCHITECTURES) if name not in NO_ONNX])
def test_every_architecture(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    assert onnx_file.export_onnx(model(stream(name)), tmp_path / "a.onnx") < 1e-5
