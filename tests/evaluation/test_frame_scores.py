"""Frame-wise metrics against MS-TCN's numbers and by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vpipe.errors import InputError
from vpipe.evaluation.frames import FrameScores, edit_score, frame_scores

FIXTURES = Path(__file__).parent.parent / "fixtures" / "detection"
SETTINGS = {"bg_background": ["background"], "bg_none": []}


def runs(case: dict, kind: str) -> dict:
    return {video: [tuple(run) for run in entry[kind]] for video, entry in case["videos"].items()}


def assert_corpus(case: dict) -> None:
    truth, found = runs(case, "gt_rle"), runs(case, "pred_rle")
    for setting, background in SETTINGS.items():
        official = case["official_mstcn"][setting]
        got = frame_scores(truth, found, background)
        assert 100 * got.pa == pytest.approx(official["corpus"]["acc"], abs=1e-9)
        assert got.edit == pytest.approx(official["corpus"]["edit"], abs=1e-9)
        for k in (10, 25, 50):
            assert got.f1[k] == pytest.approx(official["corpus"][f"F1@{k}"], abs=1e-9)
    assert_confusion(frame_scores(truth, found), case["confusion_metrics"])


def assert_confusion(got: FrameScores, official: dict) -> None:
    table = np.array(official["confusion_gt_rows_pred_cols"], dtype=float)
    names, actual, hit = official["class_order"], table.sum(axis=1), np.diag(table)
    iou = hit / (actual + table.sum(axis=0) - hit)
    assert got.pa == pytest.approx(official["frame_accuracy"], abs=1e-9)
    assert got.mpa == pytest.approx(official["mean_class_accuracy"], abs=1e-9)
    assert got.miou == pytest.approx(official["mIoU"], abs=1e-9)
    assert got.fwiou == pytest.approx(float((actual * iou).sum() / actual.sum()), abs=1e-9)
    assert got.without_background == pytest.approx(
        {
            "pa": official["frame_accuracy_without_background_frames"],
            "mpa": official["mean_class_accuracy_without_background"],
            "miou": official["mIoU_without_background"],
        },
        abs=1e-9,
    )
    assert list(got.classes) == sorted(names)
    for name, accuracy, value in zip(
        names, official["per_class_accuracy"], official["per_class_iou"], strict=True
    ):
        assert got.classes[name]["accuracy"] == pytest.approx(accuracy, abs=1e-9)
        assert got.classes[name]["iou"] == pytest.approx(value, abs=1e-9)


def test_official_numbers() -> None:
    assert_corpus(json.loads((FIXTURES / "seg_edge_regular.json").read_text()))


def test_official_numbers_on_real_annotations(shared_dir: Path) -> None:
    assert_corpus(json.loads((shared_dir / "fixtures" / "detection" / "seg_thumos_5fps.json").read_text()))


@pytest.mark.parametrize("name", ["seg_edge_regular", "seg_edge_irregular"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_every_video_where_the_official_code_has_a_number(name: str, setting: str) -> None:
    case = json.loads((FIXTURES / f"{name}.json").read_text())
    truth, found = runs(case, "gt_rle"), runs(case, "pred_rle")
    for video, official in case["official_mstcn"][setting]["per_video"].items():
        got = frame_scores({video: truth[video]}, {video: found[video]}, SETTINGS[setting])
        if official["edit"] != "NaN":
            assert got.edit == pytest.approx(official["edit"], abs=1e-9), video
        for k, counts in official["f"].items():
            if isinstance(counts, list):
                right, wrong, missed = counts
                f1 = 200 * right / (2 * right + wrong + missed) if right else 0.0
                assert got.f1[round(100 * float(k))] == pytest.approx(f1, abs=1e-9), video
        if isinstance(official["correct_total"], list):
            right, total = official["correct_total"]
            assert got.pa == pytest.approx(right / total, abs=1e-12), video


def test_where_the_official_code_fails() -> None:
    nothing, some = [("background", 30)], [("background", 10), ("A", 10), ("background", 10)]
    none = frame_scores({"v": nothing}, {"v": nothing})
    assert (none.edit, none.f1[10], none.pa) == (100.0, 0.0, 1.0)
    assert none.without_background == {"pa": None, "mpa": None, "miou": None}
    assert [w.code for w in none.warnings] == ["no_segments"]
    false = frame_scores({"v": nothing}, {"v": some})
    assert (false.edit, false.f1[10]) == (0.0, 0.0)
    # The false positive counts: half precision over both videos.
    both = frame_scores({"v": nothing, "w": some}, {"v": some, "w": some})
    assert both.f1[50] == pytest.approx(200 / 3)


def test_other_lengths() -> None:
    truth = {"v": [("A", 30), ("B", 10)]}
    short = frame_scores(truth, {"v": [("A", 30), ("B", 5)]})
    assert short.pa == 35 / 40
    assert short.classes["B"]["accuracy"] == 0.5
    assert (short.edit, short.f1[50]) == (100.0, 100.0)
    assert short.warnings[0].numbers == {"videos": 1, "missing": 5, "extra": 0}
    long = frame_scores(truth, {"v": [("A", 30), ("B", 15)]})
    assert (long.pa, long.miou, long.f1[50]) == (1.0, 1.0, 100.0)
    assert long.warnings[0].numbers == {"videos": 1, "missing": 0, "extra": 5}


def test_missing_and_unknown_videos() -> None:
    truth = {"v": [("A", 10)], "w": [("A", 10)]}
    got = frame_scores(truth, {"v": [("A", 10)], "x": [("B", 99)]})
    assert (got.pa, got.edit, got.f1[10]) == (0.5, 50.0, pytest.approx(200 / 3))
    assert list(got.classes) == ["A"]
    assert [(w.code, w.numbers["videos"]) for w in got.warnings] == [
        ("missing_videos", 1),
        ("unknown_videos", 1),
    ]
    assert [w.code for w in frame_scores(truth, {}).warnings] == ["no_predictions"]
    with pytest.raises(InputError, match="no frame"):
        frame_scores({"v": []}, truth)


def plain_edit(a: str, b: str) -> float:
    table = [[max(i, j) for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            swap = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
            table[i][j] = min(table[i - 1][j] + 1, table[i][j - 1] + 1, swap)
    return (1 - table[-1][-1] / max(len(a), len(b))) * 100


@pytest.mark.parametrize("seed", range(30))
def test_edit_score_equals_the_plain_recurrence(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = ("".join(rng.choice(list("abc"), rng.integers(1, 12))) for _ in range(2))
    assert edit_score(a, b) == pytest.approx(plain_edit(a, b), abs=1e-12)
    assert edit_score(a, "") == 0.0
