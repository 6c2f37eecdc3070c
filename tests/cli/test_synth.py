"""`vpipe synth`: equal seeds give equal files, and the truth is beside them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from .inprocess import InProcess

Vpipe = Callable[..., Any]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    """Run the command in this process: quick."""
    return InProcess(tmp_path, monkeypatch, capsys)


def test_equal_seeds_give_equal_files_with_any_number_of_jobs(
    vpipe: Vpipe, here: InProcess, tmp_path: Path
) -> None:
    for run, place, jobs, seed in ((here, "a", 1, 5), (vpipe, "b", 2, 5), (here, "c", 1, 6)):
        options = f"--count 3 --size 64x48 --fps 15 --seed {seed} -j {jobs}".split()
        finished = run("synth", "clips", "-o", tmp_path / place, *options)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout == f"{tmp_path / place / 'truth.json'}\n"
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    truth = json.loads((tmp_path / "a" / "truth.json").read_text())
    assert [video["label"] for video in truth["videos"].values()] == ["static", "pan_left", "pan_right"]
    assert set(truth["videos"]) == set(contents(tmp_path / "a")) - {"truth.json"}


def test_untrimmed_truth_is_in_activitynet_form(here: InProcess, tmp_path: Path) -> None:
    options = ["--minutes", "0.3", "--size", "64x48", "--fps", "12", "--labels", "static,zoom_in,pan_left"]
    finished = here("synth", "untrimmed", "-o", tmp_path / "u", *options)
    assert finished.returncode == 0, finished.stderr
    truth = json.loads((tmp_path / "u" / "truth.json").read_text())
    ((name, video),) = truth["database"].items()
    assert (tmp_path / "u" / f"{name}.mp4").exists()
    assert video["duration"] == pytest.approx(18, abs=0.2)
    assert video["annotations"]
    for annotation in video["annotations"]:
        start, end = annotation["segment"]
        assert 0 <= start < end <= video["duration"]
        assert annotation["label"] in ("zoom_in", "pan_left")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--labels", "pan_left,dance"], "dance"),
        (["--fps", "0"], "frame rate"),
        (["--size", "big"], "--size big"),
        (["--count", "0"], "--count"),
        (["--background-from", "no-such-folder"], "no-such-folder"),
    ],
)
def test_bad_values_are_refused(
    here: InProcess, one_error: Callable[..., str], tmp_path: Path, options: list[str], said: str
) -> None:
    finished = here("synth", "clips", "-o", tmp_path / "out", *options)
    assert finished.returncode == 2
    one_error(finished, said)
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_an_unwritable_folder_is_the_machines_fault(
    here: InProcess, one_error: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    finished = here("synth", "clips", "-o", tmp_path / "file" / "below")
    assert finished.returncode == 1
    one_error(finished, "below", "[unwritable_output]")


@pytest.mark.parametrize(
    ("number", "code", "jobs"),
    [(signal.SIGTERM, 143, "1"), pytest.param(signal.SIGINT, 130, "2", marks=pytest.mark.slow)],
)
def test_an_interrupt_leaves_only_whole_videos(
    vpipe_executable: Path,
    clean_environment: dict[str, str],
    tmp_path: Path,
    number: int,
    code: int,
    jobs: str,
) -> None:
    options = ["-o", tmp_path / "out", "--count", "5000", "--size", "64x48", "-j", jobs]
    command = [vpipe_executable, "synth", "clips", *options]
    running = subprocess.Popen(
        command, env=clean_environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list((tmp_path / "out").glob("clip_*.mp4")):
        assert running.poll() is None
    if number == signal.SIGINT:
        subprocess.run(["kill", "-INT", "--", f"-{running.pid}"], check=True)  # as a terminal does
    else:
        running.send_signal(number)
    _, said = running.communicate(timeout=120)
    assert running.returncode == code
    assert "Traceback" not in said, said
    with suppress(ProcessLookupError):  # a process that worked may tidy up a little longer
        give_up = time.monotonic() + 60
        while time.monotonic() < give_up:
            os.killpg(running.pid, 0)
            time.sleep(0.05)
    assert [p for p in (tmp_path / "out").iterdir() if not p.name.startswith("clip_")] == []
