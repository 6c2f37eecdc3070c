"""Documents of truth and predictions in every shape that is read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vpipe.errors import InputError
from vpipe.evaluation.annotations import read_blocked, read_truth, same_id, truth_of
from vpipe.evaluation.documents import entries_of, entries_of_text, read_entries
from vpipe.evaluation.formats import SegmentTable, results_document
from vpipe.evaluation.predictions import Predictions, predictions_of, read_predictions

SEGMENT = {"label": "pan_left", "score": 0.5, "start_s": 1.0, "end_s": 2.5}
ROW = {"video_id": "v", "segments": [SEGMENT]}
NOTE = {"label": "pan_left", "score": 0.5, "segment": [1.0, 2.5]}


def rows(table: SegmentTable) -> list[tuple[str, str, float, float, float]]:
    times = zip(table.start_s.tolist(), table.end_s.tolist(), table.score.tolist(), strict=True)
    return [(v, label, *t) for v, label, t in zip(table.video, table.label, times, strict=True)]


def read(text: str, **options) -> Predictions:
    return predictions_of(entries_of_text(text, "p.json"), name="p.json", **options)


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "document",
    [
        {"version": "1.3", "results": {"v": [NOTE]}, "external_data": {}},
        {"results": {"v": [SEGMENT], "nothing": []}},
        {"schema": "vpipe.detect/1", "model": {}, "results": [ROW], "failures": []},
        [ROW],
        ROW,
        {"video_id": "v", **NOTE},
    ],
)
def test_one_segment_in_every_shape(document: object, indent: int | None) -> None:
    text = json.dumps(document, indent=indent)
    assert rows(read(text).segments) == [("v", "pan_left", 1.0, 2.5, 0.5)]
    assert rows(predictions_of(entries_of(document)).segments) == [("v", "pan_left", 1.0, 2.5, 0.5)]


def test_lines_of_rows_and_of_single_segments() -> None:
    lines = [ROW, {"video_id": "w", "segments": []}, {"video_id": "x", "status": "failed", "error": {}}]
    found = read("\n".join(json.dumps(line) for line in lines) + "\n\n")
    assert rows(found.segments) == [("v", "pan_left", 1.0, 2.5, 0.5)]
    assert found.videos == {"v", "w"}
    assert [w.code for w in found.warnings] == ["failed_videos"]


def test_single_segments_stay_in_the_order_of_the_file() -> None:
    """Of equal scores the later goes first, whatever its video."""
    lines = [{"video_id": v, **SEGMENT, "start_s": i} for i, v in enumerate(["a", "v_b", "b", "v_a", "a"])]
    events = read("".join(json.dumps(line) + "\n" for line in lines), known={"a", "b"})
    assert events.segments.video == ["a", "b", "b", "a", "a"]
    assert events.segments.start_s.tolist() == [0, 1, 2, 3, 4]
    assert events.warnings == []
    # A list of the same video does not count beside them.
    mixed = read("".join(json.dumps(line) + "\n" for line in [{**ROW, "video_id": "a"}, *lines]), known={"a"})
    assert mixed.segments.start_s.tolist() == [0, 1, 2, 3, 4]
    assert [w.code for w in mixed.warnings] == ["repeated_videos"]


@pytest.mark.parametrize(
    ("line", "said"), [({"start_s": None}, "has no segment"), ({"score": "x"}, "has no score")]
)
def test_a_bad_line_is_named(line: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=f"p.json: video 'vidéo': a segment {said}"):
        read("".join(json.dumps({"video_id": "vidéo", **SEGMENT, **more}) + "\n" for more in ({}, line)))


def test_an_empty_file_is_jsonl_without_a_line(tmp_path: Path) -> None:
    (tmp_path / "none.jsonl").write_text("\n")
    assert len(read_predictions(tmp_path / "none.jsonl").segments) == 0


def test_walking_text_gives_what_the_whole_document_gives() -> None:
    document = {"results": {"ä": [NOTE], 'b\n"': [], "c": [NOTE, NOTE]}, "x": [1, {"results": 2}], "y": {}}
    for indent in (None, 1):
        text = json.dumps(document, indent=indent)
        key = str
        assert sorted(map(key, entries_of_text(text, ""))) == sorted(map(key, entries_of(document)))


@pytest.mark.parametrize(
    "text",
    ["{", '{"results"', '{"results": {', '{"results": {"v": [1, }}', '{"results": {"v": []}', "{results: 1}",
     '{"results": {"v": []} "x": 1}', '{"results": [1 2]}', "[1", "nonsense", '{"a": 1}}', "[" * 100_000,
     "1" * 5000],
)  # fmt: skip
def test_text_that_is_not_json(text: str) -> None:
    with pytest.raises(InputError) as caught:
        list(entries_of_text(text, "p.json"))
    assert caught.value.code == "not_json"
    assert "p.json" in caught.value.message


def test_a_truncated_file_is_found_wherever_it_ends() -> None:
    text = json.dumps({"results": {"v": [NOTE], "w": [NOTE]}, "external_data": {"used": False}})
    for end in range(1, len(text)):
        with pytest.raises(InputError):
            read(text[:end])


def test_results_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    path.write_text("\ufeff" + json.dumps(results_document([ROW, {"video_id": "empty", "segments": []}])))
    found = read_predictions(path)
    assert rows(found.segments) == [("v", "pan_left", 1.0, 2.5, 0.5)]
    assert found.videos == {"v", "empty"}


@pytest.mark.parametrize(
    ("notes", "said"),
    [
        ([NOTE, {"label": "a", "score": 1}], "entry 2 has no segment"),
        ([{**NOTE, "segment": [1]}], "entry 1 has no segment"),
        ([{**NOTE, "segment": [1, None]}], "entry 1 has no segment"),
        ([{**NOTE, "segment": ["one", 2]}], "entry 1 has no segment"),
        ([{**NOTE, "segment": [[1], [2]]}], "entry 1 has no segment"),
        ([NOTE, NOTE, {"label": "a", "segment": [1, 2]}], "entry 3 has no score"),
        ([{**NOTE, "score": {}}], "entry 1 has no score"),
        ([{**NOTE, "score": True}], "entry 1 has no score"),
        ([{**NOTE, "label": None}], "entry 1 has no label"),
        ([{**NOTE, "label": ["a"]}], "entry 1 has no label"),
        (["a"], "entry 1 is not an object"),
        ({"a": 1}, "expected a list"),
        (None, "expected a list"),
    ],
)
def test_a_bad_entry_is_named(notes: object, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(json.dumps({"results": {"good": [NOTE], "vidéo": notes}}))
    assert caught.value.code == "not_predictions"
    for part in ("p.json", "vidéo", said):
        assert part in caught.value.message


@pytest.mark.parametrize("text", ["{}", "[1]", "3", '{"database": {}}', '[{"segments": []}]'])
def test_other_documents_are_no_predictions(text: str) -> None:
    with pytest.raises(InputError, match=r"p\.json") as caught:
        read(text)
    assert caught.value.code == "not_predictions"


def test_strings_infinities_and_repeated_videos() -> None:
    text = (
        '{"results": {"v": [{"label": "old", "score": 1, "segment": [0, 1]}],'
        '"w": [{"label": "a", "score": "0.25", "segment": ["1.5", 2]},'
        '{"label": 7, "score": NaN, "segment": [0, 1]},'
        '{"label": 7, "score": 1, "segment": [0, Infinity]}],'
        '"v": [{"label": "new", "score": 1, "segment": [0, 1]}]}}'
    )
    found = read(text)
    assert rows(found.segments) == [("w", "a", 1.5, 2.0, 0.25), ("v", "new", 0.0, 1.0, 1.0)]
    assert {w.code: list(w.numbers.values()) for w in found.warnings} == {
        "repeated_videos": [1],
        "not_finite": [2],
        "string_numbers": [1],
    }


def test_ids_with_and_without_the_prefix() -> None:
    assert same_id("v_a", {"a"}) == "a"
    assert same_id("a", {"v_a"}) == "v_a"
    assert same_id("v_a", {"a", "v_a"}) == "v_a"
    assert same_id("x", {"a"}) == "x"
    found = read(json.dumps({"results": {"v_a": [NOTE], "b": [NOTE]}}), known={"a", "v_b"})
    assert found.segments.video == ["a", "v_b"]


def test_truth_takes_one_subset_and_says_which_there_are() -> None:
    note = {"segment": ["1.5", "2.5"], "label": "a"}
    database = {
        "one": {"subset": "validation", "duration": 9.5, "annotations": [note]},
        "bare": {"subset": "validation"},
        "two": {"subset": "training", "annotations": [note]},
        "out": {"subset": "validation", "annotations": [note, note]},
    }
    truth = truth_of(entries_of({"database": database}), subset="validation", blocked=["v_out", "x"])
    assert (truth.segments.video, truth.segments.start_s.tolist()) == (["one"], [1.5])
    assert truth.videos == {"one", "bare"}
    assert truth.duration_s == {"one": 9.5}
    assert {w.code: w.numbers for w in truth.warnings}["blocked_videos"] == {"videos": 1, "truths": 2}
    everything = truth_of(entries_of({"database": database}))
    assert [w.code for w in everything.warnings] == ["string_numbers", "all_subsets"]
    with pytest.raises(InputError, match="it has training, validation"):
        truth_of(entries_of({"database": database}), subset="test")


def test_rows_may_be_truth() -> None:
    truth = truth_of(entries_of({"results": [{**ROW, "duration_s": 3.0}]}))
    assert rows(truth.segments) == [("v", "pan_left", 1.0, 2.5, 1.0)]
    assert truth.duration_s == {"v": 3.0}


def test_generated_clips_are_truth_of_whole_videos() -> None:
    document = {"schema": "vpipe.synth-clips/1", "labels": ["a"], "videos": {"clip_0.mp4": {"label": "a"}}}
    truth = truth_of(entries_of(document), wants=("label",))
    assert (truth.segments.video, truth.segments.label) == (["clip_0"], ["a"])


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        3,
        {"database": [1]},
        {"database": {"v": {"annotations": [{"segment": [1]}]}}},
        {"database": {"v": 1}},
    ],
)
def test_other_documents_are_no_truth(document: object) -> None:
    with pytest.raises(InputError) as caught:
        truth_of(entries_of(document), name="gt.json")
    assert caught.value.code == "not_ground_truth"
    assert "gt.json" in caught.value.message


def test_refusals_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json"):
        list(read_entries(tmp_path / "nowhere.json"))
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(InputError, match=r"bad\.json.*line 1"):
        list(read_entries(tmp_path / "bad.json"))
    (tmp_path / "bytes.json").write_bytes(b'{"a": "\xff"}')
    with pytest.raises(InputError, match="UTF-8"):
        read_truth(tmp_path / "bytes.json")
    with pytest.raises(InputError, match="folder"):
        read_truth(tmp_path)


def test_lists_of_blocked_videos(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('["x", "y"]')
    (tmp_path / "b.txt").write_text("x\n\n y\n")
    assert read_blocked(tmp_path / "a.json") == read_blocked(tmp_path / "b.txt") == ["x", "y"]
    (tmp_path / "c.json").write_text('{"x": 1}')
    with pytest.raises(InputError, match=r"c\.json"):
        read_blocked(tmp_path / "c.json")
