"""What real recordings add to a shot: hands that tremble, subjects that move while the camera does.

The label stays. The camera's own motion comes first: a pan during which the hand trembles or a subject moves
is a pan. A subject that rises or sinks before a camera held still has no word in the vocabulary: `static`.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vpipe.synth.motion import Camera, Path, Wobble
from vpipe.synth.scene import SUBJECT_RATE, Scene
from vpipe.synth.subjects import Subject

TREMOR_HZ = (0.8, 5.0)
HELD_TREMOR = 0.05  # short sides a second, root mean square: of a camera that is held; `shake` starts at 0.12
MOVING_TREMOR = 1.2  # at most, as a share of the camera's own speed at the edge of the picture
FASTEST_TREMOR = 0.5  # short sides a second
_EDGE = 0.5  # short sides from the middle to the edge


def enliven(scene: Scene, rng: np.random.Generator) -> Scene:
    """The same shot, told livelier: its label, place, look and camera path stay."""
    if scene.label == "shake":
        camera = scene.camera
    else:
        camera = _trembling(scene.camera, rng)
    follows = scene.label.startswith(("pan_", "tilt_")) and rng.random() < 0.3
    subjects = list(scene.subjects)
    if scene.label == "static":
        if rng.random() < 0.35:
            subjects[-1] = _moving(subjects[-1], camera, rng, upright=True)
    elif not scene.label.startswith("subject_"):
        subjects = [_moving(s, camera, rng) if rng.random() < 0.5 else s for s in subjects]
        if follows:
            subjects[-1] = _followed(subjects[-1], camera, rng)
    return replace(scene, camera=camera, subjects=tuple(subjects))


def with_moving_subjects(scene: Scene, rng: np.random.Generator) -> Scene:
    """Two motions at once: the same shot, every subject on its way somewhere at a rate of the vocabulary."""
    return replace(scene, subjects=tuple(_moving(s, scene.camera, rng) for s in scene.subjects))


def _trembling(camera: Camera, rng: np.random.Generator) -> Camera:
    own = float(np.hypot(camera.x.rate, camera.y.rate))
    own = max(own, _EDGE * abs(camera.roll.rate), _EDGE * abs(camera.log_zoom.rate))
    most = min(MOVING_TREMOR * own, FASTEST_TREMOR) if own else HELD_TREMOR
    speed, share = float(rng.uniform(0, most)), float(rng.uniform(0.2, 0.8))
    return replace(
        camera,
        x=_shaken(camera.x, speed * np.sqrt(2 * share), rng),
        y=_shaken(camera.y, speed * np.sqrt(2 * (1 - share)), rng),
        roll=_shaken(camera.roll, speed * float(rng.uniform(0, 0.8)), rng),
    )


def _shaken(path: Path, speed: float, rng: np.random.Generator) -> Path:
    old, new = path.wobble, Wobble.random(rng, speed, *TREMOR_HZ)
    both = Wobble(
        old.amplitudes + new.amplitudes, old.frequencies_hz + new.frequencies_hz, old.phases + new.phases
    )
    return replace(path, wobble=both)


def _moving(subject: Subject, camera: Camera, rng: np.random.Generator, *, upright: bool = False) -> Subject:
    """The subject on its way: anywhere, or up or down the picture (`upright`)."""
    heading = float(rng.uniform(0, 2 * np.pi))
    if upright:
        heading = float(rng.choice([-0.5, 0.5])) * np.pi + float(rng.uniform(-0.3, 0.3))
    heading += camera.roll.origin
    speed = float(np.exp(rng.uniform(*np.log(SUBJECT_RATE))))
    return _at_rate(subject, speed * np.cos(heading), speed * np.sin(heading))


def _followed(subject: Subject, camera: Camera, rng: np.random.Generator) -> Subject:
    """The subject that the camera follows: nearly at rest in the picture."""
    share = float(rng.uniform(0.6, 1.1))
    return _at_rate(subject, share * camera.x.rate, share * camera.y.rate, camera.x)


def _at_rate(subject: Subject, right: float, down: float, eased: Path | None = None) -> Subject:
    """The subject with these speeds (world, short sides a second), eased like itself or like `eased`."""
    like = eased or subject.x
    ease = like.ease if eased else min(like.ease, 0.4)
    x, y = (
        replace(path, rate=float(rate), ease=ease, ease_hz=like.ease_hz, ease_phase=like.ease_phase)
        for path, rate in ((subject.x, right), (subject.y, down))
    )
    return replace(subject, x=x, y=y)
