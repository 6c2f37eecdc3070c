"""The command line without a new process: importing torch again for every call would be most of the time."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from vpipe.cli.main import main


class InProcess:
    """`run("classify", path, "--json")` as the `vpipe` command would, in `folder` and with its own cache."""

    def __init__(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        monkeypatch.chdir(folder)
        monkeypatch.setenv("VPIPE_CACHE_DIR", str(folder / "cache"))
        monkeypatch.setenv("HOME", str(folder))

    def __call__(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        self.monkeypatch.setattr(sys, "argv", ["vpipe", *words])
        with pytest.raises(SystemExit) as end:
            main()
        output = self.capsys.readouterr()
        return subprocess.CompletedProcess(words, int(end.value.code or 0), output.out, output.err)
