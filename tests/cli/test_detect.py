"""`vpipe detect` from the shell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vpipe.evaluation.predictions import read_predictions
from vpipe.models.packaged_models import packaged_models

from .inprocess import InProcess
from .small_models import LABELS, write_model

packaged = pytest.mark.skipif("motion-rgb" not in packaged_models(), reason="no packaged motion-rgb yet")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    return InProcess(tmp_path, monkeypatch, capsys)


def test_rows_and_activitynet_file(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    anet = tmp_path / "new" / "found.json"
    options = ["--model", model, "--min-score", "0.01", "--include-background", "--anet", anet]
    finished = run("detect", small_clip, "broken.mp4", *options, "--json")
    assert finished.returncode == 3, finished.stderr
    found = json.loads(finished.stdout)
    assert found["schema"] == "vpipe.detect/1"
    assert [row["error"]["code"] for row in found["failures"]] == ["not_found"]
    (row,) = found["results"]
    assert row["segments"]
    for segment in row["segments"]:
        assert segment["label"] in LABELS
        assert 0 <= segment["start_s"] < segment["end_s"] <= row["duration_s"]
        assert 0 <= segment["start_frame"] < segment["end_frame"] <= row["frames"]
        assert segment["score"] >= 0.01
    table = read_predictions(anet).segments
    assert table.video == ["small"] * len(row["segments"])
    assert table.score.tolist() == [s["score"] for s in row["segments"]]
    assert [p.name for p in anet.parent.iterdir()] == ["found.json"]


def test_equal_runs_give_equal_bytes_and_flow_is_reused(
    tmp_path: Path, small_clip: Path, run: InProcess
) -> None:
    model = write_model(tmp_path / "two.safetensors", "rgb", "flow")
    options = ["--model", model, "--jsonl", "--candidates", "both", "--nms", "hard", "--no-refine"]
    first, second, third = (run("detect", small_clip, *options).stdout for _ in range(3))
    assert json.loads(first)["cache"] | {"path": None} == {
        "path": None,
        "pairs": 15,
        "computed": 15,
        "reused": 0,
    }
    assert json.loads(second)["cache"]["reused"] == 15
    assert second == third
    assert json.loads(first)["segments"] == json.loads(second)["segments"]


def test_text_is_a_table(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    options = ["--model", model, "--include-background"]
    lines = run("detect", small_clip, *options, "--min-score", "0.01").stdout.splitlines()
    assert lines[1].split() == ["start", "s", "end", "s", "label", "score"]
    assert lines[2].split()[2] in LABELS
    nothing = run("detect", small_clip, *options, "--min-score", "1").stdout
    assert nothing == f"{small_clip}  2.00 s, 24 frames, 96x64: nothing found\n"


def test_an_unwritable_activitynet_file_stops_before_any_input(
    tmp_path: Path, run: InProcess, one_error: Callable[..., str]
) -> None:
    (tmp_path / "file").touch()
    finished = run("detect", "nowhere.mp4", "--anet", tmp_path / "file" / "found.json")
    assert finished.returncode == 1
    one_error(finished, "[unwritable_output]")


@packaged
def test_the_packaged_model_finds_a_pan(
    tmp_path: Path, make_clip: Callable[..., Path], run: InProcess
) -> None:
    path = make_clip(tmp_path / "pan.mp4", frames=100, fps=25, size=(340, 256), step_px=(2, 0))
    row = json.loads(run("detect", path, "--jsonl", "--min-score", "0.5").stdout)
    assert [s["label"] for s in row["segments"]] == ["pan_left"]
    assert (row["segments"][0]["start_s"], row["segments"][0]["end_s"]) == (0.0, 4.0)
