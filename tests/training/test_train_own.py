"""`vpipe train DATA` from end to end, on videos small enough for an ordinary test."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.inprocess import InProcess
from tests.training.own_videos import FPS, SIZE, bar_frames, write_folders, write_video
from vpipe.models import load_model
from vpipe.models.registry import build
from vpipe.models.weights import ModelHeader, StreamSpec, write_weights
from vpipe.training.preparing import Preparer

HYPER = {"frames": 4, "widths": [8, 8, 16], "dropout": 0.0}
RECIPE = """
name = "small"
init = "start.safetensors"
clips = 320
batch = 8
learning_rate = 5e-3
precision = "float32"
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained network of 48x32 px and half a second, as a weight file."""
    path = tmp_path_factory.mktemp("model") / "start.safetensors"
    torch.manual_seed(0)
    hyper = {"classes": 3, **HYPER}
    spec = StreamSpec("tsm-diff", hyper, "rgb", 4, Fraction(8), SIZE, (0.45,) * 3, (0.25,) * 3)
    header = ModelHeader("start", ("a", "b", "c"), None, "untrained", "none")
    write_weights(path, header, [(spec, build("tsm-diff", hyper).state_dict())])
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folders(tmp_path_factory.mktemp("labels"), 8)


@pytest.fixture
def run(
    tmp_path: Path, start: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> InProcess:
    shutil.copy(start, tmp_path / "start.safetensors")
    (tmp_path / "r.toml").write_text(RECIPE)
    return InProcess(tmp_path, monkeypatch, capsys)


def words(data: object, *more: object) -> list[object]:
    return ["train", data, "-o", "my.safetensors", "--recipe", "r.toml", "-j", 1, *more]


def test_labels_in_folders_are_learnt(run: InProcess, folders: Path, tmp_path: Path) -> None:
    done = run(*words(folders))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "my.safetensors"
    assert "accuracy 100.0 %" in done.stdout
    assert "always 'left': 50.0 %" in done.stdout
    assert "clips/s" in done.stderr
    model = load_model(tmp_path / "my.safetensors")
    assert (model.name, model.labels, model.background) == ("my", ["left", "right"], None)
    unseen = write_folders(tmp_path / "unseen", 2, seed=9)
    found = json.loads(run("classify", unseen, "--model", "my.safetensors", "--json").stdout)
    for row in found["results"]:
        assert row["labels"][0]["label"] == Path(row["input"]).parent.name
    again = run(*words(folders))
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_equal_seeds_give_equal_bytes_and_no_video_is_decoded_twice(
    run: InProcess, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(*words(folders, "--clips", 64, "--json"))
    document = json.loads(first.stdout)
    assert document["schema"] == "vpipe.train/1"
    (row,) = document["results"]
    assert (row["status"], row["videos"], row["training_pieces"]) == ("ok", 16, 12)
    assert row["validation"]["pieces"] == 4
    one = (tmp_path / "my.safetensors").read_bytes()
    monkeypatch.setattr(Preparer, "_contents", lambda *_: pytest.fail("decoded again"))
    second = run(*words(folders, "--clips", 64, "--json", "--overwrite"))
    assert second.stdout == first.stdout
    assert (tmp_path / "my.safetensors").read_bytes() == one
    run(*words(folders, "--clips", 64, "--overwrite", "--seed", 5))
    assert (tmp_path / "my.safetensors").read_bytes() != one


def test_a_bad_video_is_named_and_stops_nothing(run: InProcess, folders: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(folders, data)
    (data / "left" / "broken.mp4").write_bytes(b"no video")
    shutil.copy(data / "right" / "0.mp4", data / "right" / "copy.mp4")
    done = run(*words(data, "--clips", 32, "--json", "--failures", "failed.jsonl"))
    assert done.returncode == 3
    document = json.loads(done.stdout)
    assert [Path(row["input"]).name for row in document["failures"]] == ["broken.mp4"]
    assert "duplicate_videos" in [w["code"] for w in document["results"][0]["warnings"]]
    assert "broken.mp4" in (tmp_path / "failed.jsonl").read_text()
    assert "broken.mp4" in done.stderr


def test_segments_teach_background_and_detect_takes_the_file(run: InProcess, tmp_path: Path) -> None:
    """Ten videos: still, moving left or right for two seconds, still."""
    rows = ["path,label,start_s,end_s"]
    for number in range(10):
        rng = np.random.default_rng([3, number])
        way, label = ((-1, "left"), (1, "right"))[number % 2]
        parts = [bar_frames(w, 2 * FPS, rng) for w in (0, way, 0)]
        write_video(tmp_path / f"{number}.mp4", [frame for part in parts for frame in part])
        rows.append(f"{number}.mp4,{label},2,4")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    done = run(*words("labels.csv", "--clips", 960))
    assert done.returncode == 0, done.stderr
    model = load_model(tmp_path / "my.safetensors")
    assert (model.labels, model.background) == (["left", "right", "background"], "background")
    (tmp_path / "new").mkdir()
    rng = np.random.default_rng(77)
    moving = [bar_frames(w, 2 * FPS, rng) for w in (0, 1, 0)]
    write_video(tmp_path / "new" / "n.mp4", [frame for part in moving for frame in part])
    detected = run("detect", "new", "--model", "my.safetensors", "--json")
    assert detected.returncode == 0, detected.stderr
    found = json.loads(detected.stdout)
    best = max(found["results"][0]["segments"], key=lambda s: s["score"])
    assert best["label"] == "right"
    assert abs(best["start_s"] - 2) < 0.5
    assert abs(best["end_s"] - 4) < 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "no such file or folder"),
        (["empty"], "no folder for a label"),
        (["r.toml"], ".csv file"),
    ],
)
def test_what_is_no_data(run: InProcess, tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "empty").mkdir()
    done = run(*words(*arguments))
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "my.safetensors").exists()


def test_neither_data_nor_recipe(run: InProcess) -> None:
    done = run("train", "-o", "my.safetensors")
    assert (done.returncode, done.stdout) == (2, "")
    assert "give DATA" in done.stderr


def test_a_loss_that_is_not_finite_names_the_videos(run: InProcess, folders: Path, tmp_path: Path) -> None:
    model = load_model(tmp_path / "start.safetensors")
    state = model.streams[0].network.state_dict()
    state["backbone.0.0.weight"] = torch.full_like(state["backbone.0.0.weight"], 3e4)
    state["backbone.0.1.weight"] = torch.full_like(state["backbone.0.1.weight"], 6e4)
    for key in list(state):
        if key.endswith(("bn1.weight", "bn2.weight")):
            state[key] = torch.full_like(state[key], 6e4)
    spec = model.streams[0].spec
    write_weights(tmp_path / "start.safetensors", model.header, [(spec, state)], half=False)
    (tmp_path / "r.toml").write_text(RECIPE.replace("5e-3", "1e30"))
    done = run(*words(folders, "--clips", 160))
    assert done.returncode == 1
    assert "not finite at step" in done.stderr
    assert ".mp4 (" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "my.safetensors").exists()
