from __future__ import annotations

import json
from pathlib import Path

import pytest

from vpipe.errors import InputError
from vpipe.evaluation.formats import read_json, results_document, results_table, truth_table

ROW = {"video_id": "v", "segments": [{"label": "pan_left", "score": 0.5, "start_s": 1.0, "end_s": 2.5}]}


def test_results_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps(results_document([ROW, {"video_id": "empty", "segments": []}])))
    document = read_json(path)
    assert document["results"]["empty"] == []
    table = results_table(document)
    assert (table.video, table.label) == (["v"], ["pan_left"])
    assert (table.start_s[0], table.end_s[0], table.score[0]) == (1.0, 2.5, 0.5)


def test_truth_takes_one_subset_and_string_segments() -> None:
    note = {"segment": ["1.5", "2.5"], "label": "a"}
    database = {
        "one": {"subset": "validation", "annotations": [note]},
        "two": {"subset": "training", "annotations": [note]},
        "out": {"subset": "validation", "annotations": [note]},
    }
    table = truth_table({"database": database}, subset="validation", blocked=["out"])
    assert (table.video, table.start_s.tolist()) == (["one"], [1.5])


@pytest.mark.parametrize("document", [[], {}, {"database": {"v": {"annotations": [{"segment": [1]}]}}}])
def test_other_documents_are_refused(document: object) -> None:
    with pytest.raises(InputError) as caught:
        truth_table(document, name="gt.json")  # type: ignore[arg-type]
    assert caught.value.code == "not_ground_truth"
    assert "gt.json" in caught.value.message


def test_refusals_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json"):
        read_json(tmp_path / "nowhere.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad\.json.*line 1"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(InputError, match=r"p\.json"):
        results_table({"results": {"v": [{"label": "a"}]}}, name="p.json")
    with pytest.raises(InputError, match="--subset"):
        truth_table({"database": {}}, subset="test")
