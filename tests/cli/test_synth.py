"""`vpipe synth`: equal seeds give equal files, and the truth is beside them."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Vpipe = Callable[..., Any]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_seeds_give_equal_files_with_any_number_of_jobs(vpipe: Vpipe, tmp_path: Path) -> None:
    for place, jobs, seed in (("a", "1", "5"), ("b", "2", "5"), ("c", "2", "6")):
        options = ["--count", "3", "--size", "64x48", "--fps", "15", "--seed", seed, "-j", jobs]
        finished = vpipe("synth", "clips", "-o", tmp_path / place, *options)
        assert finished.returncode == 0, finished.stderr
        assert finished.stdout == f"{tmp_path / place / 'truth.json'}\n"
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert contents(tmp_path / "a") != contents(tmp_path / "c")
    truth = json.loads((tmp_path / "a" / "truth.json").read_text())
    assert [video["label"] for video in truth["videos"].values()] == ["static", "pan_left", "pan_right"]
    assert set(truth["videos"]) == set(contents(tmp_path / "a")) - {"truth.json"}


def test_untrimmed_truth_is_in_activitynet_form(vpipe: Vpipe, tmp_path: Path) -> None:
    options = ["--minutes", "0.3", "--size", "64x48", "--fps", "12", "--labels", "static,zoom_in,pan_left"]
    finished = vpipe("synth", "untrimmed", "-o", tmp_path / "u", *options)
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
    vpipe: Vpipe, one_error: Callable[..., str], tmp_path: Path, options: list[str], said: str
) -> None:
    finished = vpipe("synth", "clips", "-o", tmp_path / "out", *options)
    assert finished.returncode == 2
    one_error(finished, said)
    assert not list((tmp_path / "out").glob("*.mp4"))


def test_an_unwritable_folder_is_the_machines_fault(
    vpipe: Vpipe, one_error: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    finished = vpipe("synth", "clips", "-o", tmp_path / "file" / "below")
    assert finished.returncode == 1
    one_error(finished, "below", "[unwritable_output]")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_is_quick_and_leaves_only_whole_videos(
    vpipe_executable: Path, clean_environment: dict[str, str], tmp_path: Path, number: int, code: int
) -> None:
    command = [vpipe_executable, "synth", "clips", "-o", tmp_path / "out", "--count", "5000", "-j", "2"]
    running = subprocess.Popen(
        command, env=clean_environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    while not list((tmp_path / "out").glob("clip_*.mp4")):
        assert running.poll() is None
    if number == signal.SIGINT:
        subprocess.run(["kill", "-INT", "--", f"-{running.pid}"], check=True)  # as a terminal does
    else:
        running.send_signal(number)
    _, said = running.communicate(timeout=30)
    assert running.returncode == code
    assert "Traceback" not in said, said
    assert [p for p in (tmp_path / "out").iterdir() if not p.name.startswith("clip_")] == []
