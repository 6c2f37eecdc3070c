"""Learned heads from the shell: train, detect from features or videos, frame labels, what is refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vpipe.detection.heads.head import HeadHeader, build_head, write_head
from vpipe.recognition.features_file import Spacing

from ..training.test_heads import SPACING, made_up, write_truth
from .inprocess import InProcess
from .small_models import write_model

SCRIPT = Path(__file__).parents[2] / "docs" / "thumos-from-shell.sh"
PLAIN = ["--stride", str(SPACING.stride), "--window", str(SPACING.window), "--fps", str(SPACING.fps)]


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    compiled_kernels: Path,
) -> InProcess:
    monkeypatch.setenv("XDG_CACHE_HOME", str(compiled_kernels))
    return InProcess(tmp_path, monkeypatch, capsys)


def untrained(path: Path, kind: str, channels: int, spacing: Spacing, model: dict | None = None) -> Path:
    """A head that knows nothing, for everything but its answer."""
    network, hyper = build_head(kind, channels, 3)
    labels = ("jump", "throw", "background")
    write_head(path, HeadHeader(kind, path.stem, hyper, labels, spacing, model, "untrained", "none"), network)
    return path


def test_train_detect_eval_on_plain_features(tmp_path: Path, run: InProcess) -> None:
    """Feature files of other tools, spacing by options; frame labels go straight into `eval frames`."""
    training = made_up(tmp_path / "V", 10, seed=1, subset="Validation")
    truth = write_truth(tmp_path / "truth.json", training, made_up(tmp_path / "F", 3, seed=2))
    arguments = ["--features", "V", "--ground-truth", truth, "--subset", "Validation", "-o", "h.safetensors"]
    finished = run("train", "--head", "mstcn", *arguments, *PLAIN, "--epochs", "14", "--seed", "5", "-j", "1")
    assert (finished.returncode, finished.stdout) == (0, "h.safetensors\n"), finished.stderr
    assert "10 videos" in finished.stderr
    assert run("train", "--head", "mstcn", *arguments, *PLAIN).returncode == 2  # it is there already
    detect = [
        "detect",
        "--features",
        "F",
        "--head",
        "h.safetensors",
        *PLAIN,
        "--anet",
        "found.json",
        "-j",
        "1",
    ]
    finished = run(*detect, "--jsonl")
    assert finished.returncode == 0, finished.stderr
    rows = [json.loads(line) for line in finished.stdout.splitlines()]
    assert [row["video_id"] for row in rows] == sorted(path.stem for path in (tmp_path / "F").iterdir())
    for row in rows:
        assert sum(frames for _, frames in row["frame_labels"]) == row["frames"]
    (tmp_path / "rows.jsonl").write_text(finished.stdout)
    scored = json.loads(
        run(
            "eval", "detection", "--ground-truth", truth, "--subset", "Test", "--predictions", "found.json",
            "--tiou", "0.5", "--json",
        ).stdout
    )  # fmt: skip
    assert scored["map"]["0.50"] > 0.75
    finished = run(
        "eval", "frames", "--ground-truth", truth, "--subset", "Test", "--predictions", "rows.jsonl",
        "--fps", str(SPACING.fps), "--json",
    )  # fmt: skip
    assert json.loads(finished.stdout)["pa"] > 0.85, finished.stderr


def test_a_video_and_its_features_give_the_same(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    assert run("features", small_clip, "--model", model, "-o", "F", "--stride", "1").returncode == 0
    made_by = json.loads((tmp_path / "F" / "small.json").read_text())["model"]
    names = {"name": "small", "hash": made_by["hash"]}
    head = untrained(tmp_path / "h.safetensors", "mstcn", 8, Spacing(8, 1, 8, 3.5), names)
    options = ["--head", head, "--min-score", "0", "--jsonl"]
    alone = run("detect", "--features", "F", *options)
    assert alone.returncode == 0, alone.stderr
    whole = run("detect", small_clip, "--model", model, "--dtype", "fp32", *options)
    assert whole.returncode == 0, whole.stderr
    one, other = json.loads(alone.stdout), json.loads(whole.stdout)
    assert one["frame_labels"] == other["frame_labels"]
    assert len(one["segments"]) == len(other["segments"])
    for mine, theirs in zip(one["segments"], other["segments"], strict=True):
        assert {k: v for k, v in mine.items() if k != "score"} == pytest.approx(
            {k: v for k, v in theirs.items() if k != "score"}, abs=1e-5
        )
        assert mine["score"] == pytest.approx(theirs["score"], abs=1e-4)
    text = run("detect", "--features", "F", "--head", head, "--min-score", "1").stdout
    assert text == "F/small.npy  2.00 s, 24 frames: nothing found\n"


def test_one_bad_feature_file_does_not_stop_the_rest(tmp_path: Path, run: InProcess) -> None:
    head = untrained(tmp_path / "h.safetensors", "stpp", 5, SPACING)
    (tmp_path / "F").mkdir()
    tables = {"good": np.ones((20, 5)), "nan": np.full((20, 5), np.nan), "wide": np.ones((20, 6))}
    for name, table in tables.items():
        np.save(tmp_path / "F" / f"{name}.npy", table.astype(np.float32))
    finished = run("detect", "--features", "F", "--head", head, *PLAIN, "--json")
    assert finished.returncode == 3
    document = json.loads(finished.stdout)
    assert [row["video_id"] for row in document["results"]] == ["good"]
    assert [row["error"]["code"] for row in document["failures"]] == ["bad_features", "other_width"]
    finished = run("detect", "--features", "F", "--head", head, "--stride", "9", *PLAIN[2:], "--json")
    failures = json.loads(finished.stdout)["failures"]
    assert "other_spacing" in {row["error"]["code"] for row in failures}
    assert "stride 9" in finished.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["detect", "a.mp4", "--features", "F", "--head", "h.safetensors"], "bad_flags"),
        (["detect", "--features", "F"], "no_head"),
        (["detect", "--features", "F", "--head", "h.safetensors", "--shots"], "bad_flags"),
        (["detect", "--features", "gone", "--head", "h.safetensors"], "no_features"),
        (["detect", "--features", "E", "--head", "h.safetensors"], "no_features"),
        (["detect", "--features", "F", "--head", "no-such"], "unknown_head"),
        (["detect", "--features", "F", "--head", "h.safetensors", "--stride", "4"], "bad_spacing"),
        (["detect", "a.mp4", "--stride", "4"], "bad_flags"),
        (["detect", "-", "--head", "motion-mstcn"], "not_for_streams"),
        (["detect", "-", "--head", "h.safetensors"], "other_model"),
        (["detect", "a.mp4", "--head", "h.safetensors"], "other_model"),
        (["train", "--head", "stpp", "-o", "x.safetensors"], "bad_flags"),
        (["train", "--features", "F", "-o", "x.safetensors"], "bad_flags"),
        (["train", "--head", "stpp", "--features", "F", "--ground-truth", "t.json", "-o", "x.pt"],
         "bad_output"),
        (["train", "--head", "tcn", "--features", "F", "--ground-truth", "t.json", *PLAIN, "-o",
          "x.safetensors"], "unknown_head"),
    ],
)  # fmt: skip
def test_what_is_refused(
    arguments: list[str], code: str, tmp_path: Path, run: InProcess, one_error: Callable[..., str]
) -> None:
    made_up(tmp_path / "F", 1)
    (tmp_path / "E").mkdir()
    write_truth(tmp_path / "t.json", made_up(tmp_path / "F", 1))
    untrained(tmp_path / "h.safetensors", "stpp", 12, SPACING, {"name": "other", "hash": "0" * 64})
    finished = run(*arguments)
    assert finished.returncode == 2, finished.stderr
    one_error(finished, f"[{code}]")


@pytest.mark.slow
def test_the_script_from_features(tmp_path: Path, clean_environment: dict, vpipe_executable: Path) -> None:
    """THUMOS14's layout with feature files that are there already."""
    training = made_up(tmp_path / "W" / "features" / "validation", 8, seed=1, subset="Validation")
    test = made_up(tmp_path / "W" / "features" / "test", 3, seed=2)
    truth = write_truth(tmp_path / "truth.json", training, test)
    assert sorted(test)[0] == "video_test_0000000"
    result = script(
        vpipe_executable, clean_environment | {"SPACING": " ".join(PLAIN)}, "", truth, tmp_path / "W"
    )
    assert set(result["map"]) == {"0.30", "0.40", "0.50", "0.60", "0.70"}
    assert result["average_map"] > 0.7


@pytest.mark.slow
def test_the_script_from_videos(
    tmp_path: Path, clean_environment: dict, vpipe_executable: Path, run: InProcess
) -> None:
    """Generated videos under THUMOS14's names, by the packaged model."""
    database = {}
    (tmp_path / "videos").mkdir()
    for subset, count, seed in (("Validation", 6, 81), ("Test", 2, 82)):
        options = ["--count", str(count), "--minutes", "0.5", "--seed", str(seed), "--fps", "10"]
        labels = ["--labels", "static,pan_left,zoom_in", "--size", "160x120"]
        assert run("synth", "untrimmed", "-o", subset, *options, *labels).returncode == 0
        made = json.loads((tmp_path / subset / "truth.json").read_text())["database"]
        for number, entry in enumerate(made.values()):
            name = f"video_{subset.lower()}_{number:07d}"
            shutil.copy(tmp_path / subset / entry["file"], tmp_path / "videos" / f"{name}.mp4")
            database[name] = {**entry, "subset": subset}
    truth = write_truth(tmp_path / "truth.json", database)
    result = script(vpipe_executable, clean_environment, tmp_path / "videos", truth, tmp_path / "W")
    assert result["average_map"] > 0.5


def script(
    vpipe_executable: Path, environment: dict, videos: Path | str, truth: Path, work: Path
) -> dict[str, dict]:
    """Runs the script as its first lines say; what it printed last, the JSON of `vpipe eval`."""
    path = f"{vpipe_executable.parent}{os.pathsep}{environment['PATH']}"
    finished = subprocess.run(
        ["sh", SCRIPT, str(videos), truth, work],
        env=environment | {"PATH": path, "EPOCHS": "20", "VPIPE_JOBS": "1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert finished.returncode == 0, finished.stderr
    text = finished.stdout
    return json.loads(text[text.index("{") :])
