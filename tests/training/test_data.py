"""Training data: batches that depend on the seed and their number alone, faults that keep the motion."""

from dataclasses import replace

import numpy as np
import pytest

from vpipe.errors import UsageError
from vpipe.flow.quantise import Storage
from vpipe.training.degrade import h264, jpeg, like_tvl1
from vpipe.training.generated import GeneratedClips
from vpipe.training.recipe import Recipe, load_recipe
from vpipe.training.sources import open_data


def small(modality: str) -> Recipe:
    return Recipe("t", modality, "tsn", clips=12, batch=3, seed=5, size=32)


@pytest.mark.parametrize(("modality", "shape"), [("rgb", (3, 8, 32, 32, 3)), ("flow", (3, 7, 2, 32, 32))])
def test_batches_depend_on_seed_and_number_alone(modality: str, shape: tuple[int, ...]) -> None:
    recipe = small(modality)
    straight = GeneratedClips(recipe)
    first = [straight[n] for n in range(2)]
    again = GeneratedClips(recipe)[1]
    assert first[1][0].shape == shape
    assert np.array_equal(first[1][0], again[0])
    assert np.array_equal(first[1][1], again[1])
    assert not np.array_equal(first[0][0], first[1][0])
    assert np.allclose(again[1].sum(1), 1)
    assert np.isfinite(first[0][0]).all()
    other = GeneratedClips(replace(recipe, seed=6))[1]
    assert not np.array_equal(again[0], other[0])


def test_compression_keeps_the_picture() -> None:
    ramp = np.linspace(0, 255, 64)[None, :, None].repeat(48, 0).repeat(3, 2).astype(np.uint8)
    frames = [np.roll(ramp, 4 * k, 1) for k in range(8)]
    for coded in (jpeg(frames, 80), h264(frames, 20)):
        assert len(coded) == 8
        assert all(np.abs(a.astype(int) - b).mean() < 6 for a, b in zip(frames, coded, strict=True))


def test_flow_made_like_tvl1_keeps_its_direction() -> None:
    rng = np.random.default_rng(0)
    pan = np.zeros((7, 2, 40, 60), np.float32)
    pan[:, 0] = -3
    for _ in range(20):
        seen = like_tvl1(pan, rng, 1.5, Storage())
        assert np.median(seen[:, 0]) < -0.3
        assert np.abs(np.median(seen[:, 1])) < 0.3
    still = like_tvl1(np.zeros_like(pan), rng, 1.5, Storage())
    assert np.abs(np.median(still)) < 0.2


@pytest.mark.parametrize("name", ["motion-rgb", "motion-rgb-lively", "motion-flow", "motion-tsn"])
def test_packaged_recipes_load(name: str) -> None:
    assert load_recipe(name).name == name


GOOD = 'name = "a"\nmodality = "rgb"\narchitecture = "tsn"\nclips = 3\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clips = ", "not a usable recipe"),
        ('name = "a"\nmodality = "sound"\narchitecture = "tsn"\nclips = 3', "rgb or flow"),
        ('name = "a"\nmodality = "rgb"\narchitecture = "tsn"\nclips = 0', "clips must be above 0"),
        ('name = "a"\nmodality = "rgb"\narchitecture = "tsn"\nclips = 3\nspeed = 9', "unknown key speed"),
        (GOOD + "size = 64.5", "size = 64.5: a whole number"),
        (GOOD + "batch = 2.5", "batch = 2.5: a whole number"),
        (GOOD + 'batch = "x"', "batch = 'x': a whole number"),
        (GOOD + "seed = true", "seed = True: a whole number"),
        (GOOD + "hyper = 3", "hyper = 3: a table"),
        (GOOD + "size = 1", "at least 16 px"),
        (GOOD + "joined = 2", "shares of 1"),
    ],
)
def test_bad_recipes_are_refused(tmp_path, text: str, message: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_recipe(str(tmp_path / "r.toml"))
    with pytest.raises(UsageError, match="no such recipe"):
        load_recipe("nothing")


def test_folder_without_truth_is_refused(tmp_path) -> None:
    with pytest.raises(UsageError, match="vpipe synth clips"):
        open_data(replace(small("rgb"), data=str(tmp_path)))
