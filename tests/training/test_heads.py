"""Heads learn from features whose answer is known, and what is wrong with their data is one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vpipe.detection.detector import DetectorSettings, Segment, in_order
from vpipe.detection.heads.head import KINDS, HeadHeader, build_head, load_head, write_head
from vpipe.detection.heads.mstcn import stage_loss
from vpipe.detection.heads.run import PyramidDetector, detect_with_head, frame_runs
from vpipe.detection.heads.stpp import means, moved, pyramid
from vpipe.errors import InputError, UsageError
from vpipe.media.shots import Cut
from vpipe.models import load_model
from vpipe.recognition.features_file import Spacing, read_features, write_features
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.scores import ScorePart, SnippetScores
from vpipe.training.heads import positions, train_head
from vpipe.training.stpp_loss import Proposals, overlap

SPACING = Spacing(8, 4, 16, 4)  # a snippet of half a second every quarter
LABELS = ("jump", "throw")
SETTINGS = DetectorSettings(min_score=0.05)


def made_up(folder: Path, videos: int, *, seed: int = 0, subset: str = "Test", prefix: str = "video") -> dict:
    """Features that show which label is on, through a window and noise; returns ActivityNet's database."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    database = {}
    directions = np.random.default_rng(99).standard_normal((3, 12))
    for number in range(videos):
        count = int(rng.integers(80, 120))
        duration = (SPACING.offset * 2 + SPACING.stride * (count - 1)) / SPACING.fps
        fine = np.full(int(duration * 100), 2)
        notes, now = [], float(rng.uniform(1, 4))
        while now < duration - 6:
            label, length = int(rng.integers(2)), float(rng.uniform(1.5, 5))
            notes.append(
                {"segment": [round(now, 3), round(now + length, 3)], "label": LABELS[label]},
            )
            fine[int(now * 100) : int((now + length) * 100)] = label
            now += length + float(rng.uniform(1.5, 4))
        starts = np.arange(count) * 25
        shares = np.stack([np.eye(3)[fine[s : s + 50]].mean(0) for s in starts])
        table = shares @ directions + 0.3 * rng.standard_normal((count, 12))
        name = f"{prefix}_{subset.lower()}_{number:07d}"
        np.save(folder / f"{name}.npy", table.astype(np.float32))
        database[name] = {"subset": subset, "duration": duration, "annotations": notes}
    return database


def write_truth(path: Path, *databases: dict) -> Path:
    merged = {name: entry for database in databases for name, entry in database.items()}
    path.write_text(json.dumps({"version": "made up", "database": merged}))
    return path


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with features F, truth.json and a trained head of each kind."""
    folder = tmp_path_factory.mktemp("heads")
    training = made_up(folder / "F", 12, seed=1, subset="Validation")
    test = made_up(folder / "F", 4, seed=2)
    write_truth(folder / "truth.json", training, test)
    torch.set_num_threads(1)
    for kind in ("stpp", "mstcn"):
        done = train_head(
            kind,
            folder / "F",
            folder / "truth.json",
            folder / f"{kind}.safetensors",
            subset="Validation",
            spacing=SPACING,
            epochs=8 if kind == "mstcn" else 20,
        )
        assert (done.videos, done.labels) == (12, 2)
        assert [w.code for w in done.warnings] == []
    return folder


@pytest.mark.parametrize("kind", ["stpp", "mstcn"])
def test_a_trained_head_finds_what_is_there(learnt: Path, kind: str) -> None:
    """Segments of videos it has not seen: nearly all, at a tIoU of 0.7, and little else."""
    head = load_head(learnt / f"{kind}.safetensors")
    truth = json.loads((learnt / "truth.json").read_text())["database"]
    right = wanted = claimed = agree = frames = 0
    for name, entry in truth.items():
        if entry["subset"] != "Test":
            continue
        features = read_features(learnt / "F" / f"{name}.npy", SPACING)
        found = detect_with_head(head, features, SETTINGS)
        sure = [s for s in found.segments if s.score > 0.4]
        claimed, wanted = claimed + len(sure), wanted + len(entry["annotations"])
        for note in entry["annotations"]:
            best = max(
                (
                    overlap(np.array([s.start_s, s.end_s]), np.array(note["segment"]))
                    for s in sure
                    if s.label == note["label"]
                ),
                default=0.0,
            )
            right += best >= 0.7
        assert (found.frame_labels is None) == (kind == "stpp")
        if found.frame_labels:
            shown = [label for label, count in found.frame_labels for _ in range(count)]
            assert len(shown) == len(features.frame_times_s)
            for time_s, label in zip(features.frame_times_s, shown, strict=True):
                on = [n["label"] for n in entry["annotations"] if n["segment"][0] <= time_s < n["segment"][1]]
                agree, frames = agree + (label == (on[0] if on else "background")), frames + 1
    assert right >= 0.9 * wanted
    assert claimed <= 1.2 * wanted
    assert agree >= 0.9 * frames


@pytest.mark.parametrize("size", [1, 5, 64])
def test_a_pyramid_in_parts_is_the_pyramid_of_the_whole(learnt: Path, size: int) -> None:
    """Cuts and quiet sections among them; as parts come, what is over is told."""
    head = load_head(learnt / "stpp.safetensors")
    for path in sorted((learnt / "F").glob("*_test_*.npy"))[:3]:
        features = read_features(path, SPACING)
        cuts = tuple(Cut(int(time_s * 16), time_s) for time_s in (features.duration_s * 0.4,))
        scores = SnippetScores(
            ["jump", "throw", "background"],
            "background",
            features.table,
            features.start_s,
            features.centre_s,
            features.end_s,
            duration_s=features.duration_s,
            frame_times_s=features.frame_times_s,
            cuts=cuts,
        )
        whole = detect_with_head(head, features, SETTINGS, scores).segments
        detector = PyramidDetector(head, SETTINGS, step_s=scores.step_s, span_s=scores.span_s)
        found: list[Segment] = []
        for first in range(0, len(features.table), size):
            centre_s = features.centre_s[first : first + size]
            part = ScorePart(
                features.table[first : first + size],
                centre_s,
                features.frame_times_s if not first else np.zeros(0),
                cuts if not first else (),
                float(centre_s[0]),
            )
            found += detector.add(part)
        early = len(found)
        nothing = np.zeros((0, features.table.shape[1]), np.float32)
        found += detector.add(
            ScorePart(nothing, np.zeros(0), np.zeros(0), (), np.inf, duration_s=features.duration_s)
        )
        assert in_order(found) == whole
        assert len(whole) > 2
        assert early > 0


def test_a_head_says_what_it_is_for(learnt: Path) -> None:
    head = load_head(learnt / "stpp.safetensors")
    assert head.header.labels == ("jump", "throw", "background")
    assert head.header.spacing == SPACING
    assert head.header.model is None
    assert head.header.channels == 12
    features = read_features(next((learnt / "F").glob("*.npy")), SPACING)
    for changed, code in (
        (replace(features, table=features.table[:, :8]), "other_width"),
        (replace(features, spacing=Spacing(8, 2, 16, 4)), "other_spacing"),
    ):
        with pytest.raises(InputError) as told:
            head.check(changed)
        assert told.value.code == code
    head.check(replace(features, spacing=Spacing(16, 8, 32, 8)))  # the same seconds
    known = replace(head, header=replace(head.header, model={"name": "a", "hash": "1" * 64}))
    known.check(features)  # nobody says what made them
    with pytest.raises(InputError, match="make features with that model") as told:
        known.check(replace(features, model={"name": "b", "hash": "2" * 64}))
    assert told.value.code == "other_model"


def test_a_head_of_other_tools_features_is_not_for_our_models(learnt: Path) -> None:
    head = load_head(learnt / "stpp.safetensors")
    of_64_frames = replace(head, header=replace(head.header, spacing=Spacing(64, 16, 30, 32)))
    with pytest.raises(UsageError, match=r"window 64, .*'motion-rgb' makes none like these: give --features"):
        of_64_frames.grid(Recognizer(load_model("motion-rgb")))


def test_equal_seeds_give_equal_heads(learnt: Path, tmp_path: Path) -> None:
    paths = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        paths.append(tmp_path / name / "head.safetensors")
        options = {"subset": "Test", "spacing": SPACING, "epochs": 1, "seed": seed}
        train_head("stpp", learnt / "F", learnt / "truth.json", paths[-1], **options)
    a, b, c = (path.read_bytes() for path in paths)
    assert a == b != c


def test_what_training_refuses(learnt: Path, tmp_path: Path) -> None:
    head, truth = tmp_path / "head.safetensors", learnt / "truth.json"
    with pytest.raises(UsageError, match="choose one of stpp, mstcn"):
        train_head("tcn", learnt / "F", truth, head, subset="Test", spacing=SPACING)
    (tmp_path / "empty").mkdir()
    for features, gt, subset, why in (
        (tmp_path / "empty", truth, None, "no .npy or .h5"),
        (learnt / "F", truth, "Nowhere", "holds no annotation"),
        (learnt / "F", write_truth(tmp_path / "t.json", {"x": {"annotations": []}}), None, "no annotation"),
        (
            learnt / "F",
            write_truth(tmp_path / "u.json", {"x": {"annotations": [{"label": "jump", "segment": [1, 2]}]}}),
            None,
            "compare the ids",
        ),
    ):
        with pytest.raises(InputError, match=why):
            train_head("stpp", features, gt, head, subset=subset, spacing=SPACING)
    mixed = tmp_path / "mixed"
    made_up(mixed, 1, prefix="a")
    np.save(mixed / "b_test_0000000.npy", np.ones((50, 11), np.float32))
    notes = {
        name: {"annotations": [{"label": "jump", "segment": [1, 3]}]}
        for name in ("a_test_0000000", "b_test_0000000")
    }
    with pytest.raises(InputError, match="another model or width"):
        train_head("stpp", mixed, write_truth(tmp_path / "m.json", notes), head, spacing=SPACING)
    beyond = {"a_test_0000000": {"annotations": [{"label": "jump", "segment": [9000, 9001]}]}}
    with pytest.raises(InputError, match="no segment lies in"):
        train_head("stpp", mixed, write_truth(tmp_path / "n.json", beyond), head, spacing=SPACING)
    assert not head.exists()


def test_odd_truth_is_left_out_with_a_warning(learnt: Path, tmp_path: Path) -> None:
    folder = tmp_path / "F"
    database = made_up(folder, 2)
    first = sorted(database)[0]
    database[first]["annotations"] += [
        {"label": "jump", "segment": [5, 4]},
        {"label": "jump", "segment": [3, 3]},
        {"label": "background", "segment": [0, 1]},
    ]
    database["unseen"] = {"annotations": [{"label": "jump", "segment": [0, 1]}], "subset": "Test"}
    np.save(folder / "stranger.npy", np.ones((9, 12), np.float32))
    truth = write_truth(tmp_path / "t.json", database)
    done = train_head("mstcn++", folder, truth, tmp_path / "h.safetensors", spacing=SPACING, epochs=1)
    assert (done.videos, done.labels) == (2, 2)
    assert {"unknown_videos", "no_features"} <= {w.code for w in done.warnings}
    assert done.segments == sum(len(database[v]["annotations"]) for v in database if v != "unseen") - 3


def test_damaged_features_are_left_out_with_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "F"
    truth = write_truth(tmp_path / "t.json", made_up(folder, 3))
    files = sorted(folder.glob("*.npy"))
    files[0].write_bytes(files[0].read_bytes()[:100])
    done = train_head("mstcn", folder, truth, tmp_path / "h.safetensors", spacing=SPACING, epochs=1)
    assert done.videos == 2
    assert [(w.code, w.numbers) for w in done.warnings] == [("bad_features", {"files": 1})]
    assert files[0].name in done.warnings[0].message
    for path in files[1:]:
        path.write_bytes(b"")
    with pytest.raises(InputError) as told:
        train_head("mstcn", folder, truth, tmp_path / "i.safetensors", spacing=SPACING, epochs=1)
    assert told.value.code == "bad_features"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_one_snippet_and_nothing_to_find(kind: str, tmp_path: Path) -> None:
    """A video shorter than a window has one snippet; an untrained head may say anything, but sanely."""
    torch.manual_seed(0)
    network, hyper = build_head(kind, 5, 3)
    header = HeadHeader(kind, "h", hyper, ("a", "b", "background"), SPACING, None, "untrained", "none")
    write_head(tmp_path / "h.safetensors", header, network)
    head = load_head(tmp_path / "h.safetensors")
    assert (tmp_path / "h.safetensors").stat().st_size < 2_000_000
    for count in (1, 2, 7):
        np.save(tmp_path / "v.npy", np.random.default_rng(0).standard_normal((count, 5)).astype(np.float32))
        features = read_features(tmp_path / "v.npy", SPACING)
        found = detect_with_head(head, features, DetectorSettings(min_score=0.0))
        assert all(0 <= s.start_s < s.end_s <= features.duration_s + 1e-9 for s in found.segments)
        if found.frame_labels is not None:
            assert sum(n for _, n in found.frame_labels) == len(features.frame_times_s)


def test_damaged_heads_are_one_sentence(learnt: Path, tmp_path: Path) -> None:
    data = (learnt / "stpp.safetensors").read_bytes()
    path = tmp_path / "h.safetensors"
    for damaged in (data[:100], data[:-8], data[:-8] + b"12345678", b""):
        path.write_bytes(damaged)
        with pytest.raises(UsageError, match="not a usable weight file"):
            load_head(path)
    with pytest.raises(UsageError, match="unknown head 'nothing'"):
        load_head("nothing")
    with pytest.raises(UsageError, match="no such head"):
        load_head("nothing.safetensors")


def test_times_of_uneven_snippets(tmp_path: Path) -> None:
    """Positions and seconds are inverse to each other where centres are not evenly spaced."""
    centre = np.array([0.5, 1.0, 2.0, 4.0])
    description = {
        "window": 4, "stride": 2, "fps": 4.0, "offset": 2.0, "duration_s": 5.0,
        "start_s": (centre - 0.5).tolist(), "centre_s": centre.tolist(), "end_s": (centre + 0.5).tolist(),
        "frame_pts": {"unit": "1/4", "runs": [[19, 1]]}, "model": {"name": "m", "hash": "0" * 64},
    }  # fmt: skip
    write_features(tmp_path / "v.npy", np.ones((4, 2)), description)
    features = read_features(tmp_path / "v.npy")
    assert positions(features, np.array([0.5, 1.0, 1.5, 3.0, 4.0])).tolist() == [0.5, 1.5, 2.0, 3.0, 3.5]
    assert positions(features, np.array([-100.0, 100.0])).tolist() == [0.0, 4.0]


def test_pyramid_by_hand() -> None:
    maps = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
    runs = torch.tensor([[1.0, 3.0], [0.0, 4.0], [3.5, 4.5]], dtype=torch.float64)
    parts = pyramid(maps, runs)[..., 0]
    # starting, course, first half, second half, ending
    assert parts[0].tolist() == [1.0, 2.5, 2.0, 3.0, 4.0]
    assert parts[1].tolist() == [0.0, 2.5, 1.5, 3.5, 0.0]  # nothing outside the video
    assert parts[2].tolist() == pytest.approx([4.0, 4.0, 4.0, 0.0, 0.0])
    half = pyramid(maps, torch.tensor([[0.5, 2.5]], dtype=torch.float64))[0, 0, 0]
    assert half == pytest.approx(0.5 * 1.0)  # half of the starting part is in the video
    assert means(maps, torch.tensor([0.5]), torch.tensor([1.5])).item() == pytest.approx(1.5)
    back = moved(torch.tensor([[2.0, 4.0]]), torch.tensor([[0.5, 0.0]]))
    assert back.tolist() == [[3.0, 5.0]]


def test_regression_targets_lead_to_the_truth() -> None:
    rng = np.random.default_rng(0)
    truth, labels = np.array([[10.0, 20.0], [30.0, 34.0]]), np.array([0, 1])
    drawn = Proposals.draw(truth, labels, 60, rng)
    assert drawn.foreground > 2
    near = torch.from_numpy(drawn.runs[: drawn.foreground])
    ends = moved(near, torch.from_numpy(drawn.targets)).numpy()
    assert ends == pytest.approx(truth[drawn.labels[: drawn.foreground]])
    assert (overlap(near.numpy(), truth[drawn.labels[: drawn.foreground]]) > 0.7).all()
    free = drawn.runs[drawn.foreground + drawn.incomplete :]
    assert (overlap(free[:, None], truth[None]) < 0.01).all()
    none = Proposals.draw(np.zeros((0, 2)), np.zeros(0, np.int64), 60, rng)
    assert (none.foreground, none.incomplete) == (0, 0)


def test_smoothness_is_truncated() -> None:
    """By hand: two snippets, log-probabilities that differ by more than four count as sixteen."""
    even = torch.zeros(1, 2, 2)
    assert stage_loss(even, torch.tensor([0, 1])).item() == pytest.approx(np.log(2))
    jump = torch.tensor([[[50.0, -50.0], [-50.0, 50.0]]])
    assert stage_loss(jump, torch.tensor([0, 1])).item() == pytest.approx(0.15 * 16, abs=1e-5)


def test_frame_labels_change_between_snippets() -> None:
    """Half way between the centres 1.0 and 2.0, by the times of the frames."""
    scores = SnippetScores(
        ["a", "b"], None, np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]),
        np.zeros(3), np.array([0.0, 1.0, 2.0]), np.ones(3), duration_s=3.0,
        frame_times_s=np.array([0.0, 0.5, 1.0, 1.4, 1.45, 1.6, 2.5]),
    )  # fmt: skip
    assert frame_runs(scores) == [("a", 5), ("b", 2)]
