"""The README shows every command, and every command says what its options do."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer

from vpipe.cli.main import COMMANDS, LazyGroup, app

README = Path(__file__).parents[2] / "README.md"
LISTED = LazyGroup(name="vpipe").list_commands(None)


@pytest.mark.parametrize("command", LISTED)
def test_the_readme_mentions_the_command(command: str) -> None:
    if not README.exists():
        pytest.skip("there is no README yet")
    assert re.search(rf"\bvpipe {command}\b", README.read_text())


@pytest.mark.parametrize("command", LISTED)
def test_every_option_has_help(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPIPE_CONFIG", "/dev/null")
    group = typer.main.get_command(app)
    found = group.get_command(typer.Context(group), command)
    for one in getattr(found, "commands", {"": found}).values():
        assert one.help, command
        for param in one.params:
            assert param.help, (command, one.name, param.name)


def test_help_lines_are_short_sentences() -> None:
    for command, (module, line) in COMMANDS.items():
        assert module == f"vpipe.cli.{command}"
        assert line.endswith(".")
        assert len(line) < 70


def test_the_readme_reads_flow_as_the_format_page_does() -> None:
    """The page's first block is run by tests/cache; the README shows the same one."""
    page = (README.parent / "docs" / "cache-format.md").read_text()
    (block, *_) = re.findall(r"```python\n.*?\n```", page, re.DOTALL)
    assert block in README.read_text()
