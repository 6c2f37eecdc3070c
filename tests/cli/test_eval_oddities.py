"""Everything odd in files of segments, through the installed `vpipe eval`, as docs/evaluation.md says."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parents[1] / "fixtures" / "detection"

Score = Callable[..., dict[str, Any]]


@pytest.fixture
def score(vpipe: Any, tmp_path: Path) -> Score:
    """`score(truth notes by video, predictions by video, *options)` -> the JSON of `eval detection`."""

    def run(
        truth: Any, found: Any, *options: object, kind: str = "detection", tiou: str | None = "0.5"
    ) -> dict[str, Any]:
        if "database" not in truth:
            entries = {v: {"subset": "s", "duration": 100.0, "annotations": n} for v, n in truth.items()}
            truth = {"database": entries}
        (tmp_path / "gt.json").write_text(json.dumps(truth))
        text = (
            found
            if isinstance(found, str)
            else json.dumps(found if "results" in found else {"results": found})
        )
        (tmp_path / "p.json").write_text(text)
        words = ["--ground-truth", "gt.json", "--predictions", "p.json", "--json", *map(str, options)]
        done = vpipe("eval", kind, *words, *([] if tiou is None else ["--tiou", tiou]))
        assert done.returncode == 0, done.stderr

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} in the scores")

        return json.loads(done.stdout, parse_constant=refuse)

    return run


def note(start: Any, end: Any, score: float = 0.5, label: str = "a") -> dict[str, Any]:
    return {"segment": [start, end], "score": score, "label": label}


def numbers(scores: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Warning code -> its numbers."""
    return {w.pop("code"): {k: v for k, v in w.items() if k != "message"} for w in scores["warnings"]}


ODD = ("blocked", "duplicate_gt", "no_predictions", "reversed_negative_overlong", "ties_small", "unicode")


@pytest.mark.parametrize("name", [*ODD, "unknown_label", "unknown_videos", "zero_length"])
def test_official_numbers(score: Score, tmp_path: Path, name: str) -> None:
    path = FIXTURES / f"det_edge_{name}.json"
    case = json.loads(path.read_text(encoding="utf-8"))
    (tmp_path / "blocked.json").write_text(json.dumps(case["blocked_videos"]))
    options = ["--subset", case["subset"], "--blocked", "blocked.json"]
    tiou = ",".join(map(repr, case["tious"]))
    official = case["expected"]["activitynet_py3"]
    dedup = ["--dedup-gt"] if "error" in official or "duplicate" in path.stem or "zero" in path.stem else []
    official = case["expected"]["opentad"] if dedup else official
    got = score(case["ground_truth"], case["prediction"], *options, *dedup, tiou=tiou)
    assert ("score_ties" in numbers(got)) == case["has_score_ties"]
    if not case["has_score_ties"]:
        assert list(got["map"].values()) == pytest.approx(official["mAP"], abs=1e-9)
        assert got["average_map"] == pytest.approx(official["average_mAP"], abs=1e-9)
        for label, values in official["ap_per_class"].items():
            assert list(got["ap"][label].values()) == pytest.approx(values, abs=1e-9)


@pytest.mark.parametrize("name", ["plain", "unknown_videos", "zero_length", "reversed_negative_overlong"])
def test_official_proposals(score: Score, name: str) -> None:
    case = json.loads((FIXTURES / f"det_edge_{name}.json").read_text())
    official = case["expected"]["proposal_100"]
    options = ["--subset", case["subset"], "--max-proposals", "100"]
    got = score(case["ground_truth"], case["prediction"], *options, kind="proposals", tiou=None)
    assert got["ar"] == pytest.approx(official["avg_recall"], abs=1e-9)
    assert 100 * got["auc"] == pytest.approx(official["auc_percent"], abs=1e-9)


def test_repeated_annotations(score: Score) -> None:
    truth, found = {"v": [note(0, 10), note(0.0005, 10), note(5, 5)]}, {"v": [note(0, 10)]}
    assert score(truth, found)["map"] == {"0.50": pytest.approx(1 / 3)}
    got = score(truth, found, "--dedup-gt")
    assert got["map"] == {"0.50": 1.0}
    assert numbers(got)["duplicate_truth"] == {"repeated": 1, "without_length": 1}


def test_unknown_labels(score: Score) -> None:
    got = score({"v": [note(0, 10)]}, {"v": [note(0, 10, 0.1), note(0, 10, 0.9, "z"), note(0, 10, 0.8, "y")]})
    assert got["map"] == {"0.50": 1.0}
    assert numbers(got)["unknown_label"] == {"predictions": 2, "labels": 2}


def test_blocked_videos(score: Score, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("v_w\n")
    truth = {"v": [note(0, 10)], "w": [note(0, 10, label="only here"), note(20, 30)]}
    got = score(truth, {"v": [note(0, 10, 0.1)], "v_w": [note(50, 60, 0.9)]}, "--blocked", "out.txt")
    assert got["ap"] == {"a": {"0.50": 1.0}}
    assert numbers(got) == {"blocked_videos": {"videos": 1, "truths": 2}}


def test_numbers_as_strings(score: Score) -> None:
    got = score({"v": [note("0", "10")]}, {"v": [{"label": "a", "score": "0.5", "segment": ["0.0", "10"]}]})
    assert got["map"] == {"0.50": 1.0}
    assert len([w for w in got["warnings"] if w["code"] == "string_numbers"]) == 2


def test_times_that_make_no_sense_are_scored_as_they_stand(score: Score) -> None:
    found = [note(10, 0, 0.9), note(-5, 10, 0.8), note(90, 130, 0.7), note(7, 7, 0.6)]
    got = score({"v": [note(-5, 10), note(90, 130)]}, {"v": found})
    # By hand: wrong, right, right, wrong; the envelope is 2/3 at both right ones.
    assert got["map"] == {"0.50": pytest.approx(2 / 3)}
    assert numbers(got) == {
        "zero_length_segments": {"truths": 0, "predictions": 1},
        "reversed_segments": {"truths": 0, "predictions": 1},
        "negative_segments": {"truths": 1, "predictions": 1},
        "overlong_segments": {"truths": 1, "predictions": 1},
    }


def test_segments_without_length(score: Score) -> None:
    """0/0 matches at every threshold, as in the official code; with --dedup-gt nothing is 0/0."""
    truth, found = {"v": [note(50, 50), note(0, 10)]}, {"v": [note(3, 3, 0.9), note(0, 10, 0.8)]}
    assert score(truth, found, tiou="0.95")["map"] == {"0.95": 1.0}
    assert score(truth, found, "--dedup-gt", tiou="0.95")["map"] == {"0.95": 0.5}
    assert score(truth, found, kind="proposals")["ar"][-1] == 0.5  # no match there, as in the official code


@pytest.mark.parametrize("found", ["", "\n", '{"results": {}}', '{"results": {"v": []}}', '{"results": []}'])
def test_empty_results(score: Score, found: str) -> None:
    truth = {"v": [note(0, 10)]}
    assert score(truth, found)["average_map"] == 0.0
    got = score(truth, found, kind="proposals")
    assert (got["auc"], set(got["ar"])) == (0.0, {0.0})
    assert numbers(got) == {"no_predictions": {}}


def test_unknown_and_missing_videos(score: Score) -> None:
    found = {"v": [note(0, 10, 0.1)], "nobody": [note(0, 10, 0.9)]}
    got = score({"v": [note(0, 10)], "w": [note(0, 10)]}, found)
    assert got["map"] == {"0.50": 0.25}
    assert numbers(got)["unknown_videos"] == {"predictions": 1, "videos": 1}


def test_not_finite_and_repeated(score: Score) -> None:
    text = (
        '{"results": {"v": [], "w": [{"label": "a", "score": NaN, "segment": [0, 10]}],'
        '"v": [{"label": "a", "score": 1, "segment": [0, 10]}]}}'
    )
    got = score({"v": [note(0, 10)], "w": [note(0, 10)]}, text)
    assert got["map"] == {"0.50": 0.5}
    assert numbers(got) == {"not_finite": {"segments": 1}, "repeated_videos": {"videos": 1}}


@pytest.mark.parametrize(("theirs", "ours"), [("v_x", "x"), ("x", "v_x"), ("v_x", "v_x")])
def test_ids_with_and_without_v(score: Score, theirs: str, ours: str) -> None:
    got = score({theirs: [note(0, 10)]}, {ours: [note(0, 10)]})
    assert (got["map"], got["warnings"]) == ({"0.50": 1.0}, [])


def test_ids_that_differ_by_v_alone_stay_apart(score: Score) -> None:
    got = score({"x": [note(0, 10)], "v_x": [note(50, 60)]}, {"x": [note(0, 10)], "v_x": [note(50, 60, 0.4)]})
    assert got["map"] == {"0.50": 1.0}


def test_names_in_other_scripts(score: Score) -> None:
    got = score({"видео": [note(0, 10, label="跳")]}, {"видео": [note(0, 10, label="跳")]})
    assert got["ap"] == {"跳": {"0.50": 1.0}}


def test_half_characters_in_names(vpipe: Any, score: Score) -> None:
    got = score({"v": [note(0, 10, label="a\ud800")]}, {"v\udc00": [note(0, 10, label="a\ud800")]})
    assert list(got["ap"]) == ["a\\ud800"]
    done = vpipe("eval", "detection", "--ground-truth", "gt.json", "--predictions", "p.json")
    assert done.returncode == 0, done.stderr
    assert "v\\udc00" in done.stderr


def test_ties_are_counted(score: Score) -> None:
    got = score({"v": [note(0, 10)]}, {"v": [note(0, 10), note(50, 60)]})
    assert got["map"] == {"0.50": 0.5}
    assert numbers(got) == {"score_ties": {"ties": 1}}


def test_warnings_go_to_stderr_beside_the_table(vpipe: Any, score: Score) -> None:
    score({"v": [note(0, 10)]}, {})
    done = vpipe("eval", "detection", "--ground-truth", "gt.json", "--predictions", "p.json", "--tiou", "0.5")
    assert done.stderr == "vpipe: warning: there are no predictions; every score is 0 [no_predictions]\n"
    assert done.stdout.splitlines()[-1] == "average   0.00"
