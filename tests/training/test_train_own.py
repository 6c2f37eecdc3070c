"""`vpipe train DATA` from end to end, on videos small enough for an ordinary test."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.cli.inprocess import InProcess
from tests.cli.small_models import write_model
from tests.models.test_initial import image_network
from tests.training.own_videos import FPS, SIZE, bar_frames, write_folders, write_video
from vpipe.models import load_model
from vpipe.models.convention import Convention
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


def test_where_nothing_is_usable_the_first_fault_is_said(run: InProcess, tmp_path: Path) -> None:
    for label in "xy":
        (tmp_path / "bad" / label).mkdir(parents=True)
        (tmp_path / "bad" / label / f"{label}.mp4").write_bytes(b"no video" * 200)
    done = run(*words("bad"))
    assert done.returncode == 2
    assert (
        "found: none; 2 videos cannot be used, the first: bad/x/x.mp4: is not a readable video" in done.stderr
    )
    (tmp_path / "gone.csv").write_text("a.mp4,x\nb.mp4,y\n")
    assert "the first: a.mp4: no such video, but gone.csv names it" in run(*words("gone.csv")).stderr


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


def write_published(path: Path) -> Convention:
    """An untrained TSM of 32 px with a published convention, as `vpipe models import` writes them."""
    torch.manual_seed(0)
    hyper = {"classes": 3, "segments": 4, "blocks": [1, 1, 1, 1], "width": 8, "bottleneck": False}
    convention = Convention("segments", segments=4, scale=(36,), average="logits", order="bgr")
    spec = StreamSpec(
        "tsm",
        hyper,
        "rgb",
        4,
        Fraction(30),
        (32, 32),
        (0.4, 0.45, 0.5),
        (0.2,) * 3,
        resize="published",
        convention=convention,
    )
    header = ModelHeader("published", ("a", "b", "c"), None, "untrained", "none")
    write_weights(path, header, [(spec, build("tsm", hyper).state_dict())], half=False)
    return convention


def test_an_imported_model_keeps_its_convention(run: InProcess, folders: Path, tmp_path: Path) -> None:
    convention = write_published(tmp_path / "published.safetensors")
    done = run(*words(folders, "--init", "published.safetensors", "--clips", 160, "--json"))
    assert done.returncode == 0, done.stderr
    (stream,) = load_model(tmp_path / "my.safetensors").streams
    assert stream.convention == convention
    assert (stream.size, stream.mean, stream.resize) == ((32, 32), (0.4, 0.45, 0.5), "published")
    found = json.loads(run("classify", folders, "--model", "my.safetensors", "--json").stdout)
    # What training says of its held-out videos is what `classify` says of them.
    validation = json.loads(done.stdout)["results"][0]["validation"]
    named = sum(row["labels"][0]["label"] == Path(row["input"]).parent.name for row in found["results"])
    right = sum(validation["confusion"][label][label] for label in ("left", "right"))
    assert len(found["results"]) == 16
    assert named >= right
    other = run(*words(folders, "--init", "start.safetensors", "--clips", 160, "--overwrite", "--resume"))
    assert other.returncode == 2
    assert "another recipe or from other data" in other.stderr


@pytest.mark.slow
def test_both_streams_of_a_two_stream_model_are_trained(
    run: InProcess, folders: Path, tmp_path: Path
) -> None:
    write_model(tmp_path / "two.safetensors", "rgb", "flow")
    done = run(*words(folders, "--init", "two.safetensors", "--clips", 64, "--json"))
    assert done.returncode == 0, done.stderr
    model = load_model(tmp_path / "my.safetensors")
    assert [stream.modality for stream in model.streams] == ["rgb", "flow"]
    assert model.labels == ["left", "right"]
    before = load_model(tmp_path / "two.safetensors")
    for old, new in zip(before.streams, model.streams, strict=True):
        assert old.spec.flow_params == new.spec.flow_params
        assert not torch.equal(
            old.network.state_dict()["backbone.0.0.weight"], new.network.state_dict()["backbone.0.0.weight"]
        )
    assert json.loads(done.stdout)["results"][0]["validation"]["pieces"] == 4
    again = run("classify", folders / "left", "--model", "my.safetensors", "--json")
    assert again.returncode == 0, again.stderr


@pytest.mark.slow
def test_training_starts_from_weights_of_imagenet(run: InProcess, folders: Path, tmp_path: Path) -> None:
    image_network(tmp_path / "resnet.pth", bottleneck=False)
    begun = run(
        "models", "import", "resnet.pth", "--as-init", "tsm", "--segments", 2, "-o", "tsm.safetensors"
    )
    assert begun.returncode == 0, begun.stderr
    refused = run("classify", folders / "left", "--model", "tsm.safetensors")
    assert refused.returncode != 0
    assert "only_initial" in refused.stderr
    done = run(
        "train",
        folders,
        "--init",
        "tsm.safetensors",
        "-o",
        "my.safetensors",
        "--clips",
        32,
        "-j",
        1,
        "--json",
    )
    assert done.returncode == 0, done.stderr
    before, after = (load_model(tmp_path / f"{name}.safetensors") for name in ("tsm", "my"))
    first = "backbone.conv1.conv.weight"
    ours, theirs = (model.streams[0].network.state_dict()[first] for model in (after, before))
    assert not torch.equal(ours, theirs)
    assert torch.cosine_similarity(ours.flatten(), theirs.flatten(), 0) > 0.9  # trained on from there
    assert after.streams[0].network.fc.out_features == 2
    found = json.loads(
        run("classify", folders / "left" / "0.mp4", "--model", "my.safetensors", "--json").stdout
    )
    assert {label["label"] for label in found["results"][0]["labels"]} == {"left", "right"}


def torchrun(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """`torchrun -m vpipe.cli.main ARGUMENTS` with two processes, in `folder`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TORCHELASTIC_", "RANK", "WORLD_SIZE"))}
    run = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    return subprocess.run(
        [*run, "-m", "vpipe.cli.main", *map(str, arguments)],
        cwd=folder,
        env=kept | {"VPIPE_CACHE_DIR": str(folder / "cache"), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.slow
def test_two_processes_train_and_one_reports(folders: Path, start: Path, tmp_path: Path) -> None:
    shutil.copy(start, tmp_path / "start.safetensors")
    (tmp_path / "r.toml").write_text(RECIPE + "sync_bn = true\n")
    data = tmp_path / "data"
    shutil.copytree(folders, data)
    (data / "left" / "broken.mp4").write_bytes(b"no video")
    done = torchrun(tmp_path, *words(data, "--batch", 4, "--json"))
    document = json.loads(done.stdout)  # of one process
    (row,) = document["results"]
    assert [Path(failure["input"]).name for failure in document["failures"]] == ["broken.mp4"]
    assert row["clips"] >= 320
    assert row["validation"]["accuracy"] > 70
    assert load_model(tmp_path / "my.safetensors").labels == ["left", "right"]
    log = [json.loads(line) for line in (tmp_path / "my.safetensors.run/log.jsonl").read_text().splitlines()]
    assert log[-1]["step"] == 41  # 27 epochs of 12 pieces, 8 clips a step
    twice = torchrun(tmp_path, *words(data))
    assert twice.stderr.count("exists already") == 1


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_learnt_and_resume_ends_as_if_nothing_had_been(
    run: InProcess, folders: Path, tmp_path: Path
) -> None:
    assert run(*words(folders, "--epochs", 200)).returncode == 0
    whole = (tmp_path / "my.safetensors").read_bytes()
    arguments = [*words(folders, "--epochs", 200, "--checkpoint-every", 0), "--overwrite"]
    running = subprocess.Popen(
        [sys.executable, "-m", "vpipe", *map(str, arguments)],
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    log = tmp_path / "my.safetensors.run" / "log.jsonl"
    log.unlink()
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up and not (log.exists() and len(log.read_text().splitlines()) > 2):
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    said, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    assert said.splitlines()[-1] == "my.safetensors"
    assert (tmp_path / "my.safetensors").read_bytes() != whole
    assert load_model(tmp_path / "my.safetensors").labels == ["left", "right"]
    assert run(*words(folders, "--epochs", 200, "--resume")).returncode == 0
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == sorted(set(steps))
    assert (tmp_path / "my.safetensors").read_bytes() == whole
