"""`vpipe eval` from the shell."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from vpipe.cli.eval import parse_tious
from vpipe.errors import UsageError

from .inprocess import InProcess

TRUTH = {
    "database": {
        "a": {"subset": "test", "annotations": [{"segment": [1, 3], "label": "pan"}]},
        "b": {"subset": "test", "annotations": [{"segment": [0, 4], "label": "zoom"}]},
    }
}
FOUND = [
    {"label": "pan", "score": 0.9, "segment": [1.0, 3.0]},
    {"label": "none", "score": 0.8, "segment": [1.0, 3.0]},
]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    (tmp_path / "truth.json").write_text(json.dumps(TRUTH))
    (tmp_path / "found.json").write_text(json.dumps({"results": {"a": FOUND}}))
    return InProcess(tmp_path, monkeypatch, capsys)


FILES = ("--ground-truth", "truth.json", "--predictions", "found.json")


def test_json(run: InProcess) -> None:
    finished = run("eval", "detection", *FILES, "--tiou", "0.5,0.75", "--json")
    assert finished.returncode == 0, finished.stderr
    scores = json.loads(finished.stdout)
    assert scores["schema"] == "vpipe.eval-detection/1"
    assert scores["map"] == {"0.50": 0.5, "0.75": 0.5}
    assert scores["ap"]["zoom"] == {"0.50": 0.0, "0.75": 0.0}
    assert scores["average_map"] == 0.5
    assert [w["code"] for w in scores["warnings"]] == ["unknown_label"]


def test_rows_of_detect_are_read_as_they_are(run: InProcess, tmp_path: Path) -> None:
    segment = {"label": "zoom", "score": 0.5, "start_s": 0.0, "end_s": 3.0, "start_frame": 0, "end_frame": 75}
    rows = {"schema": "vpipe.detect/1", "results": [{"video_id": "b", "segments": [segment]}]}
    (tmp_path / "found.json").write_text(json.dumps(rows))
    finished = run("eval", "detection", *FILES, "--tiou", "0.75:0.8:0.05")
    assert finished.stdout.splitlines() == [
        "tIoU      0.75   0.80",
        "pan       0.00   0.00",
        "zoom    100.00   0.00",
        "mAP      50.00   0.00",
        "average  25.00",
    ]


@pytest.mark.parametrize(
    ("arguments", "code", "exit_code"),
    [
        (["--subset", "training"], "no_truth", 1),
        (["--predictions", "nowhere.json"], "not_found", 1),
        (["--predictions", "truth.json"], "not_predictions", 1),
        (["--tiou", "50"], "bad_tiou", 2),
    ],
)
def test_faults(
    run: InProcess, one_error: Callable[..., str], arguments: list[str], code: str, exit_code: int
) -> None:
    finished = run("eval", "detection", *FILES, *arguments)
    assert finished.returncode == exit_code
    one_error(finished, f"[{code}]")


TWO = {
    "database": {
        "a": {"subset": "test", "annotations": [{"segment": [0, 10], "label": "goal"}]},
        "b": {"subset": "test", "annotations": [{"segment": [0, 9], "label": "Ambiguous"}]},
    }
}
GOALS = {
    "results": {
        "a": [{"label": "goal", "score": 0.5, "segment": [0, 10]}],
        "b": [{"label": "goal", "score": 0.9, "segment": [5, 6]}],
    }
}


@pytest.mark.parametrize(
    ("protocol", "ap"),
    [
        ("activitynet", {"goal": 0.5, "Ambiguous": 0.0}),
        ("thumos14", {"goal": 0.5}),  # Ambiguous is no class
        ("thumos14-kit", {"goal": 1.0}),  # and excuses the false positive
    ],
)
def test_protocols(run: InProcess, tmp_path: Path, protocol: str, ap: dict) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(TWO))
    (tmp_path / "found.json").write_text(json.dumps(GOALS))
    scores = json.loads(run("eval", "detection", *FILES, "--protocol", protocol, "--json").stdout)
    first = "0.50" if protocol == "activitynet" else "0.30"
    assert next(iter(scores["map"])) == first
    assert {label: values[first] for label, values in scores["ap"].items()} == ap
    assert ("map_11point" in scores) == (protocol == "thumos14-kit")


def test_lines_of_a_stream(run: InProcess, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(
        "".join(
            json.dumps({"video_id": v, "label": label, "score": 0.5, "start_s": s, "end_s": e}) + "\n"
            for v, label, s, e in [("a", "pan", 1, 3), ("b", "zoom", 0, 4)]
        )
    )
    assert json.loads(run("eval", "detection", *FILES, "--json").stdout)["average_map"] == 1.0


def test_proposals(run: InProcess, tmp_path: Path) -> None:
    (tmp_path / "found.json").write_text(
        json.dumps({"results": {"a": [{"score": 0.5, "segment": [1, 3]}, {"score": 0.4, "segment": [5, 6]}]}})
    )
    finished = run("eval", "proposals", *FILES, "--max-proposals", "2", "--json")
    scores = json.loads(finished.stdout)
    assert scores["schema"] == "vpipe.eval-proposals/1"
    assert scores["ar"] == [0.5, 0.5]
    assert scores["proposals_per_video"] == [1.0, 2.0]
    assert scores["auc"] == pytest.approx(0.5 * 1.5 / 2, rel=0.02)
    lines = run("eval", "proposals", *FILES, "--max-proposals", "all").stdout.splitlines()
    # One a video on average: half of the truth from AN 0.5 on, reached on the line from 0.49.
    assert lines[-1].split() == ["AUC", "25.25"]
    assert (
        len(json.loads(run("eval", "proposals", *FILES, "--max-proposals", "all", "--json").stdout)["ar"])
        == 100
    )


def test_classification(run: InProcess, tmp_path: Path) -> None:
    rows = [
        {"video_id": "a", "labels": [{"label": "zoom", "score": 0.6}, {"label": "pan", "score": 0.4}]},
        {"video_id": "b", "labels": [{"label": "zoom", "score": 1.0}]},
    ]
    (tmp_path / "found.json").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = json.loads(run("eval", "classification", *FILES, "--top", "1,2", "--json").stdout)
    assert scores["schema"] == "vpipe.eval-classification/1"
    assert scores["top_k"] == {"1": 0.5, "2": 1.0}
    assert scores["class_accuracy"] == {"pan": 0.0, "zoom": 1.0}
    assert scores["mean_class_accuracy"] == 0.5
    assert scores["ap"] == {"pan": 1.0, "zoom": 1.0}
    assert run("eval", "classification", *FILES, "--top", "2").stdout.splitlines() == [
        "                     top-1     AP",
        "pan                   0.00 100.00",
        "zoom                100.00 100.00",
        "top-2               100.00",
        "mean class accuracy  50.00",
        "mAP                 100.00",
    ]


def test_frames(run: InProcess, tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps({"a": ["background"] * 2 + ["cut"] * 6}))
    (tmp_path / "found.json").write_text(json.dumps({"v_a": [["background", 4], ["cut", 4]]}))
    scores = json.loads(run("eval", "frames", *FILES, "--json").stdout)
    assert scores["schema"] == "vpipe.eval-frames/1"
    assert [scores[key] for key in ("pa", "mpa", "miou")] == [0.75, (1 + 4 / 6) / 2, (0.5 + 4 / 6) / 2]
    assert scores["fwiou"] == pytest.approx(0.25 * 0.5 + 0.75 * 4 / 6)
    assert (scores["edit"], scores["f1"]) == (100.0, {"10": 100.0, "25": 100.0, "50": 100.0})
    assert scores["without_background"]["pa"] == 4 / 6
    assert (
        json.loads(run("eval", "frames", *FILES, "--background", "", "--json").stdout)["background"] is None
    )
    assert run("eval", "frames", *FILES).stdout.splitlines() == [
        "              acc    IoU     frames",
        "background 100.00  50.00          2",
        "cut         66.67  66.67          6",
        "pa          75.00",
        "mpa         83.33",
        "miou        58.33",
        "fwiou       62.50",
        "edit       100.00",
        "F1@10      100.00",
        "F1@25      100.00",
        "F1@50      100.00",
    ]


def test_segments_become_frames(run: InProcess) -> None:
    """Pan is found whole, zoom not at all; at 10 frames a second that is 20 and 40 frames."""
    scores = json.loads(run("eval", "frames", *FILES, "--fps", "10", "--json").stdout)
    assert scores["frames"] == 30 + 40
    assert scores["classes"]["pan"]["frames"] == 20
    assert scores["classes"]["zoom"]["accuracy"] == 0.0


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["detection", "--tiou", "0.5:0.9:1e-9"], "bad_tiou"),
        (["detection", "--tiou", "0.501,0.502"], "bad_tiou"),
        (["detection", "--protocol", "mine"], "bad_usage"),
        (["proposals", "--max-proposals", "0"], "bad_max_proposals"),
        (["proposals", "--max-proposals", "2.5"], "bad_max_proposals"),
        (["classification", "--top", "0"], "bad_top"),
        (["classification", "--top", ""], "bad_top"),
        (["frames", "--fps", "0"], "bad_fps"),
        (["frames", "--fps", "nan"], "bad_fps"),
    ],
)
def test_bad_values_are_refused_before_any_file_is_read(
    run: InProcess, one_error: Callable[..., str], arguments: list[str], code: str
) -> None:
    finished = run("eval", *arguments, "--ground-truth", "nowhere", "--predictions", "nowhere")
    assert finished.returncode == 2
    one_error(finished, f"[{code}]")


def test_thresholds() -> None:
    assert parse_tious("0.5:0.95:0.05") == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert parse_tious("0.3,0.7") == [0.3, 0.7]
    for bad in ("", "a", "0.5:0.9", "0.5:0.9:0", "0.9:0.5:0.1", "0,0.5", "1.5", "nan"):
        with pytest.raises(UsageError):
            parse_tious(bad)
