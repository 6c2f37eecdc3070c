"""Every kind of file through every command: a row with the right code, and the batch goes on."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cli.small_models import write_model
from tests.hostile.bad_set import GOLDEN, NAMES, NOTES, OK, Answer, build
from vpipe.cli.output import display_name

COMMANDS = ("check", "extract", "flow", "classify", "detect")
MOTION = ("flow", "classify", "detect")
EVERYTHING: dict[str, Answer] = GOLDEN | {os.fsdecode(name): OK for name in NAMES}


@dataclass
class Run:
    command: str
    finished: subprocess.CompletedProcess[str]
    rows: dict[str, dict[str, Any]]
    folder: Path


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    build(folder)
    return folder


@pytest.fixture(scope="module", params=COMMANDS)
def run(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    vpipe_executable: Path,
    bad_files: Path,
    compiled_kernels: Path,
) -> Run:
    command, folder = request.param, tmp_path_factory.mktemp(request.param)
    more = {
        "extract": ["-o", str(folder / "out")],
        "flow": ["--method", "dis", "--fps", "native", "-o", str(folder / "out")],
        "classify": ["--model", str(write_model(folder / "model.safetensors", "rgb"))],
        "detect": ["--model", str(write_model(folder / "model.safetensors", "rgb"))],
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("VPIPE_", "XDG_"))}
    before = sorted(os.listdir(bad_files))
    finished = subprocess.run(
        [vpipe_executable, command, "--jsonl", *more.get(command, []), "--", *EVERYTHING],
        cwd=bad_files,
        env=kept
        | {
            "HOME": str(folder),
            "XDG_CACHE_HOME": str(compiled_kernels),
            "VPIPE_CACHE_DIR": str(folder / "cache"),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert sorted(os.listdir(bad_files)) == before, "something was written beside the videos"
    rows = {row["input"]: row for row in map(json.loads, finished.stdout.splitlines())}
    return Run(command, finished, rows, folder)


@pytest.mark.parametrize("name", EVERYTHING, ids=display_name)
def test_the_right_answer(run: Run, name: str) -> None:
    if name == "closed.mp4" and os.geteuid() == 0:
        pytest.skip("root may read every file, so there is no closed one")
    assert display_name(name) in run.rows, run.finished.stderr
    row, answer = run.rows[display_name(name)], EVERYTHING[name]
    code = answer.code
    if code is None and run.command in MOTION and answer.still is not None:
        code = answer.still
    if code is not None:
        assert row["status"] == "failed", row
        assert row["error"]["code"] == code, row["error"]
        assert display_name(name).split("\n")[0] in row["error"]["message"]
        return
    assert row["status"] in ("ok", "partial"), row
    found = {warning["code"] for warning in row["warnings"]}
    wanted = answer.warnings
    if run.command != "check":
        wanted -= {"single_image"}
    assert wanted <= found, row["warnings"]
    # `invalid_flows` follows from corrupt frames, `flow_clipped` from the picture.
    assert found - wanted <= NOTES | {"corrupt_frames", "ends_early", "invalid_flows", "flow_clipped"}, row
    assert (row["frames"] or 0) > 0


def test_the_batch_is_done(run: Run) -> None:
    assert list(run.rows) == [display_name(name) for name in EVERYTHING]
    assert run.finished.returncode == (1 if run.command == "check" else 3)
    assert "Traceback" not in run.finished.stderr
    assert "internal_error" not in run.finished.stdout
    assert len({row["video_id"] for row in run.rows.values()}) == len(EVERYTHING)


def test_losses_are_counted(run: Run) -> None:
    for name in ("cut.mp4", "cut.mkv", "cut.avi"):
        (early,) = [w for w in run.rows[name]["warnings"] if w["code"] == "ends_early"]
        assert 0 < early["decoded"] < early["declared"] <= 91, early
        assert run.rows[name]["status"] == "partial"
    if run.command == "check":
        assert run.rows["cut.mp4"]["reason"] == "ends_early"
        (gap,) = [w for w in run.rows["gap.mkv"]["warnings"] if w["code"] == "timestamp_gap"]
        assert (gap["gaps"], gap["frame"]) == (1, 19)
        assert gap["longest_s"] == pytest.approx(5.033, abs=0.002)


def test_nothing_is_written_elsewhere_or_half(run: Run) -> None:
    for path in run.folder.rglob("*"):
        assert path.relative_to(run.folder).parts[0] in (
            "out",
            "cache",
            "model.safetensors",
            ".cache",
            ".numba",
        ), path
        assert ".part" not in path.name
        assert path.suffix != ".tmp"
    if run.command in ("extract", "flow"):
        outputs = [row["path"] for row in run.rows.values() if row["error"] is None]
        assert len(set(outputs)) == len(outputs)
        assert all(
            Path(os.path.commonpath([path, run.folder / "out"])) == run.folder / "out" for path in outputs
        )
