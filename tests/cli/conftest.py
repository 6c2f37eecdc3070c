"""Fixtures of the command line's tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FAKE_COMMAND = Path(__file__).parent / "fake_command.py"


@pytest.fixture
def fake(
    clean_environment: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the `fake` command of fake_command.py in `tmp_path`; `fates={"a.mp4": "bad"}` writes its inputs."""

    def run(
        *arguments: str | bytes,
        fates: dict[str, str] | None = None,
        env: dict[str, str] | None = None,
        stdin: bytes | None = None,
    ) -> subprocess.CompletedProcess[str]:
        for name, fate in (fates or {}).items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(fate)
        finished = subprocess.run(
            [sys.executable, FAKE_COMMAND, "fake", *arguments],
            env={**clean_environment, **(env or {})},
            cwd=tmp_path,
            input=stdin if stdin is not None else b"",
            capture_output=True,
            timeout=60,
        )
        return subprocess.CompletedProcess(
            finished.args, finished.returncode, finished.stdout.decode(), finished.stderr.decode()
        )

    return run
