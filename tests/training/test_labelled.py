"""DATA in its three forms, and how pieces of it are cut and split."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vpipe.errors import UsageError
from vpipe.training.labelled import Example, LabelledVideo, read_labelled
from vpipe.training.pieces import cut
from vpipe.training.preparing import PreparedVideo


def below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.mp4"))


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_folders_are_labels(tmp_path: Path) -> None:
    touch(tmp_path / "serve" / "a.mp4", tmp_path / "serve" / "deep" / "b.mp4", tmp_path / "goal" / "c.mp4")
    touch(tmp_path / "loose.mp4", tmp_path / ".hidden" / "d.mp4")
    (tmp_path / "nothing").mkdir()
    found = read_labelled(tmp_path, below)
    assert [(v.path.name, v.examples) for v in found.videos] == [
        ("c.mp4", (Example("goal"),)),
        ("a.mp4", (Example("serve"),)),
        ("b.mp4", (Example("serve"),)),
    ]
    assert [w.code for w in found.warnings] == ["empty_label", "no_label"]


def test_csv_with_and_without_times(tmp_path: Path) -> None:
    touch(tmp_path / "v" / "a.mp4", tmp_path / "b.mp4")
    (tmp_path / "l.csv").write_text(
        "path,label,start_s,end_s\nv/a.mp4,goal,5,7.5\nv/a.mp4, serve ,00:00:01,2s\n\n"
        "b.mp4,goal\ngone.mp4,goal\n"
    )
    found = read_labelled(tmp_path / "l.csv", below)
    assert [v.examples for v in found.videos] == [
        (Example("serve", 1.0, 2.0), Example("goal", 5.0, 7.5)),
        (Example("goal"),),
    ]
    assert [v.untrimmed for v in found.videos] == [True, False]
    ((path, fault),) = found.failures
    assert (path.name, fault.code) == ("gone.mp4", "not_found")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.mp4", "path,label"),
        ("a.mp4,", "path,label"),
        ("a.mp4,x,1", "start without an end"),
        ("a.mp4,x,3,2", "must come after its start"),
        ("a.mp4,x,one,2", "one"),
        ("a.mp4,x,-1,2", "-1"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "l.csv").write_text(f"b.mp4,y\n{line}\n")
    with pytest.raises(UsageError, match="line 2") as caught:
        read_labelled(tmp_path / "l.csv", below)
    assert message in caught.value.message


def database(tmp_path: Path, **subset_of: str) -> Path:
    videos = {
        name: {
            "subset": subset,
            "duration": 9.0,
            "annotations": [{"segment": [1.0, 2.0], "label": "x"}] if name != "quiet" else [],
        }
        for name, subset in subset_of.items()
    }
    (tmp_path / "t.json").write_text(json.dumps({"database": videos}))
    return tmp_path / "t.json"


def test_activitynet_json_beside_its_videos(tmp_path: Path) -> None:
    touch(tmp_path / "sub" / "v_abc.mp4", tmp_path / "quiet.mp4")
    found = read_labelled(database(tmp_path, abc="test", quiet="test", missing="test"), below)
    assert {v.path.name: v.examples for v in found.videos} == {
        "v_abc.mp4": (Example("x", 1.0, 2.0),),
        "quiet.mp4": (),
    }
    assert all(v.untrimmed and v.subset is None for v in found.videos)
    assert [path.name for path, _ in found.failures] == ["missing.mp4"]


def test_subsets_of_the_annotations_are_the_split(tmp_path: Path) -> None:
    touch(*(tmp_path / f"{name}.mp4" for name in ("a", "b", "c")))
    found = read_labelled(database(tmp_path, a="training", b="validation", c="testing"), below)
    assert {v.path.stem: v.subset for v in found.videos} == {"a": "training", "b": "validation"}


@pytest.mark.parametrize("name", ["nothing", "labels.txt"])
def test_data_that_is_none(tmp_path: Path, name: str) -> None:
    (tmp_path / "labels.txt").write_text("a.mp4,x")
    with pytest.raises(UsageError):
        read_labelled(tmp_path / name, below)
    with pytest.raises(UsageError, match="no folder for a label"):
        read_labelled(tmp_path, below)


class Stored:
    """Eight frames a second of a video that is not there."""

    def __init__(self, duration_s: float) -> None:
        self.facts = {"duration_s": duration_s, "warnings": []}
        self.times_s = np.arange(int(duration_s * 8)) / 8

    def __len__(self) -> int:
        return len(self.times_s)


def video(name: str, *examples: Example, digest: str = "", duration_s: float = 10.0):
    prepared = PreparedVideo(Path(name), digest or name, Stored(duration_s), None)
    return LabelledVideo(Path(name), examples), prepared


def test_unlabelled_stretches_become_background() -> None:
    videos = [
        video("a", Example("x", 1.0, 4.0), Example("y", 4.2, 6.0)),
        video("b", Example("x", 0.0, 5.0), Example("y", 5.0, 99.0)),
        video("c", Example("y", 50.0, 60.0), Example("x", 2.0, 3.0)),
    ]
    pieces = cut(videos, shortest_s=1.0, seed=0)
    assert (pieces.labels, pieces.background) == (("x", "y", "background"), "background")
    found = {
        (str(p.video.path), p.start_s, p.end_s)
        for p in (*pieces.training, *pieces.validation)
        if p.label == 2
    }
    # 0.2 s between the segments of a are shorter than a window; b ends within its segment.
    assert found == {("a", 0.0, 1.0), ("a", 6.0, 10.0), ("c", 0.0, 2.0), ("c", 3.0, 10.0)}
    assert [w.message for w in pieces.warnings if w.code == "bad_segments"]
    ends = {p.end_s for p in (*pieces.training, *pieces.validation) if str(p.video.path) == "b"}
    assert ends == {5.0, 10.0}


def test_whole_videos_have_no_background() -> None:
    pieces = cut([video(n, Example(n[0])) for n in ("x1", "x2", "y1", "y2")], shortest_s=1.0, seed=0)
    assert (pieces.labels, pieces.background) == (("x", "y"), None)


@pytest.mark.parametrize("seed", range(5))
def test_no_content_stands_on_both_sides(seed: int) -> None:
    videos = [
        video(f"{label}{n}{copy}", Example(label), digest=f"{label}{n}")
        for label in "xyz"
        for n in range(10)
        for copy in ("", "-copy")
    ]
    pieces = cut(videos, shortest_s=1.0, seed=seed)
    inside, outside = ({p.video.digest for p in part} for part in (pieces.training, pieces.validation))
    assert not inside & outside
    assert len(inside | outside) == pieces.videos == 30
    for label in range(3):
        assert sum(p.label == label for p in pieces.validation) == 2
    assert [w.numbers["videos"] for w in pieces.warnings if w.code == "duplicate_videos"] == [30]


@pytest.mark.parametrize("digest", ["same", ""])
def test_a_video_under_two_labels_is_named(digest: str) -> None:
    """As copies in two folders, or as two rows of a CSV file."""
    one = [video("x1", Example("x"), digest="same"), video("y1", Example("y"), digest="same")]
    other = [video("x1", Example("x"), Example("y"))]
    rest = [video(f"{label}{n}", Example(label)) for label in "xy" for n in range(2, 12)]
    pieces = cut([*(one if digest else other), *rest], shortest_s=1, seed=0)
    (said,) = (w for w in pieces.warnings if w.code == "several_labels")
    assert said.numbers == {"videos": 1}
    assert "x1: x, y" in said.message
    both = [video("x1", Example("x", 0, 5), Example("y", 5, 9)), *rest]
    assert "several_labels" not in {w.code for w in cut(both, shortest_s=1, seed=0).warnings}


def test_few_videos_are_said_and_one_of_a_label_is_trained_on() -> None:
    pieces = cut(
        [video("x1", Example("x")), *(video(f"y{n}", Example("y")) for n in range(9))], shortest_s=1, seed=0
    )
    assert {p.label for p in pieces.training} == {0, 1}
    assert {w.code for w in pieces.warnings} == {"few_videos", "not_validated"}
    with pytest.raises(UsageError, match="at least two labels"):
        cut([video("y1", Example("y"))], shortest_s=1, seed=0)


def test_the_split_does_not_depend_on_names_or_order() -> None:
    videos = [video(f"{label}{n}", Example(label)) for label in "xy" for n in range(10)]
    one = cut(videos, shortest_s=1, seed=3)
    moved = [(LabelledVideo(Path(f"q{k}"), v.examples), p) for k, (v, p) in enumerate(videos[::-1])]
    two = cut(moved, shortest_s=1, seed=3)
    assert [p.video.digest for p in one.validation] == [p.video.digest for p in two.validation]
    other = cut(videos, shortest_s=1, seed=4)
    assert {p.video.digest for p in one.validation} != {p.video.digest for p in other.validation}
