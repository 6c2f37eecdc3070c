"""The generator's promises: exact truth, conventions as documented, motion that does not know the fps."""

import cv2
import numpy as np
import pytest

from vpipe.synth.scene import Scene, random_scene, shows_motion
from vpipe.synth.subjects import Subject
from vpipe.synth.textures import Texture, TexturePool
from vpipe.synth.vocabulary import FLIPPED, LABELS

SIZE = (160, 120)


@pytest.fixture(scope="module")
def pool() -> TexturePool:
    return TexturePool(stock=6, stock_rng=np.random.default_rng(11))


def scenes(label: str, pool: TexturePool, count: int, seed: int = 1) -> list[Scene]:
    rng = np.random.default_rng([seed, LABELS.index(label)])
    return [random_scene(label, rng, pool, aspect=4 / 3, duration_s=2.0) for _ in range(count)]


def background_flow(scene: Scene, start: float = 0.0, end: float = 2.0) -> np.ndarray:
    """Exact flow of the background alone, (2, H, W)."""
    bare = Scene(**{**scene.__dict__, "subjects": ()})
    return bare.flow(start, end, *SIZE)


def curl(flow: np.ndarray) -> float:
    """Mean rotation of the content, positive clockwise on the screen."""
    return float((np.gradient(flow[1], axis=1) - np.gradient(flow[0], axis=0)).mean())


def divergence(flow: np.ndarray) -> float:
    return float((np.gradient(flow[0], axis=1) + np.gradient(flow[1], axis=0)).mean())


def actor_motion(scene: Scene) -> np.ndarray:
    """Where the moving subject goes on the screen between 0.9 and 1.1 s."""
    actor: Subject = scene.subjects[-1]
    before = actor.layers(scene.camera, 0.9, 1.0, scene._wrap(actor))[0][1]
    after = actor.layers(scene.camera, 1.1, 1.0, scene._wrap(actor))[0][1]
    return (after - before)[:2, 2]


def test_labels_are_the_thirteen_and_mirror_in_pairs() -> None:
    assert len(set(LABELS)) == 13
    assert all(FLIPPED[FLIPPED[label]] == label for label in FLIPPED)


@pytest.mark.parametrize(
    ("label", "measure", "sign"),
    [
        ("pan_right", lambda s: background_flow(s)[0].mean(), -1),  # the content goes the other way
        ("pan_left", lambda s: background_flow(s)[0].mean(), 1),
        ("tilt_up", lambda s: background_flow(s)[1].mean(), 1),
        ("tilt_down", lambda s: background_flow(s)[1].mean(), -1),
        ("zoom_in", lambda s: divergence(background_flow(s)), 1),
        ("zoom_out", lambda s: divergence(background_flow(s)), -1),
        ("roll_clockwise", lambda s: curl(background_flow(s, 0.9, 1.1)), -1),
        ("roll_counterclockwise", lambda s: curl(background_flow(s, 0.9, 1.1)), 1),
        ("subject_left", lambda s: actor_motion(s)[0], -1),
        ("subject_right", lambda s: actor_motion(s)[0], 1),
    ],
)
def test_conventions(label: str, measure, sign: int, pool: TexturePool) -> None:
    values = [sign * measure(scene) for scene in scenes(label, pool, 12)]
    assert min(values) > 0


def test_static_and_subject_labels_hold_the_camera(pool: TexturePool) -> None:
    for label in ("static", "subject_left", "subject_right", "subject_waves"):
        for scene in scenes(label, pool, 6):
            assert np.abs(background_flow(scene, 0.5, 1.5)).mean() < 0.05 * SIZE[1]


def test_waving_swings_the_arm_and_leaves_the_body(pool: TexturePool) -> None:
    for scene in scenes("subject_waves", pool, 6):
        actor = scene.subjects[-1]
        angles = [actor.arm_angle.at(t) for t in np.linspace(0, 2, 60)]
        assert 0.7 < max(angles) - min(angles) < 2.5
        assert np.hypot(actor.x.at(2) - actor.x.at(0), actor.y.at(2) - actor.y.at(0)) < 0.12


@pytest.mark.parametrize("label", LABELS)
def test_exact_flow_maps_one_picture_onto_the_next(label: str, pool: TexturePool) -> None:
    """Warping the later picture back by the flow gives the earlier one, where nothing is uncovered."""
    (scene,) = scenes(label, pool, 1, seed=5)
    look = {**scene.look.__dict__, "noise": 0.0, "flicker": type(scene.look.flicker)()}
    scene = Scene(**{**scene.__dict__, "look": type(scene.look)(**look)})
    first, second = (scene.render(t, *SIZE).astype(np.float32) for t in (1.0, 1.04))
    u, v = scene.flow(1.0, 1.04, *SIZE)
    x, y = np.meshgrid(np.arange(SIZE[0], dtype=np.float32), np.arange(SIZE[1], dtype=np.float32))
    back = cv2.remap(second, x + u, y + v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = (x + u >= 0) & (x + u <= SIZE[0] - 1) & (y + v >= 0) & (y + v <= SIZE[1] - 1)
    difference = np.abs(back - first).mean(-1)[inside]
    unmoved = np.abs(second - first).mean(-1)[inside]
    assert np.median(difference) <= 3.0
    assert difference.mean() <= max(2.5, unmoved.mean() + 0.5)


def test_the_same_instant_is_the_same_picture_at_any_frame_rate(pool: TexturePool) -> None:
    (scene,) = scenes("pan_left", pool, 1)
    at_24 = {k / 24: scene.render(k / 24, *SIZE) for k in range(0, 48, 12)}
    for t, picture in at_24.items():
        assert np.array_equal(picture, scene.render(round(t * 60) / 60, *SIZE))


def test_equal_seeds_give_equal_scenes(pool: TexturePool) -> None:
    first, second = (scenes("shake", pool, 1, seed=9)[0] for _ in range(2))
    assert np.array_equal(first.render(0.7, *SIZE), second.render(0.7, *SIZE))


def test_what_one_frame_shows_does_not_tell_the_label(pool: TexturePool) -> None:
    """Number and size of subjects, blur, scale and camera angle: means of two groups of labels agree."""
    groups = []
    for labels in (("static", "pan_left", "zoom_in"), ("subject_left", "subject_right", "subject_waves")):
        drawn = [scene for label in labels for scene in scenes(label, pool, 60, seed=3)]
        groups.append(
            np.array(
                [
                    (
                        len(s.subjects),
                        s.subjects[-1].radius,
                        s.look.blur_px,
                        np.log(s.texels),
                        s.camera.roll.at(1),
                    )
                    for s in drawn
                ]
            )
        )
    first, second = groups
    error = np.sqrt(first.var(0) / len(first) + second.var(0) / len(second))
    assert np.all(np.abs(first.mean(0) - second.mean(0)) < 3.5 * error)


def test_the_background_is_never_blank_where_the_pool_has_another(pool: TexturePool) -> None:
    blank = Texture.from_image(np.full((128, 128, 3), 90, np.uint8))
    textured = pool.pick(np.random.default_rng(0))
    rng = np.random.default_rng(2)
    mixed, nothing = TexturePool([blank, blank, blank, textured]), TexturePool([blank])
    for _ in range(12):
        scene = random_scene("pan_left", rng, mixed, aspect=4 / 3, duration_s=2.0)
        assert scene.background is textured
    scene = random_scene("pan_left", rng, nothing, aspect=4 / 3, duration_s=2.0)
    assert scene.background is blank
    assert not shows_motion(blank, 100.0, (50.0, 50.0), scene.look, 1.0)
