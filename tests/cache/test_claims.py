"""One worker at a time, and the work of the dead is taken over."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from vpipe.cache import claims
from vpipe.cache.claims import ClaimLost, claimed, process_identity, start_time


def leave_claim(folder: Path, **changes: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"claim-{changes.get('pid', 0)}-left"
    path.write_text(json.dumps(process_identity() | changes))
    return path


def test_a_claim_leaves_no_trace(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    with claimed(folder, faults=contextlib.nullcontext()) as claim:
        claim.check()
        assert claim.token in os.listdir(folder)[0]
    assert not folder.exists()


def test_only_one_at_a_time(tmp_path: Path) -> None:
    inside, most, entered = 0, 0, 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal inside, most, entered
        for _ in range(3):
            with claimed(tmp_path / "work", faults=contextlib.nullcontext()):
                with lock:
                    inside, entered = inside + 1, entered + 1
                    most = max(most, inside)
                time.sleep(0.002)
                with lock:
                    inside -= 1

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert (most, entered) == (1, 12)
    assert not (tmp_path / "work").exists()


def test_the_dead_are_taken_over_at_once(tmp_path: Path) -> None:
    finished = subprocess.Popen([sys.executable, "-c", ""])
    finished.wait()
    dead = [
        leave_claim(tmp_path / "work", pid=finished.pid),
        leave_claim(tmp_path / "work", pid=os.getpid(), start="1"),  # the pid was given to another process
        leave_claim(tmp_path / "work", pid=1, boot="before the restart"),
    ]
    with claimed(
        tmp_path / "work", faults=contextlib.nullcontext(), waiting=lambda: pytest.fail("waited for the dead")
    ):
        assert not any(path.exists() for path in dead)


def test_another_host_is_alive_while_its_heart_beats(tmp_path: Path) -> None:
    there = leave_claim(tmp_path / "work", host="elsewhere", pid=1)
    assert claims._alive(there, time.time())
    old = time.time() - claims.DEAD_AFTER_S - 1
    os.utime(there, (old, old))
    assert not claims._alive(there, time.time())
    torn = tmp_path / "work" / "claim-1-torn"
    torn.write_text('{"host"')
    assert claims._alive(torn, time.time())
    os.utime(torn, (old, old))
    with claimed(tmp_path / "work", faults=contextlib.nullcontext()):
        assert not torn.exists()


def test_waiting_for_the_living(tmp_path: Path) -> None:
    waited = threading.Event()
    living = leave_claim(tmp_path / "work", pid=os.getpid())
    threading.Thread(target=lambda: (waited.wait(10), living.unlink()), daemon=True).start()
    with claimed(tmp_path / "work", faults=contextlib.nullcontext(), waiting=waited.set):
        assert waited.is_set()


def test_a_lost_claim_says_so(tmp_path: Path) -> None:
    with claimed(tmp_path / "work", faults=contextlib.nullcontext()) as claim:
        claim.path.unlink()
        with pytest.raises(ClaimLost):
            claim.check()


def test_the_heart_beats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_S", 0.02)
    with claimed(tmp_path / "work", faults=contextlib.nullcontext()) as claim:
        os.utime(claim.path, (0, 0))
        deadline = time.monotonic() + 10
        while claim.path.stat().st_mtime == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert claim.path.stat().st_mtime > 0


def test_start_time() -> None:
    assert start_time(os.getpid()) == start_time(os.getpid())
    assert start_time(2**30) is None


def test_a_clock_that_is_wrong_takes_nothing_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The age of a claim is told by the file system's clock, not by this host's."""
    living = leave_claim(tmp_path / "work", host="elsewhere", pid=1)
    real = time.time
    monkeypatch.setattr(claims.time, "time", lambda: real() + 3600)
    removed = threading.Event()

    def leave() -> None:
        removed.set()
        living.unlink()

    threading.Timer(0.3, leave).start()
    with claimed(tmp_path / "work", faults=contextlib.nullcontext()):
        assert removed.is_set()
