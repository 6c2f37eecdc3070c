"""No room, no quota, no permission: said with what is needed; what is done stays, the next run goes on."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.cache.clips import DIS, contents, strays, write_moving
from vpipe.cache import FlowCache, care
from vpipe.cache.files import cache_faults
from vpipe.errors import EnvironmentFault
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage

PAIRS = 200
HIGH = Storage("high")
ARGUMENTS = ("--method", "dis", "--fps", "native", "--short-side", "native", "--storage", "high")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shifts = [0.5 + 1.3 * (k % 7) for k in range(PAIRS)]
    return write_moving(tmp_path_factory.mktemp("moving") / "moving.mp4", shifts, size=(320, 240))


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sealed file of a run with room."""
    entry = FlowCache(tmp_path_factory.mktemp("whole")).entry(clip, DIS, HIGH)
    entry.ensure()
    assert entry.path
    return entry.path


@pytest.mark.parametrize("share", [0.02, 0.5, 1.2, 1.9])
def test_a_full_disk(
    vpipe_executable: Path, tmpfs: Callable[[int], Path], clip: Path, whole: Path, share: float
) -> None:
    """`share` of the finished size: no room for a part, for all parts, for sealing, for the last of it."""
    size = whole.stat().st_size
    cache = tmpfs(int(share * size) // 4096 * 4096 + 4096)

    def run() -> subprocess.CompletedProcess[str]:
        command = [vpipe_executable, "flow", clip, *ARGUMENTS, "--cache-dir", cache, "--json"]
        return subprocess.run(command, capture_output=True, text=True)

    finished = run()
    assert finished.returncode == 1
    errors = [line for line in finished.stderr.splitlines() if line.startswith("vpipe: error: ")]
    assert len(errors) == 1, finished.stderr
    assert "[disk_full]" in errors[0]
    assert str(cache) in errors[0]
    number, unit = re.search(r"about ([\d.]+) (kB|MB) more are needed", errors[0]).groups()  # type: ignore[union-attr]
    needed = float(number) * {"kB": 1e3, "MB": 1e6}[unit]
    assert not list(cache.rglob("*.tmp"))
    assert not list(cache.rglob("claim-*"))
    assert not list(cache.rglob("*.flow.h5"))
    kept = [fault for slot_work in cache.rglob("*.work") for fault in slot_work.iterdir()]
    tmpfs(int(share * size + needed * 1.5) + (256 << 10))
    (row,) = json.loads(run().stdout)["results"]
    if share > 0.4:
        assert kept
        assert row["cache"]["reused"] >= 64
    assert row["cache"]["computed"] + row["cache"]["reused"] == PAIRS
    assert contents(Path(row["cache"]["path"])) == contents(whole)
    assert strays(cache) == []


def test_a_full_disk_while_packing(tmpfs: Callable[[int], Path], clip: Path, whole: Path) -> None:
    cache = FlowCache(tmpfs(whole.stat().st_size * 3))
    entry = cache.entry(clip, DIS, HIGH)
    entry.ensure()
    flows = entry.read(range(PAIRS))
    filler = cache.root / "filler"
    with open(filler, "wb", buffering=0) as out, contextlib.suppress(OSError):
        while True:
            out.write(bytes(4096))
    with pytest.raises(EnvironmentFault, match="no space left") as caught:
        care.pack(entry.slot)
    assert caught.value.code == "disk_full"
    again = cache.entry(clip, DIS, HIGH)
    assert np.array_equal(again.read(range(PAIRS)), flows)
    filler.unlink()
    before, after = care.pack(entry.slot)
    assert after < before
    assert np.array_equal(cache.entry(clip, DIS, HIGH).read(range(PAIRS)), flows)
    assert strays(cache.root) == []


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.ENOSPC, "disk_full", "no space left.*about 4.0 MB more"),
        (errno.EDQUOT, "disk_full", "quota is used up.*about 4.0 MB more"),
        (errno.EROFS, "cache_unwritable", "Read-only file system.*--cache-dir"),
        (errno.EACCES, "cache_unwritable", "Permission denied.*--cache-dir"),
    ],
)
def test_what_the_system_says(number: int, code: str, words: str) -> None:
    with pytest.raises(EnvironmentFault, match=words) as caught, cache_faults(Path("/c"), lambda: 4_000_000):
        raise OSError(number, os.strerror(number))
    assert caught.value.code == code


def test_a_read_only_cache_is_read(clip: Path, tmpfs: Callable[[int], Path], whole: Path) -> None:
    folder = tmpfs(whole.stat().st_size * 3)
    FlowCache(folder).entry(clip, DIS, HIGH).ensure()
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mount(b"none", os.fsencode(folder), b"tmpfs", 32 | 1, None) == 0  # MS_REMOUNT, MS_RDONLY
    entry = FlowCache(folder).entry(clip, DIS, HIGH)
    assert entry.ensure().reused == PAIRS
    assert entry.read([5]).any()
    with pytest.raises(EnvironmentFault, match="Read-only"):
        FlowCache(folder).entry(clip, FlowParams.preset("fast", method="dis")).ensure()
