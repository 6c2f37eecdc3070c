"""Real `vpipe flow` processes that are killed, interrupted, and run at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cache.clips import contents, strays, write_moving

PAIRS = 140
ARGUMENTS = ("--fps", "native", "--short-side", "native", "--method", "farneback", "-j", "2")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shifts = [0.3 + 0.2 * (k % 5) for k in range(PAIRS)]
    return write_moving(tmp_path_factory.mktemp("moving") / "moving.mp4", shifts, size=(200, 160))


@pytest.fixture(scope="module")
def whole(vpipe_executable: Path, clip: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """The sealed file of an uninterrupted run, and how long that took."""
    cache = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    path = finish(vpipe_executable, clip, cache)["cache"]["path"]
    return Path(path), time.monotonic() - began


def start(executable: Path, clip: Path, cache: Path) -> subprocess.Popen[bytes]:
    command = [executable, "flow", clip, "--cache-dir", cache, "--json", *ARGUMENTS]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(os.environ))


def finish(executable: Path, clip: Path, cache: Path) -> dict:
    process = start(executable, clip, cache)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err.decode()
    (row,) = json.loads(out)["results"]
    return row


def kill_and_resume(
    executable: Path, clip: Path, cache: Path, whole: tuple[Path, float], kills: int, seed: int
) -> None:
    sealed, took_s = whole
    rng = random.Random(seed)
    for _ in range(kills):
        process = start(executable, clip, cache)
        time.sleep(rng.uniform(0.3, 1.0) * took_s)
        process.kill()
        process.communicate()
    row = finish(executable, clip, cache)
    assert contents(Path(row["cache"]["path"])) == contents(sealed)
    assert strays(cache) == []


@pytest.mark.parametrize("seed", range(2))
def test_killed_and_resumed(
    vpipe_executable: Path, clip: Path, whole: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    kill_and_resume(vpipe_executable, clip, tmp_path / "cache", whole, 2, seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 120))
def test_killed_and_resumed_many_times(
    vpipe_executable: Path, clip: Path, whole: tuple[Path, float], tmp_path: Path, seed: int
) -> None:
    kill_and_resume(vpipe_executable, clip, tmp_path / "cache", whole, 5, seed)


def test_what_was_finished_before_a_kill_is_not_repeated(
    vpipe_executable: Path, clip: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    process = start(vpipe_executable, clip, cache)
    while not list(cache.rglob("*.part")) and process.poll() is None:
        time.sleep(0.005)
    process.kill()
    process.communicate()
    row = finish(vpipe_executable, clip, cache)
    assert row["cache"]["reused"] >= 64
    assert row["cache"]["computed"] + row["cache"]["reused"] == PAIRS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_keeps_what_is_done(
    vpipe_executable: Path, clip: Path, whole: tuple[Path, float], tmp_path: Path, number: int
) -> None:
    cache = tmp_path / "cache"
    process = start(vpipe_executable, clip, cache)
    while not list(cache.rglob("*.part")) and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, 143, 0)  # 0: it was done before the signal came
    assert b"Traceback" not in err
    assert not list(cache.rglob("claim-*"))
    assert not list(cache.rglob("*.tmp"))
    assert contents(Path(finish(vpipe_executable, clip, cache)["cache"]["path"])) == contents(whole[0])


def test_two_at_once_compute_every_pair_once(
    vpipe_executable: Path, clip: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    processes = [start(vpipe_executable, clip, cache) for _ in range(2)]
    rows = []
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err.decode()
        rows.append(json.loads(out)["results"][0]["cache"])
    assert sum(row["computed"] for row in rows) == PAIRS
    assert rows[0]["path"] == rows[1]["path"]
    assert contents(Path(rows[0]["path"])) == contents(whole[0])
    assert strays(cache) == []
