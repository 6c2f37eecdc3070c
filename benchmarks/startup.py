"""How long `vpipe --help` and every command's --help take from the shell: the median of some runs.

    python -m benchmarks.startup [--runs 7] [--json]

The aim is under 0.3 s for `vpipe --help`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from vpipe.cli.main import COMMANDS, LazyGroup

EXECUTABLE = Path(sys.executable).parent / "vpipe"


def seconds(arguments: list[str], runs: int) -> float:
    """Median wall time in seconds of `vpipe ARGUMENTS`, after one run to warm the disk cache."""
    times = []
    for _ in range(runs + 1):
        start = time.perf_counter()
        subprocess.run([EXECUTABLE, *arguments], check=True, stdout=subprocess.DEVNULL)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    listed = LazyGroup(name="vpipe").list_commands(None)
    results = {"vpipe --help": seconds(["--help"], options.runs)}
    for command in (name for name in COMMANDS if name in listed):
        results[f"vpipe {command} --help"] = seconds([command, "--help"], options.runs)
    if options.json:
        print(json.dumps({name: round(value, 4) for name, value in results.items()}, indent=2))
        return
    for name, value in results.items():
        print(f"{value:6.3f} s  {name}")


if __name__ == "__main__":
    main()
