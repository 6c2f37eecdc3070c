"""`vpipe models`: what is packaged, and what a weight file says about itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vpipe.models import packaged_models
from vpipe.models.catalogue import ENTRIES
from vpipe.models.registry import ARCHITECTURES

from ..models.test_weights import write
from .inprocess import InProcess


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    """Run the command in this process, so that torch is imported once."""
    return InProcess(tmp_path, monkeypatch, capsys)


def test_list_names_every_packaged_model(here: InProcess) -> None:
    finished = here("models", "list")
    assert finished.returncode == 0, finished.stderr
    table = [line.split() for line in finished.stdout.split("Architectures")[0].splitlines()[2:]]
    assert [row[0] for row in table] == packaged_models()
    document = json.loads(here("models", "list", "--json").stdout)
    assert [model["name"] for model in document["models"]] == packaged_models()
    for model in document["models"]:
        assert model["licence"]
        assert model["parameters"] > 0
        assert model["gmacs"] > 0
        assert all(stream["input"] and stream["modality"] for stream in model["streams"])


def test_list_has_architectures_and_checkpoints_with_what_is_published(here: InProcess) -> None:
    document = json.loads(here("models", "list", "--json").stdout)
    text = here("models", "list").stdout
    architectures = {one["name"]: one for one in document["architectures"]}
    assert sorted(architectures) == sorted(ARCHITECTURES)
    assert (architectures["tsm"]["input"], architectures["tsm"]["gmacs"]) == ("8x3x224x224", 32.7)
    assert "71.2" in architectures["tsm"]["accuracy"]
    for one in (*document["architectures"], *document["checkpoints"]):
        assert f"  {one['name']} " in text
        assert one["source"]
    assert [one["name"] for one in document["checkpoints"]] == [entry.name for entry in ENTRIES]


@pytest.mark.parametrize("name", packaged_models())
def test_info_says_what_a_model_expects(here: InProcess, name: str) -> None:
    model = json.loads(here("models", "info", name, "--json").stdout)
    assert model["name"] == name
    assert len(model["hash"]) == 64
    assert model["licence"]
    assert model["streams"][0]["modality"] in ("rgb", "flow")
    text = here("models", "info", name).stdout
    assert f"name: {name}\n" in text
    assert f"labels: {', '.join(model['labels'])}\n" in text
    assert f"hash: {model['hash']}\n" in text


def test_an_unknown_model_is_one_line(here: InProcess, one_error: Callable[..., str]) -> None:
    finished = here("models", "info", "no-such-model")
    assert finished.returncode == 2
    one_error(finished, "no-such-model", "[unknown_model]")
    finished = here("models", "info", "gone.safetensors")
    assert finished.returncode == 2
    one_error(finished, "gone.safetensors", "[model_not_found]")


def test_fuse_writes_a_model_of_both(here: InProcess, tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", "rgb")
    write(tmp_path / "b.safetensors", "flow")
    finished = here(
        "models", "fuse", "a.safetensors", "b.safetensors", "--weights", "1,2", "-o", "both.safetensors"
    )
    assert (finished.returncode, finished.stdout) == (0, "both.safetensors\n"), finished.stderr
    streams = json.loads(here("models", "info", "both.safetensors", "--json").stdout)["streams"]
    assert [(stream["modality"], stream["weight"]) for stream in streams] == [("rgb", 1.0), ("flow", 2.0)]
    wrong = here(
        "models", "fuse", "a.safetensors", "b.safetensors", "--weights", "1,x", "-o", "c.safetensors"
    )
    assert wrong.returncode == 2
    assert "--weights 1,x" in wrong.stderr


def test_verify_compares_with_the_reference(here: InProcess, tmp_path: Path) -> None:
    fixture = Path(__file__).parents[1] / "models" / "fixtures" / "tsn_r50_mmaction2.json"
    finished = here("models", "verify", "--fixture", str(fixture))
    assert finished.returncode == 0, finished.stderr
    assert "tsn_r50_mmaction2  max |difference|" in finished.stdout
    document = json.loads(fixture.read_text())
    document["outputs"]["logits"][3] += 2e-4
    (tmp_path / "wrong.json").write_text(json.dumps(document))
    finished = here("models", "verify", "--fixture", "wrong.json")
    assert finished.returncode == 1
    assert "FAILED" in finished.stdout
    (tmp_path / "none.json").write_text("{}")
    finished = here("models", "verify", "--fixture", "none.json")
    assert finished.returncode == 2
    assert "[bad_fixture]" in finished.stderr
