"""`vpipe classify` from the shell."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import pytest

from vpipe.models.packaged_models import packaged_models

from .inprocess import InProcess
from .small_models import LABELS, write_model

packaged = pytest.mark.skipif("motion-rgb" not in packaged_models(), reason="no packaged motion-rgb yet")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    return InProcess(tmp_path, monkeypatch, capsys)


WITHOUT_HEAVY = """
import sys
from vpipe.cli.main import main
try:
    main()
except SystemExit as end:
    print("CODE", end.code)
print("LOADED", [name for name in ("numba", "h5py", "scipy", "cv2") if name in sys.modules])
"""


def test_rgb_rows_and_imports(tmp_path: Path, small_clip: Path, clean_environment: dict[str, str]) -> None:
    """The RGB path imports neither the flow kernels nor HDF5: that is most of the start-up."""
    model = write_model(tmp_path / "small.safetensors", "rgb")
    arguments = ["classify", str(small_clip), "--model", str(model), "--json", "--crops", "3", "--top", "2"]
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_HEAVY, *arguments, "--twice-sample", "--dtype", "bf16"],
        capture_output=True,
        text=True,
        env=clean_environment,
    )
    document, _, rest = finished.stdout.rpartition("CODE ")
    assert rest == "0\nLOADED []\n", finished.stderr
    found = json.loads(document)
    assert found["schema"] == "vpipe.classify/1"
    assert (found["model"]["name"], found["model"]["streams"]) == ("small", ["rgb"])
    (row,) = found["results"]
    assert (row["video_id"], row["status"], row["error"]) == ("small", "ok", None)
    assert (row["duration_s"], row["frames"], row["width"], row["height"]) == (2.0, 24, 96, 64)
    assert len(row["labels"]) == 2
    assert row["labels"][0]["score"] >= row["labels"][1]["score"]
    assert "cache" not in row


def test_two_streams_reuse_their_flow(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    model = write_model(tmp_path / "two.safetensors", "rgb", "flow")
    rows = []
    for _ in range(2):
        finished = run("classify", small_clip, "--model", model, "--clips", "1", "--jsonl")
        assert finished.returncode == 0, finished.stderr
        rows.append(json.loads(finished.stdout))
    assert (rows[0]["cache"]["pairs"], rows[0]["cache"]["computed"], rows[0]["cache"]["reused"]) == (7, 7, 0)
    assert (rows[1]["cache"]["computed"], rows[1]["cache"]["reused"]) == (0, 7)
    assert rows[0]["labels"] == rows[1]["labels"]


def test_text_is_a_table(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    lines = run("classify", small_clip, "--model", model).stdout.splitlines()
    assert lines[0] == f"{small_clip}  2.00 s, 24 frames, 96x64"
    assert {line.split()[0] for line in lines[1:]} == set(LABELS)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--model", "motion-nothing"], "unknown_model"),
        (["--model", "small.safetensors", "--modality", "flow"], "no_such_stream"),
        (["--model", "small.safetensors", "--crops", "7"], "bad_usage"),
    ],
)
def test_bad_values_stop_before_any_input(
    tmp_path: Path, run: InProcess, one_error: Callable[..., str], arguments: list[str], code: str
) -> None:
    write_model(tmp_path / "small.safetensors", "rgb")
    finished = run("classify", "nowhere.mp4", *arguments)
    assert finished.returncode == 2
    one_error(finished, f"[{code}]")


@packaged
def test_the_packaged_model_sees_a_pan(
    tmp_path: Path, make_clip: Callable[..., Path], run: InProcess
) -> None:
    """Content moves right by 50 px/s of 340: the camera pans left."""
    path = make_clip(tmp_path / "pan.mp4", frames=250, fps=25, size=(340, 256), step_px=(2, 0))
    finished = run("classify", path, "--jsonl")
    assert json.loads(finished.stdout)["labels"][0]["label"] == "pan_left", finished.stderr


def test_explain_draws_the_loudest_clip_of_each_stream(
    tmp_path: Path, small_clip: Path, run: InProcess
) -> None:
    model = write_model(tmp_path / "two.safetensors", "rgb", "flow")
    finished = run("classify", small_clip, "--model", model, "--crops", "3", "--explain", "why", "--jsonl")
    assert finished.returncode == 0, finished.stderr
    answer = json.loads(finished.stdout)["labels"][0]["label"]
    document = json.loads((tmp_path / "why" / "small.json").read_text())
    assert document["answer"] == answer
    assert [stream["modality"] for stream in document["streams"]] == ["rgb", "flow"]
    for stream in document["streams"]:
        starts = [clip["start_s"] for clip in stream["clips"]]
        assert starts == sorted(starts)
        assert all(abs(sum(clip["scores"].values()) - 1) < 1e-4 for clip in stream["clips"])
    picture = cv2.imread(str(tmp_path / "why" / "small.png"))
    assert picture.shape == (2 * (22 + 144), 8 * 144, 3)
    assert picture[22 + 144 + 22 :, 7 * 144 :].max() == 0  # seven flows below eight frames
