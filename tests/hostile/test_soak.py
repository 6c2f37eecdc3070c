"""Two thousand small videos, five in a hundred bad, killed in the middle: memory and descriptors flat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.small_models import write_model

COUNT = 2000
BAD_EVERY = 20
GROWTH_KIB = 40_000  # what allocators and imports that come late may add
BAD = (b"", b"no video\n" * 50, None)  # None: cut in half


def videos(folder: Path, make_clip: Callable[..., Path], count: int) -> list[Path]:
    """Small videos that differ, so that none shares a cache entry with another."""
    originals = [make_clip(folder / f"s{n}.mp4", frames=6 + n % 3, size=(64, 48), seed=n) for n in range(10)]
    contents = [path.read_bytes() for path in originals]
    for path in originals:
        path.unlink()
    paths = []
    for number in range(count):
        data = contents[number % len(contents)] + b"\0\0\0\x10free%08d" % number
        if number % BAD_EVERY == BAD_EVERY // 2:
            bad = BAD[number // BAD_EVERY % len(BAD)]
            data = data[: len(data) // 2] if bad is None else bad
        paths.append(folder / f"{number:05d}.mp4")
        paths[-1].write_bytes(data)
    return paths


class Watched:
    """A command that is measured with each row that it prints, and may be killed at one."""

    def __init__(self, command: list[str | Path], environment: dict[str, str], kill_at: int | None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.memory_kib: list[int] = []
        self.descriptors: list[int] = []
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.rows.append(json.loads(line))
            if len(self.rows) % 20 == 0:
                self._measure()
            if len(self.rows) == kill_at:
                self._process.kill()
        self.code = self._process.wait()

    def _measure(self) -> None:
        """Of the command and its decoder."""
        family = [self._process.pid, *_children(self._process.pid)]
        try:
            resident = [_resident_kib(process) for process in family]
            open_files = len(os.listdir(f"/proc/{self._process.pid}/fd"))
        except OSError:
            return  # just ended
        self.memory_kib.append(sum(resident))
        self.descriptors.append(open_files)


def _children(process: int) -> list[int]:
    text = "".join(path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children"))
    return [int(word) for word in text.split()]


def _resident_kib(process: int) -> int:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def assert_flat(run: Watched) -> None:
    """From the first hundred rows to the last."""
    first, last = run.memory_kib[3:6], run.memory_kib[-5:]
    assert max(last) < max(first) + GROWTH_KIB, run.memory_kib
    assert max(run.descriptors[-5:]) <= max(run.descriptors[3:6]) + 2, run.descriptors


def soak(
    executable: Path,
    environment: dict[str, str],
    folder: Path,
    make_clip: Callable[..., Path],
    count: int,
    commands: tuple[str, ...],
) -> None:
    (folder / "in").mkdir()
    names = [str(path) for path in videos(folder / "in", make_clip, count)]
    model = write_model(folder / "model.safetensors", "rgb")
    bad = {name for number, name in enumerate(names) if number % BAD_EVERY == BAD_EVERY // 2}
    more = {"flow": ["--method", "dis", "--fps", "native"], "classify": ["--model", str(model), "-j", "1"]}
    for command in commands:
        begin = time.monotonic()
        arguments: list[str | Path] = [executable, command, "--jsonl", *more[command], folder / "in"]
        killed = Watched(arguments, environment, kill_at=count // 2)
        assert killed.code == -signal.SIGKILL
        whole = Watched(arguments, environment, kill_at=None)
        assert whole.code == 3
        assert [row["input"] for row in whole.rows] == names
        assert {row["input"] for row in whole.rows if row["status"] == "failed"} == bad
        assert {row["error"]["code"] for row in whole.rows if row["error"]} <= {"not_a_video", "incomplete"}
        if command == "flow":
            reused = [row["cache"]["computed"] == 0 for row in whole.rows if not row["error"]]
            assert sum(reused) >= (count // 2) * (BAD_EVERY - 1) // BAD_EVERY - 1
        if count >= 400:
            assert_flat(whole)
            memory, files = whole.memory_kib, whole.descriptors
            print(f"{command}: {count} videos and half of them in {time.monotonic() - begin:.0f} s,", end=" ")
            print(f"{memory[5]} to {memory[-1]} KiB, {files[5]} to {files[-1]} descriptors")


def test_a_small_soak(
    vpipe_executable: Path, clean_environment: dict[str, str], tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    soak(vpipe_executable, clean_environment, tmp_path, make_clip, 40, ("flow",))


@pytest.mark.slow
def test_two_thousand_videos(
    vpipe_executable: Path, clean_environment: dict[str, str], tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    soak(vpipe_executable, clean_environment, tmp_path, make_clip, COUNT, ("flow", "classify"))
