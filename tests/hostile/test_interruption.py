"""Ctrl-C, SIGTERM and SIGKILL in the middle of real work: a summary soon, and nothing lost that was done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ENDS_WITHIN_S = 2.0
BUSY_S = 1.0  # what a busy machine may add
COUNT = 60


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory, make_clip: Callable[..., Path]) -> Path:
    """A minute of work for one core."""
    folder = tmp_path_factory.mktemp("many")
    clip = make_clip(folder / "clip0.mp4", frames=150, size=(320, 240), seed=1)
    for number in range(1, COUNT):
        # Other bytes, so that no two share a cache entry.
        (folder / f"clip{number}.mp4").write_bytes(clip.read_bytes() + b"\0\0\0\x0cfree%04d" % number)
    return folder


@contextmanager
def started(
    executable: Path, environment: dict[str, str], *arguments: str | Path
) -> Iterator[subprocess.Popen[str]]:
    """A command that has printed its first row."""
    process = subprocess.Popen(
        [executable, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def rows_and_notes(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    out, err = process.communicate(timeout=30)
    return out.splitlines(), err


FLOW = ("flow", "--method", "dis", "--jsonl")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_ends_it_with_a_summary(
    vpipe_executable: Path,
    clean_environment: dict[str, str],
    videos: Path,
    number: signal.Signals,
    code: int,
) -> None:
    with started(vpipe_executable, clean_environment, *FLOW, videos) as process:
        begin = time.monotonic()
        os.killpg(process.pid, number)
        rows, said = rows_and_notes(process)
        assert time.monotonic() - begin < ENDS_WITHIN_S + BUSY_S
        assert process.returncode == code
    assert all(json.loads(row)["status"] == "ok" for row in rows)
    summary = re.search(r"interrupted: (\d+) done, 0 failed, (\d+) not tried; run the same again", said)
    assert summary, said
    assert int(summary[1]) >= 1 + len(rows)  # some may lie in the reader's buffer
    assert int(summary[1]) + int(summary[2]) == COUNT
    assert "Traceback" not in said
    again = subprocess.run(
        [vpipe_executable, *FLOW, videos / "clip0.mp4"], env=clean_environment, capture_output=True, text=True
    )
    assert json.loads(again.stdout)["cache"]["computed"] == 0


def test_two_signals_end_it_at_once(
    vpipe_executable: Path, clean_environment: dict[str, str], videos: Path
) -> None:
    with started(vpipe_executable, clean_environment, *FLOW, videos) as process:
        begin = time.monotonic()
        os.killpg(process.pid, signal.SIGINT)
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(10)
        assert time.monotonic() - begin < BUSY_S
        assert process.returncode in (130, 143)


def test_what_does_not_listen_is_ended_all_the_same(
    vpipe_executable: Path, clean_environment: dict[str, str], tmp_path: Path
) -> None:
    """The main thread in native code that keeps it: a Python handler never runs."""
    code = (
        "import ctypes, sys; from vpipe.cli import interrupt; interrupt.watch();"
        "interrupt.before_the_end(lambda: print('summary', flush=True)); print('ready', flush=True);"
        "mutex = (ctypes.c_char * 64)(); ctypes.CDLL(None).pthread_mutex_lock(mutex);"
        "ctypes.CDLL(None).pthread_mutex_lock(mutex)"
    )
    python = vpipe_executable.parent / "python"
    with started(python, clean_environment, "-c", code) as process:
        time.sleep(0.3)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        rows, said = rows_and_notes(process)
        assert 1.0 < time.monotonic() - begin < ENDS_WITHIN_S + BUSY_S
    assert (process.returncode, rows) == (130, ["summary"])
    assert said == "vpipe: interrupted\n"


def test_a_killed_batch_goes_on(
    vpipe_executable: Path, clean_environment: dict[str, str], videos: Path
) -> None:
    few = [videos / f"clip{number}.mp4" for number in range(6)]
    with started(vpipe_executable, clean_environment, *FLOW, *few) as process:
        process.stdout.readline()  # type: ignore[union-attr]
        process.kill()
    again = subprocess.run(
        [vpipe_executable, *FLOW, *few], env=clean_environment, capture_output=True, text=True, check=True
    )
    counts = [json.loads(row)["cache"]["computed"] for row in again.stdout.splitlines()]
    assert len(counts) == 6
    assert counts[:2] == [0, 0]


def test_a_closed_pipe_is_quiet(
    vpipe_executable: Path, clean_environment: dict[str, str], videos: Path
) -> None:
    with started(vpipe_executable, clean_environment, "check", "--jsonl", videos) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(30) == 141
        assert process.stderr is not None
        assert process.stderr.read() == ""
