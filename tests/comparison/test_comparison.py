"""What is compared is comparable: clips, labels in any order, scores at chance, costs that can be counted."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vpipe.comparison.clips import CLIPS_PER_STOCK, Clips, flow_codes, make_clips
from vpipe.comparison.contenders import CONTENDERS, FUSIONS, NEIGHBOURS, ROWS, choose
from vpipe.comparison.costs import clip_of
from vpipe.comparison.labels import DIRECTION, LABELS, ORDER, backwards, mirrored, opposite, upside_down
from vpipe.comparison.learning import Trained, recipe_of, trained, weight_file
from vpipe.comparison.plan import FRAMES, MADE_PX, QUICK, SIZE_PX, STORAGE, Plan
from vpipe.comparison.scoring import Judges, accuracy, judge_orders, share
from vpipe.comparison.shown import Shown, Turns
from vpipe.comparison.workers import Workers, one_thread
from vpipe.errors import UsageError
from vpipe.models.registry import build

TSN = CONTENDERS[0]
HERE = Workers(1)


@pytest.fixture(scope="module")
def clips() -> Clips:
    return make_clips(1, [5], HERE, names=DIRECTION)


def test_labels_turn_into_labels() -> None:
    for turn in (opposite, backwards, mirrored, upside_down):
        assert {turn(label) for label in LABELS} == set(LABELS)
        assert all(turn(turn(label)) == label for label in LABELS)
    assert opposite("pan_left_then_pan_right") == "pan_right_then_pan_left"
    assert backwards("pan_left_then_pan_right") == "pan_left_then_pan_right"
    assert [backwards("zoom_in"), mirrored("zoom_in"), upside_down("zoom_in")] == [
        "zoom_out",
        "zoom_in",
        "zoom_in",
    ]
    assert upside_down("roll_clockwise") == mirrored("roll_clockwise") == "roll_counterclockwise"
    assert mirrored("tilt_up") == "tilt_up"
    assert upside_down("subject_left") == "subject_left"
    assert all(opposite(label) != label for label in (*DIRECTION, *ORDER))


def test_out_and_back_differ_in_order_alone() -> None:
    """The picture goes one way first and the other way last."""
    for name, first in (("pan_left_then_pan_right", 1), ("pan_right_then_pan_left", -1)):
        u = STORAGE.dequantise(flow_codes(make_clips(5, [9], HERE, names=[name]), HERE))[:, :, 0].mean((2, 3))
        assert first * np.median(u[:, :2]) > 0
        assert first * np.median(u[:, -2:]) < 0


def test_clip_i_depends_on_the_seed_and_i_alone(clips: Clips) -> None:
    assert clips.frames.shape == (len(DIRECTION), FRAMES, MADE_PX, MADE_PX, 3)
    assert [LABELS[label] for label in clips.labels] == list(DIRECTION)
    few = make_clips(1, [6], HERE, names=DIRECTION[:2])
    assert np.array_equal(few.frames, make_clips(1, [6], HERE, names=DIRECTION[:2]).frames)
    assert not np.array_equal(few.frames, clips.frames[:2])


def test_flow_says_where_a_pan_goes() -> None:
    pans = make_clips(3, [3], HERE, names=("pan_left", "pan_right", "tilt_up", "tilt_down"))
    flow = STORAGE.dequantise(flow_codes(pans, HERE)).mean((1, 3, 4))  # N, (u, v)
    by_label = {name: flow[pans.labels == LABELS.index(name)].mean(0) for name in DIRECTION[:4]}
    assert by_label["pan_left"][0] > 0.2 > -0.2 > by_label["pan_right"][0]  # the picture goes the other way
    assert by_label["tilt_up"][1] > 0.2 > -0.2 > by_label["tilt_down"][1]


def turns(count: int, **how: object) -> Turns:
    """The same for all clips, the middle as it is but for `how`."""
    same = {name: np.tile(np.array(value), (count, 1)).squeeze(-1) for name, value in how.items()}
    return replace(Turns.none(count), **same)


def turned(clips: np.ndarray, of: Turns) -> np.ndarray:
    return of.of(torch.from_numpy(clips), np.arange(len(clips)), range(clips.shape[1])).numpy()


def test_turned_flow_is_the_flow_of_turned_frames(clips: Clips) -> None:
    codes = flow_codes(clips, HERE)
    for left, top, left_right, up_down in ((0, 0, True, False), (0, 0, False, True), (16, 6, True, True)):
        how = turns(len(clips), left=left, top=top, left_right=left_right, up_down=up_down)
        frames, flow = turned(clips.frames, how), turned(codes, how)
        assert flow.shape[-2:] == frames.shape[2:4] == (SIZE_PX, SIZE_PX)
        whole = clips.frames[..., :: -1 if up_down else 1, :: -1 if left_right else 1, :]
        of_whole = flow_codes(Clips(np.ascontiguousarray(whole), clips.labels), HERE)
        y = MADE_PX - SIZE_PX - top if up_down else top
        x = MADE_PX - SIZE_PX - left if left_right else left
        expected = STORAGE.dequantise(of_whole)[..., y : y + SIZE_PX, x : x + SIZE_PX]
        assert np.array_equal(frames, whole[:, :, y : y + SIZE_PX, x : x + SIZE_PX])
        assert np.abs(flow - expected).mean() < 0.1 * max(1.0, float(np.abs(expected).mean()))


def test_flow_is_shown_in_the_pixels_of_the_cache(clips: Clips) -> None:
    codes = flow_codes(clips, HERE)
    edge = (MADE_PX - SIZE_PX) // 2
    expected = STORAGE.dequantise(codes)[..., edge : edge + SIZE_PX, edge : edge + SIZE_PX]
    assert np.array_equal(turned(codes, Turns.none(len(codes))), expected)


def test_turned_clips_have_the_label_of_what_they_show() -> None:
    def label(name: str, **how: bool) -> str:
        return LABELS[int(turns(1, **how).labels(np.array([LABELS.index(name)]))[0])]

    assert label("pan_left", left_right=True) == "pan_right"
    assert label("pan_left", up_down=True) == "pan_left"
    assert label("roll_clockwise", left_right=True, up_down=True) == "roll_clockwise"
    assert label("tilt_up", up_down=True, negative=True) == "tilt_down"


def test_colours_are_nothing_but_exchanged(clips: Clips) -> None:
    plain = turned(clips.frames, Turns.none(len(clips)))
    how = replace(turns(len(clips), negative=True), channels=np.tile([2, 0, 1], (len(clips), 1)))
    other = turned(clips.frames, how)
    assert np.array_equal(255 - other[..., 0], plain[..., 2])
    assert np.array_equal(255 - other[..., 2], plain[..., 1])


def test_batches_depend_on_their_number_alone(clips: Clips) -> None:
    frames = torch.from_numpy(clips.frames)
    shown = Shown(frames, clips.labels, recipe_of(TSN, QUICK), TSN.take)
    inputs, targets = shown[3]
    again, _ = Shown(frames, clips.labels, recipe_of(TSN, QUICK), TSN.take)[3]
    assert torch.equal(inputs, again)
    assert not torch.equal(inputs, shown[4][0])
    assert inputs.dtype == torch.uint8
    assert targets.sum(1).tolist() == [1.0] * len(inputs)
    codes = torch.from_numpy(flow_codes(clips, HERE))
    flow = Shown(codes, clips.labels, recipe_of(CONTENDERS[1], QUICK), CONTENDERS[1].take)[3]
    assert flow[0].dtype == torch.float32
    assert torch.equal(flow[1], targets)  # the same clips, turned alike


@pytest.mark.slow
def test_results_do_not_depend_on_the_number_of_processes() -> None:
    count = CLIPS_PER_STOCK + 2  # two blocks
    with Workers(2) as two:
        apart = make_clips(count, [4], two, names=["pan_left"], length=2)
        flow = flow_codes(apart, two)
    together = make_clips(count, [4], HERE, names=["pan_left"], length=2)
    assert np.array_equal(apart.frames, together.frames)
    assert np.array_equal(flow[:50], flow_codes(Clips(apart.frames[:50], apart.labels[:50]), HERE))


@pytest.mark.slow
def test_networks_trained_beside_each_other_are_the_same(tmp_path: Path) -> None:
    """With two jobs the two networks are trained by a process each."""
    two = [one for one in CONTENDERS if one.name in ("tsn", "tsm")]
    found = []
    for jobs in (1, 2):
        with Workers(jobs) as workers, one_thread():  # as the command does: sums depend on the threads
            cache = tmp_path / str(jobs)
            trained(two, Plan(seen=128), cache, "cpu", workers, again=False, say=lambda what, done, of: None)
        files = sorted((cache / "comparison").iterdir())
        assert [path.suffix for path in files] == [".safetensors"] * 2  # no clips are left, no checkpoints
        found.append([(path.name, path.read_bytes()) for path in files])
    assert found[0] == found[1]


def test_wilson_intervals() -> None:
    """Against Newcombe 1998, table I, method 3."""
    assert share(81, 263)["interval95"] == pytest.approx([25.53, 36.62], abs=0.01)
    assert share(15, 148)["interval95"] == pytest.approx([6.24, 16.05], abs=0.01)
    assert share(0, 20)["interval95"] == pytest.approx([0.0, 16.11], abs=0.01)
    assert share(1, 29)["interval95"] == pytest.approx([0.61, 17.18], abs=0.01)
    assert share(0, 0) == {"percent": None, "interval95": None, "clips": 0}


def tiny(contender: str) -> Trained:
    torch.manual_seed(1)
    of = next(one for one in CONTENDERS if one.name == contender)
    network = build(of.architecture, {"classes": len(LABELS), **of.hyper}).eval()
    return Trained(of, network, Path("none"))


def test_single_frames_are_at_chance_between_opposites(clips: Clips) -> None:
    """Single frames say the same of a clip and of its reverse: they are right on one of the two."""
    judges = Judges({"tsn": tiny("tsn")}, [], "cpu", HERE)
    found = judge_orders(judges, clips, 1, lambda _: lambda _: None)["tsn"]
    forward = found["played"]["direction"]["against_opposite"]
    back = found["reversed_own_label"]["direction"]["against_opposite"]
    assert forward["percent"] + back["percent"] == pytest.approx(100)
    assert found["shuffled"] == found["played"] == found["reversed"]


def test_a_network_that_always_says_the_same_is_at_chance() -> None:
    truth = np.arange(len(LABELS)).repeat(10)
    scores = np.zeros((len(truth), len(LABELS)), np.float32)
    scores[:, LABELS.index("pan_left")] = 1
    found = accuracy(scores, truth)
    assert found["top1"]["percent"] == pytest.approx(100 / len(LABELS), abs=0.01)
    perfect = accuracy(np.eye(len(LABELS), dtype=np.float32)[truth], truth)
    assert perfect["top1"]["percent"] == perfect["against_opposite"]["percent"] == 100
    assert perfect["against_opposite"]["clips"] == 10 * len((*DIRECTION, *ORDER))


def test_order_matters_to_what_mixes_frames(clips: Clips) -> None:
    judges = Judges({"tsm": tiny("tsm")}, [], "cpu", HERE)
    played = judges.scores(clips)["tsm"]
    assert not np.allclose(played, judges.scores(clips.played(np.arange(FRAMES)[::-1]))["tsm"], atol=1e-6)


def test_long_clips_are_read_in_windows_or_spread() -> None:
    long = make_clips(1, [5], HERE, names=["pan_left"], length=20)
    judges = Judges({"tsm": tiny("tsm")}, [], "cpu", HERE)
    parts = [judges.scores(long.played(np.arange(k, k + FRAMES)))["tsm"] for k in (0, 4, 8, 12)]
    assert np.allclose(judges.windowed(long)["tsm"], np.mean(parts, 0), atol=1e-6)
    ends = judges.scores(long.played(np.array([0, 3, 5, 8, 11, 14, 16, 19])))["tsm"]
    assert np.allclose(judges.spread(long)["tsm"], ends, atol=1e-6)
    short = long.played(np.arange(3))
    held = long.played(np.array([0, 1, 2, 2, 2, 2, 2, 2]))
    assert np.allclose(judges.windowed(short)["tsm"], judges.scores(held)["tsm"], atol=1e-6)


def test_two_streams_are_fused() -> None:
    few = make_clips(1, [5], HERE, names=DIRECTION[:4])
    judges = Judges({"tsn": tiny("tsn"), "flow": tiny("flow")}, FUSIONS, "cpu", HERE)
    found = judges.scores(few)
    assert np.allclose(found["two-stream"], (found["tsn"] + 1.5 * found["flow"]) / 2.5, atol=1e-6)


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda one: one.name)
def test_every_contender_takes_the_same_clip(contender: object) -> None:
    of = next(one for one in CONTENDERS if one is contender)
    one = tiny(of.name)
    with torch.inference_mode():
        assert one.network(clip_of(of)).shape == (1, len(LABELS))
    assert max(of.take) == FRAMES - (2 if of.modality == "flow" else 1)


def test_tdn_sees_the_frames_round_each() -> None:
    assert len(NEIGHBOURS) == 5 * FRAMES
    assert NEIGHBOURS[:5] == (0, 0, 0, 1, 2)
    assert NEIGHBOURS[15:20] == (1, 2, 3, 4, 5)
    assert NEIGHBOURS[-5:] == (5, 6, 7, 7, 7)


def test_rows_are_chosen_with_what_they_need() -> None:
    assert [one.name for one in choose(None)[0]] == [name for name in ROWS if name != "two-stream"]
    contenders, fusions = choose("two-stream, tsm")
    assert ([one.name for one in contenders], fusions) == (["tsn", "flow", "tsm"], list(FUSIONS))
    with pytest.raises(UsageError, match="no such row as 'tms'"):
        choose("tsm,tms")


def test_weights_are_kept_by_what_they_depend_on(tmp_path: Path) -> None:
    plan = Plan()
    path = weight_file(TSN, plan, tmp_path)
    assert weight_file(TSN, replace(plan, test=3, flow_minutes=9), tmp_path) == path
    changed = {weight_file(TSN, other, tmp_path) for other in (replace(plan, seed=2), replace(plan, seen=64))}
    assert len(changed | {path, weight_file(replace(TSN, hyper={"width": 8}), plan, tmp_path)}) == 4
