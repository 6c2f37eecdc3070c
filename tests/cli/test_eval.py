"""`vpipe eval detection` from the shell."""

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


def test_thresholds() -> None:
    assert parse_tious("0.5:0.95:0.05") == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
    assert parse_tious("0.3,0.7") == [0.3, 0.7]
    for bad in ("", "a", "0.5:0.9", "0.5:0.9:0", "0.9:0.5:0.1", "0,0.5", "1.5", "nan"):
        with pytest.raises(UsageError):
            parse_tious(bad)
