"""Generated videos of five motions that the packaged vocabulary does not know, as stand-ins for a user's own.

    python -m benchmarks.own_label_videos clips -o DIR --per-label 20 --seed 1       DIR/<label>/<n>.mp4
    python -m benchmarks.own_label_videos untrimmed -o DIR --count 8 --seed 1        DIR/<n>.mp4, truth.json

    bounce                    a subject hops on the spot
    circle_clockwise          a subject goes round in a circle; single frames, and frames without their
    circle_counterclockwise   order, do not tell the two apart
    meet                      two subjects come together
    grow_shrink               a subject grows and shrinks

Backgrounds, subjects, faults of the recording and bystanders are those of `vpipe synth`; the camera is held.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path as FilePath
from typing import Any

import cv2
import numpy as np

from vpipe.media import VideoWriter
from vpipe.synth.motion import Camera, Path, Wobble, rotation
from vpipe.synth.scene import Scene, random_scene
from vpipe.synth.subjects import Sprite, Subject
from vpipe.synth.textures import TexturePool
from vpipe.synth.timing import random_timeline
from vpipe.synth.vocabulary import BACKGROUND

LABELS = ("bounce", "circle_clockwise", "circle_counterclockwise", "meet", "grow_shrink")
SIZES = ((320, 240), (256, 192), (320, 180), (240, 240), (192, 256), (180, 320))  # (width, height), px
RATES = (15, 24, 25, 30)
CLIP_S = (1.8, 3.0)
MINUTE_S = 60.0

# Lengths in short sides of the frame.
ACTOR_RADIUS = (0.15, 0.26)  # of the subject whose motion is the label
HOPS_HZ, HOP_HEIGHT = (0.8, 1.8), (0.2, 0.45)
CIRCLE_HZ, CIRCLE_RADIUS = (0.5, 1.0), (0.14, 0.28)
GROWTH_HZ, GROWTH = (0.5, 1.2), (0.3, 0.55)  # amplitude of the logarithm of the size
MEET_GAP = (0.4, 0.9)  # between the two at the beginning, beyond touching


@dataclass(frozen=True)
class Hop(Path):
    """The path of something thrown up again and again: height(t) is a row of parabolas."""

    height: float = 0.0
    hertz: float = 1.0
    phase: float = 0.0

    def at(self, t: float) -> float:
        return super().at(t) + self.height * (self._up(t) - self._up(self.t_ref))

    def _up(self, t: float) -> float:
        u = (self.hertz * t + self.phase) % 1.0
        return 4 * u * (1 - u)


@dataclass(frozen=True)
class Approach(Path):
    """Away from `origin` by `away` at the beginning, there at `arrival_s`, and then at rest."""

    away: float = 0.0
    arrival_s: float = 1.0

    def at(self, t: float) -> float:
        return super().at(t) + self.away * max(0.0, 1 - t / self.arrival_s)


@dataclass(frozen=True)
class Growing(Subject):
    """A subject whose size goes up and down."""

    growth: Wobble = field(default_factory=Wobble)

    def layers(
        self, camera: Camera, t: float, t_shown: float, wrap: tuple[float, float]
    ) -> list[tuple[Sprite, np.ndarray]]:
        size = replace(self, radius=self.radius * float(np.exp(self.growth.at(t))))
        return super(Growing, size).layers(camera, t, t_shown, wrap)


def own_scene(
    label: str, rng: np.random.Generator, pool: TexturePool, *, aspect: float, duration_s: float
) -> Scene:
    """A shot of one of LABELS, or of BACKGROUND: what stands there otherwise is drawn alike for all."""
    scene = random_scene(BACKGROUND, rng, pool, aspect=aspect, duration_s=duration_s)
    if label == BACKGROUND:
        return scene
    subjects = list(scene.subjects)
    larger = _between(rng, ACTOR_RADIUS) / subjects[-1].radius
    subject = replace(
        subjects[-1], radius=subjects[-1].radius * larger, arm_length=subjects[-1].arm_length * larger
    )
    subjects[-1], level = subject, rotation(scene.camera.roll.origin)[:2, :2]
    phase = float(rng.random())
    # The middle of what it does, so that all of it is in the picture.
    x, y = scene.camera.position(0.0) + level @ (_room(aspect, subject.radius) * rng.uniform(-1, 1, 2))
    if label == "bounce":
        up = level @ np.array([0.0, -_between(rng, HOP_HEIGHT)])
        hop: dict[str, Any] = {"hertz": _between(rng, HOPS_HZ), "phase": phase}
        hop_x, hop_y = (
            Hop(at - part / 2, t_ref=-phase / hop["hertz"], height=float(part), **hop)
            for at, part in zip((x, y), up, strict=True)
        )
        subjects[-1] = replace(subject, x=hop_x, y=hop_y)
    elif label.startswith("circle_"):
        radius, hertz = _between(rng, CIRCLE_RADIUS), _between(rng, CIRCLE_HZ)
        turn = 0.0 if label == "circle_clockwise" else 0.5
        # Down is positive, so (cos, sin) goes clockwise on the screen.
        cosine = Wobble((radius,), (hertz,), (2 * np.pi * (phase + 0.25),))
        sine = Wobble((radius,), (hertz,), (2 * np.pi * (phase + turn),))
        round_x = Path(x + cosine.at(0.0), wobble=cosine)
        round_y = Path(y + sine.at(0.0), wobble=sine)
        subjects[-1] = replace(subject, x=round_x, y=round_y)
    elif label == "meet":
        if len(subjects) < 2:
            subjects.insert(0, _standing(rng, pool, aspect, duration_s, subject))
        subjects[-2:] = _meeting(rng, scene.camera, level, subjects[-2:], duration_s)
    else:
        growth = Wobble((_between(rng, GROWTH),), (_between(rng, GROWTH_HZ),), (2 * np.pi * phase,))
        subject = replace(subject, x=Path(float(x)), y=Path(float(y)))
        values = {name: getattr(subject, name) for name in subject.__dataclass_fields__}
        subjects[-1] = Growing(**values, growth=growth)
    return replace(scene, label=label, subjects=tuple(subjects))


def _room(aspect: float, radius: float) -> np.ndarray:
    """How far from the middle of the picture a thing of this radius can be that moves by as much: (2,)."""
    half = np.array([max(aspect, 1.0), max(1 / aspect, 1.0)]) / 2
    return np.maximum(half - 2 * radius, 0.0)


def _between(rng: np.random.Generator, bounds: tuple[float, float]) -> float:
    return float(rng.uniform(*bounds))


def _standing(
    rng: np.random.Generator, pool: TexturePool, aspect: float, duration_s: float, like: Subject
) -> Subject:
    """Another subject, where `like` stands."""
    drawn = random_scene(BACKGROUND, rng, pool, aspect=aspect, duration_s=duration_s).subjects[0]
    return replace(drawn, x=like.x, y=like.y, lean=like.lean)


def _meeting(
    rng: np.random.Generator, camera: Camera, level: np.ndarray, pair: list[Subject], duration_s: float
) -> list[Subject]:
    """Both come from either side and touch near the end of the shot, in the inner part of the picture."""
    middle = camera.position(0.0) + level @ rng.uniform(-0.15, 0.15, 2)
    angle = float(rng.uniform(-np.pi, np.pi))
    along = np.array([np.cos(angle), np.sin(angle)])
    touching, gap = 0.75 * sum(subject.radius for subject in pair), _between(rng, MEET_GAP)
    share = float(rng.uniform(0.3, 0.7))  # one may be faster than the other
    arrival = duration_s * float(rng.uniform(0.85, 1.1))
    moved = []
    for subject, side, part in zip(pair, (-1, 1), (share, 1 - share), strict=True):
        place = middle + along * side * touching / 2
        away = along * side * gap * part
        x, y = (
            Approach(float(at), away=float(far), arrival_s=arrival)
            for at, far in zip(place, away, strict=True)
        )
        moved.append(replace(subject, x=x, y=y))
    return moved


@dataclass(frozen=True)
class _Format:
    width: int
    height: int
    fps: int
    crf: int

    @classmethod
    def random(cls, rng: np.random.Generator) -> _Format:
        width, height = SIZES[int(rng.integers(len(SIZES)))]
        return cls(width, height, RATES[int(rng.integers(len(RATES)))], int(rng.integers(18, 31)))

    def write(self, path: FilePath, duration_s: float, render: Callable[[float], np.ndarray]) -> int:
        """Returns the number of frames."""
        frames = max(2, round(duration_s * self.fps))
        with VideoWriter(path, self.width, self.height, fps=Fraction(self.fps), crf=self.crf) as writer:
            for k in range(frames):
                writer.write(render(k / self.fps))
        return frames


def write_labelled(folder: FilePath, per_label: int, seed: int) -> list[tuple[FilePath, str]]:
    """`folder`/<label>/<n>.mp4: `per_label` short clips of each label; returns (path, label)."""
    cv2.setNumThreads(1)
    written = []
    for number in range(per_label):
        for place, label in enumerate(LABELS):
            rng = np.random.default_rng([seed, 20, place, number])
            form, duration = _Format.random(rng), _between(rng, CLIP_S)
            path = folder / label / f"{number:04d}.mp4"
            written.append((path, label))
            if path.exists():  # made by an earlier run
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            aspect = form.width / form.height
            scene = own_scene(label, rng, TexturePool(), aspect=aspect, duration_s=duration)
            form.write(path, duration, lambda t, s=scene, f=form: s.render(t, f.width, f.height))  # type: ignore[misc]
    return written


def write_untrimmed(folder: FilePath, count: int, seed: int, duration_s: float = MINUTE_S) -> dict[str, Any]:
    """`folder`/<n>.mp4 and truth.json, ActivityNet's: segments of the labels between stretches of nothing."""
    cv2.setNumThreads(1)
    folder.mkdir(parents=True, exist_ok=True)
    database = {}
    for number in range(count):
        rng = np.random.default_rng([seed, 21, number])
        form = _Format.random(rng)
        timeline = random_timeline(rng, duration_s, LABELS)
        aspect = form.width / form.height
        scenes = [
            own_scene(part.label, rng, TexturePool(), aspect=aspect, duration_s=part.end_s - part.start_s)
            for part in timeline.parts
        ]

        def render(t: float) -> np.ndarray:
            shown = timeline.shown(t)  # noqa: B023 (used within this turn only)
            pictures = [
                scenes[n].render(t - timeline.parts[n].start_s, form.width, form.height)  # noqa: B023
                for n, _ in shown
            ]
            if len(shown) == 1:
                return pictures[0]
            return np.asarray(cv2.addWeighted(pictures[0], shown[0][1], pictures[1], shown[1][1], 0))

        frames = form.write(folder / f"untrimmed_{seed}_{number:03d}.mp4", duration_s, render)
        database[f"untrimmed_{seed}_{number:03d}"] = {
            "subset": "test",
            "duration": frames / form.fps,
            "annotations": [
                {"segment": [round(part.start_s, 3), round(part.end_s, 3)], "label": part.label}
                for part in timeline.parts
                if part.label != BACKGROUND
            ],
        }
    truth = {"version": "own labels", "database": database}
    (folder / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")
    return truth


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kind", choices=("clips", "untrimmed"))
    parser.add_argument("-o", "--output", type=FilePath, required=True)
    parser.add_argument("--per-label", type=int, default=20, help="clips of each label")
    parser.add_argument("--count", type=int, default=8, help="untrimmed videos, a minute each")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.kind == "clips":
        write_labelled(options.output, options.per_label, options.seed)
    else:
        write_untrimmed(options.output, options.count, options.seed)


if __name__ == "__main__":
    main()
