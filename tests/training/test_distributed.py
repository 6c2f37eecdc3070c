"""Two ranks over gloo: the numbers of one rank with twice the batch, and what happens when one is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import CHECKOUT
from tests.training.ranks import STEPS, Single, recipe_for
from vpipe.errors import UsageError
from vpipe.training.distributed import Job, synced
from vpipe.training.loop import train

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]


def environment() -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TORCHELASTIC_", "RANK", "WORLD_SIZE"))}
    return kept | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(CHECKOUT)}


def start(kind: str, folder: Path, *options: str, resume: bool = False) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *TORCHRUN,
            *options,
            "-m",
            "tests.training.ranks",
            kind,
            str(folder),
            *(["--resume"] if resume else []),
        ],
        cwd=CHECKOUT,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def rows(folder: Path) -> list[dict]:
    path = folder / "run" / "log.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def losses(folder: Path) -> np.ndarray:
    return np.array([row["loss"] for row in rows(folder)])


def of_one_rank(kind: str, folder: Path) -> np.ndarray:
    recipe = recipe_for(kind, 8)
    train(recipe, Single(recipe), 2, folder / "run", workers=0, job=Job(), log_every=1)
    return losses(folder)


def both(kind: str, tmp_path: Path) -> tuple[np.ndarray, np.ndarray]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    (tmp_path / "two").mkdir()
    running = start(kind, tmp_path / "two")
    one = of_one_rank(kind, tmp_path / "one")
    torch.set_num_threads(threads)
    said, _ = running.communicate(timeout=120)
    assert running.returncode == 0, said
    return one, losses(tmp_path / "two")


def test_two_ranks_are_one_with_twice_the_batch(tmp_path: Path) -> None:
    one, two = both("frozen", tmp_path)
    assert len(one) == len(two) == STEPS
    assert np.abs(one - two).max() < 1e-5
    assert one[0] - one[-1] > 0.05  # it learns: equal losses are no accident of standing still


@pytest.mark.slow
def test_synchronised_batch_norm_sees_the_whole_batch(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    one, two = both("synced", tmp_path / "s")
    # Then the rounding of float32 grows: the optimiser divides small gradients by their own size.
    assert np.abs(one - two)[:6].max() < 5e-5
    (tmp_path / "p").mkdir()
    one, two = both("plain", tmp_path / "p")
    assert np.abs(one - two)[:6].max() > 1e-3


def test_synchronised_batch_norm_of_one_rank_is_the_plain_one() -> None:
    torch.manual_seed(0)
    plain = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4), torch.nn.BatchNorm2d(4))
    plain[2].eval()
    other = synced(torch.nn.Sequential(*list(plain)))
    assert list(other.state_dict()) == list(plain.state_dict())
    assert type(other[2]) is torch.nn.BatchNorm2d  # frozen: nothing to synchronise
    x = torch.randn(2, 3, 5, 5)
    assert torch.equal(other(x), plain(x))


def kill_one(running: subprocess.Popen[str], folder: Path, after: int) -> None:
    """SIGKILL for rank 1 once `after` steps are logged and a checkpoint is there."""
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up and running.poll() is None:
        if len(rows(folder)) >= after and (folder / "run" / "checkpoint.pt").is_file():
            break
        time.sleep(0.05)
    os.kill(int((folder / "pid-1").read_text()), signal.SIGKILL)


@pytest.mark.slow
def test_a_killed_rank_ends_the_run_and_the_checkpoint_resumes(tmp_path: Path) -> None:
    running = start("slow", tmp_path)
    kill_one(running, tmp_path, 10)
    said, _ = running.communicate(timeout=120)
    assert running.returncode not in (0, None)
    assert "another process of this run has ended" in said or "SIGKILL" in said or "Signal 9" in said, said
    steps = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)["step"]
    assert 0 < steps < 200
    again = start("slow", tmp_path, resume=True)
    said, _ = again.communicate(timeout=180)
    assert again.returncode == 0, said
    seen = [row["step"] for row in rows(tmp_path)]
    assert seen == list(range(1, 201))


@pytest.mark.slow
def test_torchrun_starts_the_run_again_by_itself(tmp_path: Path) -> None:
    """Rank 1 of the second attempt asks first where rank 0 is: before that one has said so."""
    running = start("late", tmp_path, "--max-restarts", "1")
    kill_one(running, tmp_path, 10)
    said, _ = running.communicate(timeout=180)
    assert running.returncode == 0, said
    assert [row["step"] for row in rows(tmp_path)] == list(range(1, 201))


def test_who_this_process_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert Job.from_environment() == Job()
    values = {
        "TORCHELASTIC_RUN_ID": "x",
        "RANK": "3",
        "WORLD_SIZE": "4",
        "LOCAL_RANK": "1",
        "LOCAL_WORLD_SIZE": "2",
        "TORCHELASTIC_RESTART_COUNT": "1",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    job = Job.from_environment()
    assert (job.rank, job.world, job.local_rank, job.restarts, job.first) == (3, 4, 1, 1, False)
    assert job.device("auto", "cpu") == "cpu"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert job.device("auto", "cuda:0") == "cuda:1"
    with pytest.raises(UsageError, match="say cuda"):
        job.device("cuda:0", "cuda:0")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(UsageError, match="--nproc-per-node 1"):
        job.device("cuda", "cuda:0")
