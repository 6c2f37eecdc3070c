"""`vpipe train` and the loop: learning happens, a run that was stopped goes on as if it had not been."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vpipe.errors import UsageError, VpipeError
from vpipe.models import load_model
from vpipe.training.loop import NORMALISATION, train
from vpipe.training.recipe import Recipe

RECIPE = Recipe(
    "toy",
    "rgb",
    "tsm-diff",
    clips=400,
    batch=8,
    size=16,
    learning_rate=5e-3,
    precision="float32",
    frames=4,
    hyper={"widths": [8, 8, 16]},
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Operators this small spend their time waiting for each other's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Moving:
    """Two classes: a bright bar that goes left or right."""

    def __init__(self, recipe: Recipe, poison: int = -1) -> None:
        self.recipe, self.poison = recipe, poison

    def __len__(self) -> int:
        return -(-self.recipe.clips // self.recipe.batch)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([1, number])
        n, t, side = self.recipe.batch, self.recipe.frames, self.recipe.size
        clips = np.zeros((n, t, side, side, 3), np.uint8)
        targets = np.zeros((n, 2), np.float32)
        for i in range(n):
            way, at = int(rng.integers(2)), int(rng.integers(side))
            for k in range(t):
                clips[i, k, :, (at + k * (2 * way - 1)) % side] = 255
            targets[i, way] = np.nan if number == self.poison else 1
        return clips, targets


def rows(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_learns_direction_and_logs_it(tmp_path: Path) -> None:
    network, steps, finished = train(RECIPE, Moving(RECIPE), 2, tmp_path, workers=0)
    assert (steps, finished) == (50, True)
    assert not network.training
    log = rows(tmp_path)
    assert [row["step"] for row in log] == [50]
    clips, targets = (torch.from_numpy(part) for part in Moving(RECIPE)[1000])
    with torch.inference_mode():
        right = network(NORMALISATION["rgb"].apply(clips)).argmax(1) == targets.argmax(1)
    assert right.float().mean() > 0.9


def test_resumed_equals_uninterrupted(tmp_path: Path) -> None:
    class Stopping(Moving):
        def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
            if number == 30:
                raise KeyboardInterrupt
            return super().__getitem__(number)

    whole, _, _ = train(RECIPE, Moving(RECIPE), 2, tmp_path / "whole", workers=0)
    _, steps, finished = train(RECIPE, Stopping(RECIPE), 2, tmp_path / "cut", workers=0)
    assert (steps, finished) == (30, False)
    resumed, steps, finished = train(RECIPE, Moving(RECIPE), 2, tmp_path / "cut", workers=0, resume=True)
    assert (steps, finished) == (50, True)
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_another_recipe_does_not_resume(tmp_path: Path) -> None:
    train(replace(RECIPE, clips=16), Moving(replace(RECIPE, clips=16)), 2, tmp_path, workers=0)
    with pytest.raises(UsageError, match="another recipe"):
        train(RECIPE, Moving(RECIPE), 2, tmp_path, workers=0, resume=True)
    (tmp_path / "checkpoint.pt").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="not a usable checkpoint"):
        train(RECIPE, Moving(RECIPE), 2, tmp_path, workers=0, resume=True)


def test_a_loss_that_is_not_finite_stops_and_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(VpipeError, match="not finite at step 7"):
        train(RECIPE, Moving(RECIPE, poison=7), 2, tmp_path, workers=0)


TINY = """
name = "tiny"
modality = "rgb"
architecture = "tsm-diff"
clips = 64
batch = 4
size = 32
precision = "float32"
[hyper]
widths = [8, 8, 16]
"""


def vpipe_train(folder: Path, *more: str) -> list[str]:
    (folder / "r.toml").write_text(TINY)
    return [
        sys.executable,
        "-m",
        "vpipe",
        "train",
        "--recipe",
        "r.toml",
        "-o",
        "m.safetensors",
        "-j",
        "1",
        *more,
    ]


def test_command_writes_a_model_that_loads(tmp_path: Path) -> None:
    done = subprocess.run(vpipe_train(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "m.safetensors\n"), done.stderr
    model = load_model(tmp_path / "m.safetensors")
    assert (model.name, len(model.labels), model.background) == ("tiny", 13, "static")
    again = subprocess.run(vpipe_train(tmp_path), cwd=tmp_path, capture_output=True, text=True, check=False)
    assert again.returncode == 2
    assert "exists already" in again.stderr


@pytest.mark.slow
def test_ctrl_c_leaves_a_usable_file_and_resume_goes_on(tmp_path: Path) -> None:
    command = vpipe_train(tmp_path, "--clips", "100000")
    running = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    log = tmp_path / "m.safetensors.run" / "log.jsonl"
    give_up = time.monotonic() + 300
    while not (log.exists() and log.read_text()) and time.monotonic() < give_up:
        time.sleep(0.2)
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130, errors
    assert "--resume" in errors
    assert "Traceback" not in errors
    load_model(tmp_path / "m.safetensors")
    step = torch.load(tmp_path / "m.safetensors.run" / "checkpoint.pt", weights_only=True)["step"]
    assert step >= 50
