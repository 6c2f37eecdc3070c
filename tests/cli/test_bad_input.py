"""Section by section what goes wrong in practice: one line with a reason, the rest of the batch done."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from vpipe.cli.inputs import display_name
from vpipe.cli.main import LazyGroup
from vpipe.models import packaged_models

from .bad_inputs import NOT_UTF8, make_inputs
from .inprocess import InProcess
from .small_models import write_model

LISTED = LazyGroup(name="vpipe").list_commands(None)
BATCH = [name for name in ("check", "extract", "flow", "classify", "detect") if name in LISTED]
MOTION = ("flow", "classify", "detect")
MODEL = [name for name in ("classify", "detect") if name in LISTED]

# input -> reason code, or None where it must be done; a pair is (without motion, with motion)
EXPECTED: dict[str, str | tuple[str | None, str | None] | None] = {
    "missing.mp4": "not_found",
    "good.mp4": None,
    "folder": "no_videos",
    "text.mp4": "not_a_video",
    "empty.mp4": "not_a_video",
    "audio.mp4": "no_video_stream",
    "one_frame.mp4": (None, "single_image"),
    "no_index.mp4": "incomplete",
    "truncated.mp4": None,
    "fifo.mp4": "not_a_regular_file",
    "closed.mp4": "permission",
    NOT_UTF8: None,
}


@dataclass
class Batch:
    command: str
    finished: subprocess.CompletedProcess[str]
    rows: dict[str, dict[str, Any]]
    folder: Path


def expected(command: str, name: str) -> str | None:
    reason = EXPECTED[name]
    return reason[command in MOTION] if isinstance(reason, tuple) else reason


def arguments(command: str, folder: Path) -> list[str]:
    """What a command needs beside its inputs to write everything below `folder`."""
    if command in MODEL:
        return ["--model", str(write_model(folder / "model.safetensors", "rgb", "flow"))]
    return {
        "check": [],
        "extract": ["-o", str(folder / "out")],
        "flow": ["-o", str(folder / "out")],
    }.get(command, [])


# The golden table of tests/hostile goes through the others too.
BATCHES = [pytest.param(name, marks=pytest.mark.slow) if name in MOTION else name for name in BATCH]


@pytest.fixture(scope="module", params=BATCHES)
def batch(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    vpipe_executable: Path,
    make_clip: Callable[..., Path],
    compiled_kernels: Path,
) -> Batch:
    """One run of each command over everything."""
    command = request.param
    folder = tmp_path_factory.mktemp(command)
    make_inputs(folder / "in", make_clip)
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("VPIPE_", "XDG_"))}
    finished = subprocess.run(
        [vpipe_executable, command, *EXPECTED, "--jsonl", *arguments(command, folder)],
        cwd=folder / "in",
        env=kept
        | {
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(compiled_kernels),
            "VPIPE_CACHE_DIR": str(folder / "cache"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    rows = {row["input"]: row for row in map(json.loads, finished.stdout.splitlines())}
    return Batch(command, finished, rows, folder)


@pytest.mark.parametrize("name", EXPECTED, ids=display_name)
def test_each_input_gets_its_reason(batch: Batch, name: str) -> None:
    if name == "closed.mp4" and os.geteuid() == 0:
        pytest.skip("root may read every file, so there is no closed one")
    assert display_name(name) in batch.rows, batch.finished.stderr
    row = batch.rows[display_name(name)]
    reason = expected(batch.command, name)
    said = [
        line
        for line in batch.finished.stderr.splitlines()
        if line.startswith("vpipe: error: ") and display_name(name) in line
    ]
    if reason is None:
        assert row["status"] in ("ok", "partial"), row
        assert row["error"] is None
        assert said == []
    else:
        assert row["status"] == "failed", row
        assert row["error"]["code"] == reason
        assert display_name(name) in row["error"]["message"]
        assert "\n" not in row["error"]["message"]
        assert len(said) == 1
        assert said[0].endswith(f" [{reason}]")


def test_a_truncated_file_is_done_with_a_warning(batch: Batch) -> None:
    row = batch.rows["truncated.mp4"]
    assert row["warnings"], row
    if row["frames"] is not None:
        assert 0 < row["frames"] < 120


def test_a_name_that_is_not_utf8_is_escaped(batch: Batch) -> None:
    assert batch.rows["caf\\xe9.mp4"]["video_id"] == "caf\\xe9"


def test_the_rest_of_the_batch_is_done_without_traceback(batch: Batch) -> None:
    assert list(batch.rows) == [display_name(name) for name in EXPECTED]
    assert batch.finished.returncode == (1 if batch.command == "check" else 3)
    assert "Traceback" not in batch.finished.stderr
    assert "internal_error" not in batch.finished.stdout


def test_nothing_half_written_is_left(batch: Batch) -> None:
    written = [path for place in ("out", "cache") for path in (batch.folder / place).rglob("*")]
    assert [path for path in written if path.suffix in (".part", ".tmp") or ".part" in path.name] == []
    done = {row["video_id"] for row in batch.rows.values() if row["status"] != "failed"}
    outputs = batch.folder / "out"
    if outputs.is_dir():
        made = {path.name.removesuffix(".flow.h5") for path in outputs.iterdir()}
        assert made == done


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    """Run the command in this process, so that torch is imported once."""
    return InProcess(tmp_path, monkeypatch, capsys)


@pytest.mark.parametrize("command", MODEL)
def test_an_unknown_model_is_refused_before_any_input(
    here: InProcess, one_error: Callable[..., str], command: str
) -> None:
    finished = here(command, "missing.mp4", "--model", "no-such-model", "--json")
    assert finished.returncode == 2
    assert finished.stdout == ""
    one_error(finished, "no-such-model", "[unknown_model]", *packaged_models())


@pytest.mark.parametrize("command", MODEL)
@pytest.mark.parametrize("content", [b"", b"not weights", b"\xff" * 4096])
def test_a_corrupt_weight_file_is_refused_before_any_input(
    here: InProcess, one_error: Callable[..., str], tmp_path: Path, command: str, content: bytes
) -> None:
    (tmp_path / "mine.safetensors").write_bytes(content)
    finished = here(command, "missing.mp4", "--model", "mine.safetensors")
    assert finished.returncode == 2
    one_error(finished, "mine.safetensors", "[bad_weights]")


def test_a_truncated_weight_file_is_refused(
    here: InProcess, one_error: Callable[..., str], tmp_path: Path
) -> None:
    weights = write_model(tmp_path / "mine.safetensors", "rgb")
    weights.write_bytes(weights.read_bytes()[:-100])
    finished = here("classify", "missing.mp4", "--model", "mine.safetensors")
    assert finished.returncode == 2
    one_error(finished, "mine.safetensors", "[bad_weights]")


@pytest.mark.parametrize("command", MODEL)
@pytest.mark.parametrize("device", ["tpu", "cuda:99"])
def test_an_unknown_device_is_refused_before_any_input(
    here: InProcess, one_error: Callable[..., str], command: str, device: str
) -> None:
    finished = here(command, "missing.mp4", "--device", device)
    assert finished.returncode == 2
    one_error(finished, device, "cpu", "_device]")


def test_flow_for_an_unknown_model(here: InProcess, one_error: Callable[..., str]) -> None:
    finished = here("flow", "missing.mp4", "--for", "no-such-model")
    assert finished.returncode == 2
    one_error(finished, "no-such-model", "[unknown_model]")


UNWRITABLE = {
    "extract -o": ["extract", "-o", "{}"],
    "extract --as h5 -o": ["extract", "--as", "h5", "-o", "{}"],
    "flow -o": ["flow", "-o", "{}"],
    "flow --cache-dir": ["flow", "--cache-dir", "{}"],
    "flow --render": ["flow", "--render", "{}/flow.mp4"],
    "flow --render-frames": ["flow", "--render-frames", "{}"],
    "classify --explain": ["classify", "--model", "{model}", "--explain", "{}"],
    "detect --anet": ["detect", "--model", "{model}", "--anet", "{}/anet.json"],
    "classify --cache-dir": ["classify", "--model", "{model}", "--cache-dir", "{}"],
}


@pytest.mark.parametrize("line", [line for line in UNWRITABLE if line.split()[0] in LISTED])
def test_an_output_that_cannot_be_written_is_the_machines_fault(
    here: InProcess,
    one_error: Callable[..., str],
    small_clip: Path,
    tmp_path: Path,
    line: str,
) -> None:
    # A folder below a regular file cannot be made, not even by root.
    (tmp_path / "file").write_text("a file")
    place = str(tmp_path / "file" / "below")
    model = write_model(tmp_path / "model.safetensors", "flow") if "{model}" in UNWRITABLE[line] else None
    command, *rest = [word.format(place, model=model) for word in UNWRITABLE[line]]
    finished = here(command, small_clip, *rest)
    assert finished.returncode == 1, finished.stderr
    one_error(finished, place)
    assert (tmp_path / "file").read_text() == "a file"
