"""Whether a model says the same of a shot at any frame rate and shape, and what of two motions at once.

    python -m benchmarks.conditions --model motion-rgb --scenes 65 --json

Formats: each scene is written at 24, 60 and 240 fps, landscape (320 x 240) and portrait (240 x 320), and
classified as `vpipe classify` would. Rates agree where all three of one shape get one label; shapes agree
where landscape and portrait at 24 fps do (the portrait picture shows other parts of the scene).
Two motions: camera labels with every subject of the scene on its way too; the camera label is right.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.vocabulary import wilson
from vpipe import threads
from vpipe.models import DEFAULT_MODEL, load_model
from vpipe.recognition.classify import classify
from vpipe.recognition.recognizer import Recognizer
from vpipe.synth.lively import with_moving_subjects
from vpipe.synth.scene import Scene, random_scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import LABELS
from vpipe.synth.write import write_scene

RATES = (24, 60, 240)
SHAPES = {"landscape": (320, 240), "portrait": (240, 320)}
SHOT_S = 2.0
CAMERA_LABELS = LABELS[1:10]


def share(flags: list[bool]) -> dict[str, Any]:
    return {
        "of": len(flags),
        "percent": round(100 * sum(flags) / len(flags), 2),
        "interval95": wilson(sum(flags), len(flags)),
    }


class Judge:
    """Writes scenes to a scratch folder and says what the model calls them."""

    def __init__(self, recognizer: Recognizer, scratch: Path) -> None:
        self.recognizer, self.scratch = recognizer, scratch

    def label(self, scene: Scene, size: tuple[int, int], fps: int) -> str:
        path = self.scratch / "shot.mp4"
        write_scene(path, scene, SHOT_S, size=size, fps=Fraction(fps))
        found = classify(path, self.recognizer, cache_dir=self.scratch / "cache", jobs=threads.jobs())
        return found.top(1)[0][0]


def formats(judge: Judge, count: int, seed: int) -> dict[str, Any]:
    pool = TexturePool()
    right: dict[str, list[bool]] = {f"{name} {fps} fps": [] for name in SHAPES for fps in RATES}
    rates: dict[str, list[bool]] = {name: [] for name in SHAPES}
    shapes: list[bool] = []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        said: dict[tuple[str, int], str] = {}
        for name, size in SHAPES.items():
            # The same random numbers: one shot, filmed in two shapes.
            rng = np.random.default_rng([seed, number])
            scene = random_scene(label, rng, pool, aspect=size[0] / size[1], duration_s=SHOT_S)
            for fps in RATES:
                said[name, fps] = judge.label(scene, size, fps)
                right[f"{name} {fps} fps"].append(said[name, fps] == label)
            rates[name].append(len({said[name, fps] for fps in RATES}) == 1)
        shapes.append(said["landscape", RATES[0]] == said["portrait", RATES[0]])
        print(f"formats: scene {number + 1} of {count}", file=sys.stderr)
    return {
        "right": {name: share(flags) for name, flags in right.items()},
        "rates_agree": {name: share(flags) for name, flags in rates.items()},
        "shapes_agree": share(shapes),
    }


def two_motions(judge: Judge, count: int, seed: int) -> dict[str, Any]:
    pool = TexturePool()
    right: dict[str, list[bool]] = {label: [] for label in CAMERA_LABELS}
    for number in range(count):
        label = CAMERA_LABELS[number % len(CAMERA_LABELS)]
        rng = np.random.default_rng([seed, 7, number])
        size = SHAPES["landscape"]
        scene = random_scene(label, rng, pool, aspect=size[0] / size[1], duration_s=SHOT_S)
        right[label].append(judge.label(with_moving_subjects(scene, rng), size, 24) == label)
    return {
        "camera_label_wins": share([flag for flags in right.values() for flag in flags]),
        "per_label": {
            label: round(100 * sum(flags) / max(1, len(flags)), 1) for label, flags in right.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--scenes", type=int, default=65, help="for formats; as many thrice for two motions")
    parser.add_argument("--seed", type=int, default=3003)
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE, or to stdout"
    )
    parser.add_argument("-j", "--jobs", type=int)
    options = parser.parse_args()
    threads.set_jobs(options.jobs)
    model = load_model(options.model)
    with tempfile.TemporaryDirectory() as scratch:
        judge = Judge(Recognizer(model), Path(scratch))
        result = {
            "schema": "vpipe.conditions/1",
            "model": model.name,
            "hash": model.hash,
            "seed": options.seed,
            "formats": formats(judge, options.scenes, options.seed),
            "two_motions": two_motions(judge, 3 * options.scenes, options.seed),
        }
    text = json.dumps(result, indent=1) + "\n"
    sys.stderr.write(text)
    if options.json:
        sys.stdout.write(text) if options.json == "-" else Path(options.json).write_text(text)


if __name__ == "__main__":
    main()
