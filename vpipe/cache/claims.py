"""Who is working on a cache entry: at most one process at a time, without file locks.

A claimant puts a file of its own into the entry's work folder, then looks for others:

    others alive   -> take mine away, wait, try again
    others dead    -> remove theirs
    nobody         -> the work is mine

Whichever of two claimants looks second sees the other's file, so never do both win; both may yield, hence the
random wait. Names are unique, so removing a dead claim can never remove a living one.

A claim is alive while its process is: same pid with the same start time, in the same boot and pid namespace.
Where that cannot be seen (another host or container) it is alive while its file was touched in the last 60 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

HEARTBEAT_S = 10.0
DEAD_AFTER_S = 60.0
_POLL_S = (0.02, 0.3)
_PREFIX = "claim-"


class ClaimLost(Exception):
    """Another process took this work over, as this one seemed dead: what it still writes is discarded."""


class Claim:
    """A held claim; `check()` before every write that others will see."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def token(self) -> str:
        """Unique to this claim: goes into the names of temporary files."""
        return self.path.name.removeprefix(_PREFIX)

    def check(self) -> None:
        """Raises ClaimLost where the claim was taken over."""
        if not self.path.exists():
            raise ClaimLost(self.path.name)


def process_identity(pid: int | None = None) -> dict[str, Any]:
    """What tells a running process from every other one: host, boot, pid namespace, pid, start time."""
    pid = os.getpid() if pid is None else pid
    return {
        "host": socket.gethostname(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "pid_namespace": _link("/proc/self/ns/pid"),
        "pid": pid,
        "start": start_time(pid),
    }


def start_time(pid: int) -> str | None:
    """The start of process `pid` in clock ticks since boot; None where it does not run or cannot be seen."""
    stat = _read(f"/proc/{pid}/stat")
    # The name, in brackets, may hold spaces and brackets; state is field 3, start time field 22.
    fields = stat.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    return fields[19]


@contextmanager
def claimed(
    folder: Path, *, faults: AbstractContextManager[None], waiting: Callable[[], None] = lambda: None
) -> Iterator[Claim]:
    """Hold the claim on the work in `folder` (created where absent); waits while another process has it.

    `faults` (`cache_faults`) says what it means that the folder cannot be written. `waiting` is called once
    when there is somebody to wait for. An empty folder is removed at the end.
    """
    with faults:
        claim = _acquire(folder, waiting)
    stop = threading.Event()
    beat = threading.Thread(target=_heartbeat, args=(claim.path, stop), name="vpipe-claim", daemon=True)
    beat.start()
    try:
        yield claim
    finally:
        stop.set()
        claim.path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            folder.rmdir()
        beat.join()


def _acquire(folder: Path, waiting: Callable[[], None]) -> Claim:
    told = False
    while True:
        if not _living(folder, None):
            mine = folder / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(6)}"
            beside = (
                folder / f"{mine.name.removeprefix(_PREFIX)}.tmp"
            )  # so that no claim is ever half written
            folder.mkdir(parents=True, exist_ok=True)  # what cannot be made is the caller's error
            try:
                beside.write_text(json.dumps(process_identity(), sort_keys=True))
                beside.rename(mine)
            except FileNotFoundError:
                continue  # somebody has just tidied the folder, or removed it
            except OSError:
                beside.unlink(missing_ok=True)  # no room for its content
                with contextlib.suppress(OSError):
                    folder.rmdir()
                raise
            try:
                if not _living(folder, mine):
                    return Claim(mine)
            except FileNotFoundError:
                continue  # somebody took mine for dead
            except BaseException:
                mine.unlink(missing_ok=True)
                raise
            mine.unlink(missing_ok=True)
        elif not told:
            told = True
            waiting()
        time.sleep(random.uniform(*_POLL_S))


def _living(folder: Path, mine: Path | None) -> bool:
    """Whether a living claim other than `mine` is there; removes dead ones when holding `mine`."""
    try:
        names = [name for name in os.listdir(folder) if name.startswith(_PREFIX)]
    except FileNotFoundError:
        return False
    # Mine was written just now: its time is that of the file system's clock, which may not be ours.
    now = time.time() if mine is None else mine.stat().st_mtime
    living = False
    for path in (folder / name for name in names):
        if path == mine:
            continue
        if _alive(path, now):
            living = True
        elif mine is not None:
            path.unlink(missing_ok=True)
    return living


def _alive(path: Path, now: float) -> bool:
    try:
        text, age_s = path.read_text(), now - path.stat().st_mtime
    except FileNotFoundError:
        return False
    try:
        owner = json.loads(text)
        here = process_identity(owner["pid"])
    except (ValueError, KeyError, TypeError):
        return age_s < DEAD_AFTER_S  # just being written, or not ours to judge sooner
    same_host = owner.get("host") == here["host"]
    if same_host and owner.get("boot") and here["boot"] and owner["boot"] != here["boot"]:
        return False  # the machine was restarted
    if same_host and here["boot"] and owner.get("pid_namespace") == here["pid_namespace"]:
        return owner.get("start") is not None and owner["start"] == here["start"]
    return age_s < DEAD_AFTER_S


def _heartbeat(path: Path, stop: threading.Event) -> None:
    while not stop.wait(HEARTBEAT_S):
        with contextlib.suppress(OSError):
            os.utime(path)


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
