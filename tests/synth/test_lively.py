"""Livelier shots keep their label: the camera's motion comes first."""

import numpy as np
import pytest

from vpipe.synth.lively import HELD_TREMOR, enliven
from vpipe.synth.scene import Scene, random_scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import LABELS

SIZE = (160, 120)


@pytest.fixture(scope="module")
def pool() -> TexturePool:
    return TexturePool(stock=4, stock_rng=np.random.default_rng(3))


def lively(label: str, pool: TexturePool, count: int) -> list[tuple[Scene, Scene]]:
    rng = np.random.default_rng([7, LABELS.index(label)])
    plain = [random_scene(label, rng, pool, aspect=4 / 3, duration_s=2.0) for _ in range(count)]
    return [(scene, enliven(scene, rng)) for scene in plain]


def camera_path(scene: Scene) -> np.ndarray:
    """x, y, roll and log zoom of the camera 60 times a second for 2 s, (120, 4)."""
    camera = scene.camera
    parts = (camera.x, camera.y, camera.roll, camera.log_zoom)
    return np.array([[part.at(t) for part in parts] for t in np.arange(120) / 60])


@pytest.mark.parametrize("label", LABELS)
def test_the_camera_goes_the_same_way(label: str, pool: TexturePool) -> None:
    for plain, livelier in lively(label, pool, 8):
        assert (livelier.label, livelier.look) == (label, plain.look)
        before, after = camera_path(plain), camera_path(livelier)
        added = np.diff(after - before, axis=0) * 60  # a second
        travelled = before[-1] - before[0]
        if label == "shake":
            assert np.array_equal(before, after)
        elif label == "static" or label.startswith("subject_"):
            assert np.sqrt((added[:, :2] ** 2).sum(1).mean()) < 2 * HELD_TREMOR
        else:
            main = int(np.abs(travelled).argmax())
            assert np.sign(after[-1, main] - after[0, main]) == np.sign(travelled[main])
    assert any(
        not np.array_equal(a.render(1.0, *SIZE), b.render(1.0, *SIZE)) for a, b in lively(label, pool, 8)
    ) or (label == "shake")


def test_subjects_move_while_the_camera_does_and_never_sideways_before_a_held_one(pool: TexturePool) -> None:
    def rates(scene: Scene) -> list[tuple[float, float]]:
        level = scene.camera.roll.origin
        c, s = np.cos(level), np.sin(level)
        return [(c * one.x.rate + s * one.y.rate, c * one.y.rate - s * one.x.rate) for one in scene.subjects]

    panned = [rate for _, scene in lively("pan_left", pool, 20) for rate in rates(scene)]
    assert sum(np.hypot(*rate) > 0.1 for rate in panned) > len(panned) / 4
    held = [rate for _, scene in lively("static", pool, 40) for rate in rates(scene)]
    fast = [rate for rate in held if np.hypot(*rate) > 0.1]
    assert fast
    assert all(abs(right) < 0.35 * abs(down) for right, down in fast)


def test_the_subject_labels_keep_their_subject(pool: TexturePool) -> None:
    for plain, livelier in lively("subject_left", pool, 8):
        assert livelier.subjects == plain.subjects
