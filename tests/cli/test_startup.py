"""Start-up stays light: no --help imports a heavy library, and the group knows its commands unimported."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from vpipe.cli.main import COMMANDS, LazyGroup

HEAVY = ("torch", "cv2", "numba", "av", "numpy", "h5py", "scipy")
LISTED = LazyGroup(name="vpipe").list_commands(None)

# One process asks for every --help in turn, and says after each what is loaded by then.
PROBE = f"""
import contextlib, io, json, sys
from vpipe.cli.main import LazyGroup, main

def ask(*words):
    sys.argv = ["vpipe", *words]
    with contextlib.redirect_stdout(io.StringIO()) as output:
        try:
            main()
        except SystemExit as end:
            assert not end.code, (words, end.code)
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    answers[" ".join(words)] = (output.getvalue(), loaded)
    return output.getvalue()

answers = {{}}
ask("--version")
ask("--help")
for command in LazyGroup(name="vpipe").list_commands(None):
    _, _, below = ask(command, "--help").partition("\\nCommands:\\n")
    for line in below.splitlines():
        if line[2:3].strip():
            ask(command, line.split()[0], "--help")
print(json.dumps(answers))
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, tuple[str, list[str]]]:
    """What `vpipe WORDS` printed and which heavy modules were loaded by then."""
    finished = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    return json.loads(finished.stdout)


def test_no_help_imports_anything_heavy(answers: dict[str, tuple[str, list[str]]]) -> None:
    assert set(answers) >= {"--version", "--help", *(f"{command} --help" for command in LISTED)}
    for words, (output, loaded) in answers.items():
        assert loaded == [], f"vpipe {words} has loaded {loaded}"
        if words != "--version":
            assert output.startswith(f"Usage: vpipe {words.removesuffix('--help')}"), output


def test_groups_are_asked_for_each_of_their_commands(answers: dict[str, tuple[str, list[str]]]) -> None:
    if "synth" in LISTED:
        assert {"synth clips --help", "synth untrimmed --help"} <= set(answers)


def test_help_lists_the_commands_whose_file_exists(answers: dict[str, tuple[str, list[str]]]) -> None:
    output, _ = answers["--help"]
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
