"""What the packaged models promise of any video: one shot, one label, whatever its rate and shape."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vpipe.models import load_model
from vpipe.recognition.classify import classify
from vpipe.recognition.recognizer import Recognizer
from vpipe.synth.lively import with_moving_subjects
from vpipe.synth.scene import Scene, random_scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import LABELS
from vpipe.synth.write import write_scene

MODELS = ("motion-rgb", "motion-two-stream")
CAMERA_LABELS = LABELS[1:10]


@pytest.fixture(scope="module")
def pool() -> TexturePool:
    return TexturePool(stock=5, stock_rng=np.random.default_rng(21))


@pytest.fixture(scope="module", params=MODELS)
def recognizer(request: pytest.FixtureRequest) -> Recognizer:
    return Recognizer(load_model(request.param))


def called(scene: Scene, recognizer: Recognizer, folder: Path, size: tuple[int, int], fps: int) -> str:
    path = folder / f"{size[0]}x{size[1]}_{fps}.mp4"
    write_scene(path, scene, 1.6, size=size, fps=Fraction(fps))
    return classify(path, recognizer, cache_dir=folder / "cache", jobs=2).top(1)[0][0]


def drawn(label: str, seed: int, pool: TexturePool, size: tuple[int, int]) -> Scene:
    rng = np.random.default_rng([seed, LABELS.index(label)])
    return random_scene(label, rng, pool, aspect=size[0] / size[1], duration_s=1.6)


def check_formats(
    label: str, seed: int, recognizer: Recognizer, pool: TexturePool, folder: Path
) -> list[bool]:
    """For landscape and portrait: whether 24, 60 and 240 fps all give the label."""
    return [
        {called(drawn(label, seed, pool, size), recognizer, folder, size, fps) for fps in (24, 60, 240)}
        == {label}
        for size in ((128, 96), (96, 128))
    ]


@pytest.mark.parametrize("label", ["pan_left", "subject_right"])
def test_rates_and_shapes_agree(
    label: str, recognizer: Recognizer, pool: TexturePool, tmp_path: Path
) -> None:
    assert all(check_formats(label, 4, recognizer, pool, tmp_path))


def test_the_camera_label_wins(recognizer: Recognizer, pool: TexturePool, tmp_path: Path) -> None:
    size = (128, 96)
    right = []
    for number, label in enumerate(("pan_right", "tilt_up", "roll_clockwise")):
        scene = with_moving_subjects(drawn(label, 4, pool, size), np.random.default_rng(number))
        right.append(called(scene, recognizer, tmp_path, size, 24) == label)
    assert all(right)


@pytest.mark.slow
def test_rates_and_shapes_agree_for_every_label(
    recognizer: Recognizer, pool: TexturePool, tmp_path: Path
) -> None:
    agreed = [flag for label in LABELS for flag in check_formats(label, 8, recognizer, pool, tmp_path)]
    assert sum(agreed) >= len(agreed) - 3  # of 26


@pytest.mark.slow
def test_the_camera_label_wins_most_of_the_time(
    recognizer: Recognizer, pool: TexturePool, tmp_path: Path
) -> None:
    size, right = (160, 120), []
    for seed in range(3):
        for label in CAMERA_LABELS:
            scene = with_moving_subjects(
                drawn(label, 30 + seed, pool, size), np.random.default_rng([seed, LABELS.index(label)])
            )
            right.append(called(scene, recognizer, tmp_path, size, 24) == label)
    assert sum(right) >= 0.85 * len(right)
