"""`vpipe models import` and what follows: from a published checkpoint to labels of a video."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from vpipe.media import FrameSource, VideoWriter
from vpipe.models import load_model
from vpipe.models.importer.labels import packaged_lists
from vpipe.models.importer.recognise import LAYOUTS
from vpipe.models.registry import ARCHITECTURES, build

from .inprocess import InProcess

SMALL = {"classes": 3, "segments": 4, "blocks": [1, 1, 1, 1], "width": 16}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    (tmp_path / "labels.txt").write_text("walk\nrun\njump\n")
    return InProcess(tmp_path, monkeypatch, capsys)


def small_tsm(path: Path, **hyper: object) -> torch.nn.Module:
    """A small TSM with random weights, saved as its repository saves them."""
    torch.manual_seed(1)
    network = build("tsm", SMALL | hyper).eval()
    theirs = {}
    for key, value in network.state_dict().items():
        key = key.replace("backbone.", "module.base_model.").replace("fc.", "module.new_fc.")
        key = re.sub(r"conv1\.conv\.weight", "conv1.net.weight", key) if ".layer" in key else key
        key = re.sub(r"conv(\d)\.conv\.", r"conv\1.", key)
        key = re.sub(r"conv(\d)\.bn\.", r"bn\1.", key)
        theirs[
            key.replace("downsample.conv.", "downsample.0.").replace("downsample.bn.", "downsample.1.")
        ] = value
    torch.save({"epoch": 50, "state_dict": theirs, "best_prec1": torch.tensor(1.0)}, path)
    return network


def video(path: Path) -> Path:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
    with VideoWriter(path, 160, 120, fps=Fraction(25)) as writer:
        for number in range(30):
            writer.write(np.roll(picture, 3 * number, axis=1))
    return path


def test_import_then_classify(here: InProcess, tmp_path: Path) -> None:
    network = small_tsm(tmp_path / "tsm.pth.tar")
    finished = here(
        "models",
        "import",
        "tsm.pth.tar",
        "--labels",
        "labels.txt",
        "--segments",
        "4",
        "-o",
        "tsm.safetensors",
    )
    assert (finished.returncode, finished.stdout) == (0, "tsm.safetensors\n"), finished.stderr
    assert "TSM, mit-han-lab/temporal-shift-module: tsm, 3 classes" in finished.stderr
    assert "vpipe classify VIDEO --model tsm.safetensors" in finished.stderr
    assert "the usual number" not in finished.stderr
    assumed = here("models", "import", "tsm.pth.tar", "--labels", "labels.txt", "-o", "usual.safetensors")
    assert "8 segments, the usual number: --segments" in assumed.stderr
    (stream,) = load_model(tmp_path / "tsm.safetensors").streams
    clip = torch.randn(1, 4, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(stream.network(clip), network(clip), atol=1e-5)
    info = json.loads(here("models", "info", "tsm.safetensors", "--json").stdout)
    assert info["labels"] == ["walk", "run", "jump"]
    assert re.search(r"tsm\.pth\.tar, SHA-256 [0-9a-f]{64}", info["source"])
    video(tmp_path / "a.mp4")
    arguments = ("classify", "a.mp4", "--model", "tsm.safetensors", "--json")
    rows = {}
    for more in ((), ("--twice-sample",), ("--crops", "3"), ("--crops", "10")):
        finished = here(*arguments, *more)
        assert finished.returncode == 0, finished.stderr
        (row,) = json.loads(finished.stdout)["results"]
        assert sorted(entry["label"] for entry in row["labels"]) == ["jump", "run", "walk"]
        assert sum(entry["score"] for entry in row["labels"]) == pytest.approx(1, abs=1e-5)
        rows[more] = row["labels"]
    assert len({json.dumps(labels) for labels in rows.values()}) > 1


def test_flow_models(here: InProcess, tmp_path: Path) -> None:
    small_tsm(tmp_path / "flow.pth", channels=2, stack=2)
    here(
        "models", "import", "flow.pth", "--labels", "labels.txt", "--segments", "4", "-o", "flow.safetensors"
    )
    (stream,) = load_model(tmp_path / "flow.safetensors").streams
    assert (stream.modality, stream.frames, stream.flow_params.short_side_px) == ("flow", 8, 256)


def test_what_does_not_fit_is_one_line(
    here: InProcess, tmp_path: Path, one_error: Callable[..., str]
) -> None:
    small_tsm(tmp_path / "tsm.pth")
    (tmp_path / "two.txt").write_text("walk\nrun\n")
    (tmp_path / "same.txt").write_text("walk\nrun\nwalk\n")
    out = ("-o", "x.safetensors")
    for arguments, code in (
        (("tsm.pth", "--labels", "two.txt", *out), "labels_differ"),
        (("tsm.pth", "--labels", "same.txt", *out), "bad_labels"),
        (("tsm.pth", "--labels", "none.txt", *out), "bad_labels"),
        (("gone.pth", "--labels", "labels.txt", *out), "checkpoint_not_found"),
        (("labels.txt", "--labels", "labels.txt", *out), "bad_checkpoint"),
        (("tsm.pth", "--labels", "labels.txt", "--arch", "tea", *out), "unknown_layout"),
        (("tsm.pth", "--labels", "labels.txt", "--stride", "2", *out), "bad_choice"),
        (("tsm.pth", "--labels", "labels.txt", "-o", "x.pth"), "bad_output"),
    ):
        finished = here("models", "import", *arguments)
        assert finished.returncode == 2, finished.stderr
        one_error(finished, f"[{code}]")
    assert not (tmp_path / "x.safetensors").exists()


def test_an_imported_model_detects_and_explains(here: InProcess, tmp_path: Path) -> None:
    small_tsm(tmp_path / "tsm.pth")
    here("models", "import", "tsm.pth", "--labels", "labels.txt", "--segments", "4", "-o", "tsm.safetensors")
    video(tmp_path / "a.mp4")
    finished = here("classify", "a.mp4", "--model", "tsm.safetensors", "--explain", "out", "--crops", "3")
    assert finished.returncode == 0, finished.stderr
    explained = json.loads((tmp_path / "out" / "a.json").read_text())["streams"]
    assert [len(stream["clips"]) for stream in explained] == [1]
    assert 0 <= explained[0]["clips"][0]["start_s"] < explained[0]["clips"][0]["end_s"] <= 1.2
    frames = [frame.image.shape for frame in FrameSource(tmp_path / "out" / "a.mp4").frames()]
    assert frames == [(310, 288, 3)] * 4  # inputs; the strip and the picture
    assert (tmp_path / "out" / "a.png").stat().st_size > 1000
    finished = here("detect", "a.mp4", "--model", "tsm.safetensors", "--min-score", "0", "--jsonl")
    assert finished.returncode == 0, finished.stderr
    segments = json.loads(finished.stdout)["segments"]
    assert {s["label"] for s in segments} <= {"walk", "run", "jump"}
    assert all(0 <= s["start_s"] < s["end_s"] <= 1.2 for s in segments)


def test_two_streams_fused_on_logits(here: InProcess, tmp_path: Path) -> None:
    """An imported pair as one file: classify reads both, and weights stay float32."""
    network = small_tsm(tmp_path / "rgb.pth")
    small_tsm(tmp_path / "other.pth", share=4)
    for name in ("rgb", "other"):
        arguments = ("--labels", "labels.txt", "--segments", "4", "-o", f"{name}.safetensors")
        assert here("models", "import", f"{name}.pth", *arguments).returncode == 0
    finished = here(
        "models", "fuse", "rgb.safetensors", "other.safetensors", "--on", "logits", "-o", "two.safetensors"
    )
    assert finished.returncode == 0, finished.stderr
    fused = load_model(tmp_path / "two.safetensors")
    assert fused.header.fusion == "logits"
    key = "backbone.conv1.conv.weight"
    assert torch.equal(fused.streams[0].network.state_dict()[key], network.state_dict()[key])
    video(tmp_path / "a.mp4")
    scores = {}
    for name in ("rgb", "other", "two"):
        finished = here("classify", "a.mp4", "--model", f"{name}.safetensors", "--json")
        (row,) = json.loads(finished.stdout)["results"]
        scores[name] = {entry["label"]: entry["score"] for entry in row["labels"]}
    product = {label: scores["rgb"][label] * scores["other"][label] for label in ("walk", "run", "jump")}
    for label, value in product.items():
        assert scores["two"][label] == pytest.approx(value / sum(product.values()), abs=1e-4)


@pytest.mark.slow
def test_rgb_and_flow_fused_are_classified_as_one(here: InProcess, tmp_path: Path) -> None:
    """A published pair as one model: flow by its recipe, a weighted mean of probabilities."""
    small_tsm(tmp_path / "rgb.pth")
    small_tsm(tmp_path / "flow.pth", channels=2, stack=2)
    for name in ("rgb", "flow"):
        arguments = ("--labels", "labels.txt", "--segments", "4", "-o", f"{name}.safetensors")
        assert here("models", "import", f"{name}.pth", *arguments).returncode == 0
    both = ("rgb.safetensors", "flow.safetensors", "--weights", "1,1.5", "-o", "two.safetensors")
    assert here("models", "fuse", *both).returncode == 0
    video(tmp_path / "a.mp4")
    scores = {}
    for name in ("rgb", "flow", "two"):
        finished = here(
            "classify", "a.mp4", "--model", f"{name}.safetensors", "--cache-dir", "cache", "--json"
        )
        assert finished.returncode == 0, finished.stderr
        (row,) = json.loads(finished.stdout)["results"]
        scores[name] = {entry["label"]: entry["score"] for entry in row["labels"]}
    assert scores["rgb"] != scores["flow"]
    for label in ("walk", "run", "jump"):
        expected = (scores["rgb"][label] + 1.5 * scores["flow"][label]) / 2.5
        assert scores["two"][label] == pytest.approx(expected, abs=1e-4)


def test_the_page_names_every_architecture_layout_and_label_list() -> None:
    page = (Path(__file__).parents[2] / "docs" / "models.md").read_text()
    for name in ARCHITECTURES:
        assert f"`{name}`" in page, name
    for layout in LAYOUTS:
        assert layout.name.split(", ")[-1].removesuffix(" et al.") in page.replace("first author", "Jiang")
    for name in packaged_lists():
        assert f"| `{name}` |" in page
