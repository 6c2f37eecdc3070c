"""The recipes of the literature: each names its source, fits its network, and runs on generated data."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.training.own_videos import write_folders
from vpipe.models import load_model
from vpipe.models.registry import build
from vpipe.training.clip_store import ClipStore
from vpipe.training.labelled import read_labelled
from vpipe.training.learning import learn
from vpipe.training.recipe import PACKAGED_RECIPES, load_recipe
from vpipe.training.starting import specs_of

LITERATURE = sorted(p.stem for p in PACKAGED_RECIPES.glob("*.toml") if "[sampling]" in p.read_text())


def test_every_network_and_data_set_is_there() -> None:
    networks = {name.split("-")[0] for name in LITERATURE}
    sets = {name.split("-")[1] for name in LITERATURE}
    assert networks == {"tsn", "tsm", "tea", "tdn", "tanet"}
    assert sets == {"kinetics", "something", "ucf101"}


@pytest.mark.parametrize("name", LITERATURE)
def test_a_recipe_names_its_source_and_fits_its_network(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert "arXiv" in recipe.source
    assert "github.com" in recipe.source
    assert recipe.flip == ("something" not in name)
    assert len(recipe.milestones) in (2, 3)
    (spec,) = specs_of(recipe, None, 5)
    assert spec.convention is not None
    with torch.device("meta"):
        network = build(spec.architecture, spec.hyper)
        assert network(torch.zeros(2, spec.frames, 3, 64, 64)).shape == (2, 5)
    table = tomllib.loads((PACKAGED_RECIPES / f"{name}.toml").read_text())
    assert table["sampling"]["segments"] == table["hyper"]["segments"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("labels"), 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", LITERATURE)
def test_a_recipe_runs_a_few_steps(name: str, folders: Path, tmp_path: Path) -> None:
    """The whole network, its sampling, schedule and optimiser; smaller pictures and batches."""
    recipe = load_recipe(name)
    small = replace(
        recipe, batch=2, epochs=1, size=64, sampling={**recipe.sampling, "scale": [72]}, precision="float32"
    )
    data = read_labelled(folders, lambda folder: sorted(folder.rglob("*.mp4")))
    output = tmp_path / "m.safetensors"
    rows = []
    learnt = learn(
        data,
        small,
        output,
        init=None,
        store=ClipStore(tmp_path / "cache"),
        jobs=1,
        said=lambda stage, facts: rows.append(facts) if stage == "train" else None,
    )
    assert learnt.finished
    assert rows[-1]["step"] == rows[-1]["steps"] == 2
    assert 0 < rows[-1]["loss"] < 20
    model = load_model(output)
    assert model.labels == ["left", "right"]
    assert model.streams[0].convention == specs_of(small, None, 2)[0].convention
