"""Clips that are kept: made once, the same for RGB and flow, mirrored with their labels."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vpipe import threads
from vpipe.errors import EnvironmentFault, UsageError
from vpipe.models import load_model
from vpipe.models.networks.tsn_affine import AffineTSN
from vpipe.synth.vocabulary import LABELS
from vpipe.training import kept
from vpipe.training.export import export, packaged_flow_recipe
from vpipe.training.going_on import network_to_go_on, with_start
from vpipe.training.kept import DECODED_PX, KeptClips, encode, keep_clips, kept_folder, turned
from vpipe.training.loop import train
from vpipe.training.recipe import Recipe, load_recipe
from vpipe.training.sources import open_data

RECIPE = Recipe("t", "flow", "tsn-affine", clips=20, batch=5, kept=6, seed=5, size=24, joined=0.0, lively=0.5)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One small block."""
    where = kept_folder(RECIPE, tmp_path_factory.mktemp("cache"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kept, "BLOCK", 6)
        patch.setattr(kept, "STOCK", 3)
        where.mkdir(parents=True)
        kept.make_block(RECIPE, 0, where)
    return where


def test_codes_lose_little() -> None:
    flow = np.concatenate([np.linspace(-20, 20, 4001), [0.0]]).astype(np.float32)
    found = DECODED_PX[encode(flow)]
    assert found[-1] == 0
    assert np.abs(found - flow).max() < 0.36
    assert np.abs(found - flow)[np.abs(flow) < 0.5].max() < 0.0125
    assert DECODED_PX[encode(np.array([99.0, -99.0]))].tolist() == pytest.approx([20, -20], abs=1e-3)


@pytest.mark.parametrize("modality", ["rgb", "flow"])
def test_every_epoch_sees_every_clip_once_in_an_order_of_its_own(folder: Path, modality: str) -> None:
    clips = KeptClips(replace(RECIPE, modality=modality, batch=6), folder)
    batches = [clips[k] for k in range(4)]
    assert len(clips) == 4
    shape = (6, 8, 24, 24, 3) if modality == "rgb" else (6, 7, 2, 24, 24)
    assert batches[0][0].shape == shape
    assert batches[0][0].dtype == (np.uint8 if modality == "rgb" else np.float32)

    def told_apart(batch: np.ndarray) -> list[float]:
        return sorted(float(np.abs(clip.astype(np.float64)).sum()) for clip in batch)  # turning keeps it

    firsts = told_apart(batches[0][0])
    assert all(told_apart(batch) == pytest.approx(firsts) for batch, _ in batches)
    assert len(set(firsts)) == 6
    assert any(not np.array_equal(batches[0][0], batch) for batch, _ in batches[1:])
    again = KeptClips(replace(RECIPE, modality=modality, batch=6), folder)[2]
    assert np.array_equal(again[0], batches[2][0])
    assert np.array_equal(again[1], batches[2][1])


def test_flow_of_the_kept_clips_is_that_of_their_pictures(folder: Path) -> None:
    rgb = np.load(folder / "rgb_00000.npy").astype(float)
    flow = DECODED_PX[np.load(folder / "flow_00000.npy")]
    changed = np.abs(np.diff(rgb, axis=1)).mean((1, 2, 3, 4))
    length = np.abs(flow).mean((1, 2, 3, 4))
    assert np.isfinite(flow).all()
    assert length[changed.argmax()] > length[changed.argmin()]


def test_a_turned_clip_has_the_turned_label() -> None:
    flow = np.zeros((7, 2, 4, 6), np.float32)
    flow[:, 0], flow[:, 1, 0] = 3.0, 1.0

    def of(label: str, sideways: bool, over: bool, backwards: bool = False) -> tuple[np.ndarray, str]:
        target = np.eye(len(LABELS), dtype=np.float32)[LABELS.index(label)]
        clip, found = turned(flow, target, sideways, over, backwards)
        return clip, LABELS[int(found.argmax())]

    clip, label = of("pan_left", True, False)
    assert label == "pan_right"
    assert (clip[:, 0] == -3).all()
    assert (clip[:, 1, 0] == 1).all()
    clip, label = of("tilt_up", False, True)
    assert label == "tilt_down"
    assert (clip[:, 0] == 3).all()
    assert (clip[:, 1, -1] == -1).all()
    assert (
        of("roll_clockwise", True, False)[1]
        == of("roll_clockwise", False, True)[1]
        == "roll_counterclockwise"
    )
    assert of("roll_clockwise", True, True)[1] == "roll_clockwise"
    assert of("subject_left", False, True)[1] == "subject_left"
    assert of("zoom_in", True, True)[1] == "zoom_in"
    flow[0] *= 2
    clip, label = of("zoom_in", False, False, True)
    assert label == "zoom_out"
    assert (clip[-1, 0] == -6).all()
    assert (clip[0, 0] == -3).all()
    swapped = {label: of(label, False, False, True)[1] for label in LABELS}
    assert swapped["subject_left"] == "subject_right"
    assert swapped["tilt_down"] == "tilt_up"
    assert swapped["roll_counterclockwise"] == "roll_clockwise"
    assert all(swapped[label] == label for label in ("static", "shake", "subject_waves"))
    picture = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    target = np.eye(len(LABELS), dtype=np.float32)[1]
    assert np.array_equal(turned(picture, target, True, False, False)[0], picture[:, :, ::-1])
    assert np.array_equal(turned(picture, target, False, True, False)[0], picture[:, ::-1])
    assert np.array_equal(turned(picture, target, False, False, True)[0], picture[::-1])


def test_equal_clips_are_shared_and_others_are_not(tmp_path: Path) -> None:
    here = kept_folder(RECIPE, tmp_path)
    assert kept_folder(replace(RECIPE, modality="rgb", architecture="tsm-diff", clips=9), tmp_path) == here
    for change in ({"seed": 6}, {"lively": 0.1}, {"joined": 0.3}, {"size": 32}, {"frames": 6}):
        assert kept_folder(replace(RECIPE, **change), tmp_path) != here


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="VPIPE_CACHE_DIR"):
        keep_clips(RECIPE, tmp_path / "file" / "x", 1)


def test_a_recipe_makes_its_clips_once_and_trains_on_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPIPE_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(kept, "BLOCK", 3)
    monkeypatch.setattr(kept, "STOCK", 2)
    monkeypatch.setattr(threads, "_jobs", 1)
    recipe = replace(
        RECIPE, kept=3, clips=6, batch=3, precision="float32", hyper={"widths": [8, 8, 8], "hidden": 8}
    )
    dataset = open_data(recipe)
    files = sorted((tmp_path / "cache").rglob("*.npy"))
    assert len(files) == 3
    network, steps, finished = train(recipe, dataset, len(LABELS), tmp_path / "run", workers=1)
    assert (steps, finished) == (2, True)
    export(recipe, network, steps, tmp_path / "m.safetensors")
    spec = load_model(tmp_path / "m.safetensors").streams[0].spec
    assert (spec.modality, spec.flow_params) == ("flow", packaged_flow_recipe(recipe.fps))
    before = [path.stat().st_mtime_ns for path in files]
    open_data(replace(recipe, modality="rgb", architecture="tsn"))
    assert [path.stat().st_mtime_ns for path in files] == before


def test_training_goes_on_from_a_model_of_the_same_kind_and_refuses_others(tmp_path: Path) -> None:
    recipe = load_recipe("motion-rgb-lively")
    network, _ = network_to_go_on(recipe)
    first = next(iter(load_model("motion-rgb").streams[0].network.state_dict().values()))
    assert torch.equal(next(iter(network.state_dict().values())), first)
    both = network_to_go_on(replace(load_recipe("motion-flow"), init="motion-two-stream"))[0]
    assert isinstance(both, AffineTSN)
    with pytest.raises(UsageError, match="no rgb stream of tsm-diff"):
        network_to_go_on(replace(recipe, init="motion-tsn"))
    with pytest.raises(UsageError, match="no rgb stream"):
        network_to_go_on(replace(recipe, hyper={"widths": [8, 8, 16]}))
    with pytest.raises(UsageError, match="unknown model"):
        network_to_go_on(replace(recipe, init="nothing"))


def test_a_share_of_the_start_stays_in_the_weights() -> None:
    start, trained = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    trained.weight.data[:] = torch.tensor([3.0, -1.0])
    trained.running_mean = torch.tensor([4.0, 0.0])
    mixed = with_start(trained, start, 0.25)
    assert torch.allclose(mixed.weight, torch.tensor([2.5, -0.5]))
    assert torch.allclose(mixed.running_mean, torch.tensor([3.0, 0.0]))  # type: ignore[arg-type]
    assert torch.equal(start.weight, torch.ones(2))
