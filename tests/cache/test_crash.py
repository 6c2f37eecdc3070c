"""Real `vpipe flow` and `vpipe cache pack` processes that are killed and interrupted."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.cache.clips import DIS, contents, strays, write_moving
from vpipe.cache import FlowCache, entry
from vpipe.cache.entry import _PART_EVERY_S
from vpipe.cache.parts import list_parts
from vpipe.cache.sealed import SealedFile

PAIRS = 140
ARGUMENTS = ("--fps", "native", "--short-side", "native", "--method", "farneback", "-j", "2")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shifts = [0.5 + 1.7 * (k % 6) for k in range(PAIRS)]
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


def kill_often(
    executable: Path, clip: Path, folder: Path, whole: tuple[Path, float], kills: int, seeds: Iterable[int]
) -> None:
    """`kill_and_resume` for each seed, two at once."""
    with ThreadPoolExecutor(2) as pool:
        runs = [
            pool.submit(kill_and_resume, executable, clip, folder / str(seed), whole, kills, seed)
            for seed in seeds
        ]
        for run in runs:
            run.result()


def test_killed_twenty_times_and_resumed(
    vpipe_executable: Path, clip: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    kill_often(vpipe_executable, clip, tmp_path, whole, 5, range(4))


@pytest.mark.slow
def test_killed_a_hundred_times_and_resumed(
    vpipe_executable: Path, clip: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    kill_often(vpipe_executable, clip, tmp_path, whole, 2, range(100, 150))


def kill_packing(executable: Path, sealed: Path, cache: Path, kills: int, seed: int) -> None:
    """Kill `vpipe cache pack`: whatever is there reads as before, and the next run leaves no strays."""
    target = cache / sealed.relative_to(sealed.parents[2])
    flows = SealedFile(sealed).read(range(PAIRS))
    rng = random.Random(seed)
    for _ in range(kills):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(sealed, target)
        command = [executable, "cache", "pack", "--cache-dir", cache]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        deadline = time.monotonic() + rng.uniform(0, 0.6)
        while not target.with_name(target.name.replace(".flow.h5", ".work")).exists():
            if process.poll() is not None:
                break
            time.sleep(0.002)
            deadline = time.monotonic() + rng.uniform(0, 0.5)
        time.sleep(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.communicate()
        assert np.array_equal(SealedFile(target).read(range(PAIRS)), flows)
    subprocess.run([executable, "cache", "pack", "--cache-dir", cache], check=True, capture_output=True)
    assert SealedFile(target).index.packed
    assert np.array_equal(SealedFile(target).read(range(PAIRS)), flows)
    assert strays(cache) == []


def test_killed_while_packing(vpipe_executable: Path, whole: tuple[Path, float], tmp_path: Path) -> None:
    kill_packing(vpipe_executable, whole[0], tmp_path, 3, 0)


@pytest.mark.slow
def test_killed_while_packing_many_times(
    vpipe_executable: Path, whole: tuple[Path, float], tmp_path: Path
) -> None:
    kill_packing(vpipe_executable, whole[0], tmp_path, 30, 1)


def test_slow_pairs_are_written_one_by_one(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a kill can cost is 15 s and the pairs in work, however long a pair takes."""
    monkeypatch.setattr(entry, "_PART_EVERY_S", 0.0)
    found = FlowCache(tmp_path).entry(clip, DIS)
    seen: list[int] = []
    found.ensure([1, 2, 3, 4], jobs=1, progress=lambda done, _: seen.append(len(list_parts(found.slot.work))))
    assert seen == [1, 2, 3, 4]
    assert 0 < _PART_EVERY_S <= 30


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
