"""Start-up stays light: no --help imports a heavy library, and the group knows its commands unimported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vpipe.cli.main import COMMANDS, LazyGroup

HEAVY = ("torch", "cv2", "numba", "av", "numpy", "h5py", "scipy")
LISTED = LazyGroup(name="vpipe").list_commands(None)

PROBE = f"""
import json, sys
sys.argv = ["vpipe", *json.loads(sys.argv[1])]
from vpipe.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print("LOADED", json.dumps(loaded))
"""


def subcommands(command: str) -> list[list[str]]:
    """The command line of the command itself and of each command below it, where it is a group."""
    finished = subprocess.run(
        [sys.executable, "-m", "vpipe", command, "--help"], capture_output=True, text=True, check=True
    )
    _, _, below = finished.stdout.partition("\nCommands:\n")
    names = [line.split()[0] for line in below.splitlines() if line[:3].strip() and line.startswith("  ")]
    return [[command], *([command, name] for name in names)]


def loaded_by(arguments: list[str]) -> tuple[list[str], str]:
    finished = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(arguments)], capture_output=True, text=True, check=True
    )
    output, _, loaded = finished.stdout.rpartition("LOADED ")
    return json.loads(loaded), output


@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_the_root_imports_nothing_heavy(arguments: list[str]) -> None:
    loaded, output = loaded_by(arguments)
    assert loaded == []
    assert output.strip()


@pytest.mark.parametrize("command", LISTED)
def test_no_help_imports_anything_heavy(command: str) -> None:
    for line in subcommands(command):
        loaded, output = loaded_by([*line, "--help"])
        assert loaded == [], line
        assert output.startswith(f"Usage: vpipe {' '.join(line)} ")


def test_help_lists_the_commands_whose_file_exists() -> None:
    _, output = loaded_by(["--help"])
    for command, (_, help_line) in COMMANDS.items():
        assert (f"  {command} " in output) == (command in LISTED)
        assert (help_line.split()[0] in output) or command not in LISTED


def test_completion_offers_commands(vpipe_executable, clean_environment) -> None:
    if not LISTED:
        pytest.skip("no command exists yet")
    words = {"_VPIPE_COMPLETE": "complete_bash", "COMP_WORDS": f"vpipe {LISTED[0][:2]}", "COMP_CWORD": "1"}
    finished = subprocess.run(
        [vpipe_executable], env=clean_environment | words, capture_output=True, text=True, check=True
    )
    assert LISTED[0] in finished.stdout.split()
