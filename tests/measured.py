"""Runs a command and notes what it took: `python -m tests.measured NOTE COMMAND...`.

A process's peak of memory begins at that of the process which forked it (Linux counts what the child had
before its exec), so a command started by a large test run seems to take at least as much as the tests. This
process is small. Standard streams are the command's; it exits as the command does, 128 + n after signal n.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# CPU seconds of `_work_s` where bars were set: 0.4 where our commands take 2.2 times as long.
WORK_S = 0.18


@dataclass(frozen=True)
class Used:
    """Of a process and those it waited for: seconds of CPU together, the peak of the largest one."""

    cpu_s: float
    peak_kib: int


def measured(note: Path, command: Sequence[str | Path]) -> list[str | Path]:
    """The command line that runs `command` and leaves what it used in `note`. Works from any folder."""
    return [sys.executable, str(Path(__file__).resolve()), str(note), *command]


def used(note: Path) -> Used:
    """What the last run noted."""
    return Used(**json.loads(note.read_text()))


def own_peak_kib() -> int:
    """The peak of this process since its program began."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0])


def on_this_machine(bar_s: float) -> float:
    """A bar of seconds, longer where the machine is slower than the one that bars were set on."""
    return bar_s * max(1.0, max(_work_s() for _ in range(5)) / WORK_S)


def _work_s() -> float:
    """Seconds of CPU for a fixed piece of work like that of our commands: objects, text, parsing."""
    began = time.process_time()
    text = json.dumps([{"number": number, "name": str(number)} for number in range(60_000)])
    for _ in range(5):
        json.loads(text)
    return time.process_time() - began


def main(note: Path, command: Sequence[str]) -> int:
    with subprocess.Popen(command) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    note.write_text(json.dumps({"cpu_s": usage.ru_utime + usage.ru_stime, "peak_kib": usage.ru_maxrss}))
    return process.returncode if process.returncode >= 0 else 128 - process.returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
