"""Frame labels from folders, JSON and rows, and painted from segments."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from vpipe.errors import InputError
from vpipe.evaluation.frame_labels import read_frame_predictions, read_frame_truth
from vpipe.evaluation.frames import frame_scores

RUNS = [("background", 2), ("cut", 3)]
LABELS = ["background"] * 2 + ["cut"] * 3


def truth(path: Path, **options: Any):
    return read_frame_truth(path, **{"fps": 1.0, "background": "background", **options})


def write(path: Path, document: object) -> Path:
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


@pytest.mark.parametrize(
    "document",
    [
        {"v": LABELS},
        {"v": [["background", 2], ["cut", 1], ["cut", 0], ["cut", 2]]},
        {"videos": {"v": LABELS}},
        {"results": {"v": LABELS}, "external_data": {"used": False}, "labels": ["a", "b"]},
        {"results": [{"video_id": "v", "frame_labels": LABELS}]},
        json.dumps({"video_id": "v", "frame_labels": RUNS}) + "\n",
    ],
)
def test_documents(tmp_path: Path, document: object) -> None:
    got = truth(write(tmp_path / "gt.json", document))
    assert got.runs == {"v": RUNS}
    assert got.native


def test_folders_of_both_kinds(tmp_path: Path) -> None:
    (tmp_path / "gt").mkdir()
    (tmp_path / "found").mkdir()
    write(tmp_path / "gt" / "v.txt", "\n".join(LABELS) + "\n")
    write(tmp_path / "gt" / ".hidden", "x")
    write(tmp_path / "found" / "v_v", "### Frame level recognition: ###\n" + " ".join(LABELS))
    got = truth(tmp_path / "gt")
    assert got.runs == {"v": RUNS}
    found, _ = read_frame_predictions(tmp_path / "found", got, fps=1.0, background="background")
    assert found == {"v": RUNS}
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no label file"):
        truth(tmp_path / "empty")


def test_segments_are_painted(tmp_path: Path) -> None:
    notes = [{"segment": [0.5, 2], "label": "a"}, {"segment": [1, 3.1], "label": "b"}]
    database = {
        "v": {"subset": "s", "duration": 4, "annotations": notes},
        "still": {"subset": "s", "duration": 1.0, "annotations": []},
        "unsaid": {"subset": "s", "annotations": [{"segment": [-1, 1], "label": "a"}]},
        "other": {"subset": "t", "duration": 4, "annotations": notes},
    }
    path = write(tmp_path / "gt.json", {"database": database})
    got = truth(path, fps=10.0, subset="s")
    assert not got.native
    assert got.runs == {
        "v": [("background", 5), ("a", 5), ("b", 21), ("background", 9)],
        "still": [("background", 10)],
        "unsaid": [("a", 10)],
    }
    assert set(truth(path, subset="s", blocked=["v_v"]).runs) == {"still", "unsaid"}


def test_the_higher_score_paints_over_the_lower(tmp_path: Path) -> None:
    gt = truth(write(tmp_path / "gt.json", {"v": [["x", 6]]}))
    notes = [
        {"label": "a", "score": 0.9, "segment": [2, 4]},
        {"label": "b", "score": 0.1, "segment": [0, 99]},
    ]
    path = write(tmp_path / "p.json", {"results": {"v_v": notes, "unknown": notes}})
    found, _ = read_frame_predictions(path, gt, fps=1.0, background="background")
    assert found == {"v": [("b", 2), ("a", 2), ("b", 2)], "unknown": []}


def test_rows_of_detect_meet_frame_labels_at_their_frames(tmp_path: Path) -> None:
    """Times of a video of 5 frames a second mean nothing here; its frame indices do."""
    gt = truth(write(tmp_path / "gt.json", {"v": LABELS}))
    segment = {"label": "cut", "score": 1, "start_s": 0.4, "end_s": 1.0, "start_frame": 2, "end_frame": 5}
    rows = {"results": [{"video_id": "v", "segments": [segment]}], "failures": []}
    found, _ = read_frame_predictions(write(tmp_path / "p.json", rows), gt, fps=25.0, background="background")
    assert found == {"v": RUNS}
    assert frame_scores(gt.runs, found).pa == 1.0


@pytest.mark.parametrize(
    "document",
    [{"v": [1.5]}, {"v": [["a", -1]]}, {"v": [["a", 1, 2]]}, {"v": [["a", "b"]]}, {"v": ["a", None]}],
)
def test_lists_that_are_no_labels(tmp_path: Path, document: object) -> None:
    with pytest.raises(InputError) as caught:
        truth(write(tmp_path / "gt.json", document))
    assert caught.value.code == "not_ground_truth"
    assert "gt.json" in caught.value.message
    assert "'v'" in caught.value.message


@pytest.mark.parametrize("duration", [float("nan"), float("inf"), -1, "long", True])
def test_durations_that_are_none(tmp_path: Path, duration: object) -> None:
    """The last annotation ends the video then."""
    entry = {"duration": duration, "annotations": [{"segment": [1, 3], "label": "a"}]}
    got = truth(write(tmp_path / "gt.json", {"database": {"v": entry}}))
    assert got.runs == {"v": [("background", 1), ("a", 2)]}


def test_durations_beyond_reason(tmp_path: Path) -> None:
    entry = {"duration": 1e12, "annotations": [{"segment": [1, 3], "label": "a"}]}
    with pytest.raises(InputError, match="check its duration"):
        truth(write(tmp_path / "gt.json", {"database": {"v": entry}}))


def test_other_documents(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        truth(write(tmp_path / "gt.json", {"a": 1}))
    gt = truth(write(tmp_path / "gt.json", {"v": LABELS}))
    with pytest.raises(InputError) as caught:
        read_frame_predictions(write(tmp_path / "p.json", {"a": 1}), gt, fps=1.0, background="background")
    assert caught.value.code == "not_predictions"


@pytest.mark.parametrize("document", [{}, {"v": []}, []])
def test_nothing_was_predicted(tmp_path: Path, document: object) -> None:
    gt = truth(write(tmp_path / "gt.json", {"v": LABELS}))
    found = read_frame_predictions(write(tmp_path / "p.json", document), gt, fps=1.0, background="background")
    assert found == ({}, [])
