"""Five generated labels outside the vocabulary: they are what they say, and (slow) few of them are learnt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.own_label_videos import LABELS, own_scene, write_untrimmed
from benchmarks.own_labels import trimmed
from vpipe.synth.scene import Scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import BACKGROUND
from vpipe.synth.vocabulary import LABELS as VOCABULARY

TIMES_S = np.arange(0, 2.0, 0.05)


@pytest.fixture(scope="module")
def pool() -> TexturePool:
    return TexturePool(stock=3, stock_rng=np.random.default_rng(5))


def scenes(label: str, pool: TexturePool) -> list[Scene]:
    rng = np.random.default_rng([4, (*LABELS, BACKGROUND).index(label)])
    return [own_scene(label, rng, pool, aspect=4 / 3, duration_s=2.0) for _ in range(6)]


def places(scene: Scene, who: int = -1) -> tuple[np.ndarray, np.ndarray]:
    """Where a subject's body is on the screen at TIMES_S, (times, 2), and its size, (times,)."""
    matrices = [
        scene.subjects[who].layers(scene.camera, t, t, scene._wrap(scene.subjects[who]))[0][1]
        for t in TIMES_S
    ]
    return np.array([m[:2, 2] for m in matrices]), np.array(
        [np.sqrt(abs(np.linalg.det(m[:2, :2]))) for m in matrices]
    )


def test_no_label_is_of_the_vocabulary() -> None:
    assert not set(LABELS) & set(VOCABULARY)


@pytest.mark.parametrize(("label", "way"), [("circle_clockwise", 1), ("circle_counterclockwise", -1)])
def test_circles_go_their_way_and_close(label: str, way: int, pool: TexturePool) -> None:
    for scene in scenes(label, pool):
        at, _ = places(scene)
        step = np.diff(at, axis=0)
        (x, y), (next_x, next_y) = step[:-1].T, step[1:].T
        turned = x * next_y - y * next_x  # down is positive: clockwise turns are positive
        assert (np.sign(turned) == way).mean() > 0.95
        angles = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))
        assert abs(angles[-1] - angles[0]) > 0.9 * 2 * np.pi * 0.5 * 1.85


def test_bouncing_goes_up_and_down(pool: TexturePool) -> None:
    for scene in scenes("bounce", pool):
        at, _ = places(scene)
        across, height = np.ptp(at, axis=0)
        assert height > 0.15
        assert across < 0.15


def test_two_come_together(pool: TexturePool) -> None:
    for scene in scenes("meet", pool):
        apart = np.hypot(*(places(scene, -1)[0] - places(scene, -2)[0]).T)
        assert apart[0] - apart[-1] > 0.25
        assert (np.diff(apart) < 0.01).all()


def test_growing_and_shrinking(pool: TexturePool) -> None:
    for scene in scenes("grow_shrink", pool):
        _, size = places(scene)
        assert size.max() / size.min() > 1.3
        assert (np.diff(size) > 0).any()
        assert (np.diff(size) < 0).any()


def test_nothing_happens_in_the_background(pool: TexturePool) -> None:
    for scene in scenes(BACKGROUND, pool):
        at, size = places(scene)
        assert np.ptp(at, axis=0).max() < 0.15
        assert size.max() / size.min() < 1.1


def test_untrimmed_videos_say_what_they_show(tmp_path: Path) -> None:
    truth = write_untrimmed(tmp_path, 1, 5, 6.0)
    (entry,) = truth["database"].values()
    assert entry["duration"] == pytest.approx(6.0, abs=0.1)
    assert (tmp_path / "truth.json").is_file()
    for note in entry["annotations"]:
        assert note["label"] in LABELS
        assert 0 <= note["segment"][0] < note["segment"][1] <= 6.0 + 1e-6


@pytest.mark.slow
@pytest.mark.timed
def test_the_five_labels_are_learnt_from_few_clips(tmp_path: Path) -> None:
    """The README's third example, small; `make bench-own-labels` measures it at full size."""
    found = trimmed(tmp_path, 10, 6, None, "--clips", 1200)
    assert found["test_clips"] == 30
    assert found["accuracy"] >= 50  # chance is 20
    assert found["train"]["data_wait"] < 0.15
