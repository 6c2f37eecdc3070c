"""Whether a model says the same of a shot at any frame rate and shape, and what of two motions at once.

    python -m benchmarks.conditions --scenes 65 --json

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

from vpipe import threads
from vpipe.models import load_model
from vpipe.recognition.classify import classify
from vpipe.recognition.recognizer import Recognizer
from vpipe.synth.lively import with_moving_subjects
from vpipe.synth.scene import Scene, random_scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import LABELS
from vpipe.synth.write import write_scene
from vpipe.training.assessing import wilson

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
    """Writes scenes to a scratch folder and says what each model calls them."""

    def __init__(self, recognizers: list[Recognizer], scratch: Path) -> None:
        self.recognizers, self.scratch = recognizers, scratch

    def labels(self, scene: Scene, size: tuple[int, int], fps: int) -> list[str]:
        path = self.scratch / "shot.mp4"
        write_scene(path, scene, SHOT_S, size=size, fps=Fraction(fps))
        cache = self.scratch / "cache"
        return [
            classify(path, one, cache_dir=cache, jobs=threads.jobs()).top(1)[0][0] for one in self.recognizers
        ]


Said = dict[tuple[str, int], list[str]]  # by shape and rate: what each model says


def formats(judge: Judge, count: int, seed: int) -> list[dict[str, Any]]:
    """One result for each model."""
    pool = TexturePool()
    rows: list[tuple[str, Said]] = []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        said: Said = {}
        for name, size in SHAPES.items():
            # The same random numbers: one shot, filmed in two shapes.
            rng = np.random.default_rng([seed, number])
            scene = random_scene(label, rng, pool, aspect=size[0] / size[1], duration_s=SHOT_S)
            said |= {(name, fps): judge.labels(scene, size, fps) for fps in RATES}
        rows.append((label, said))
        print(f"formats: scene {number + 1} of {count}", file=sys.stderr)
    return [_agreement(rows, model) for model in range(len(judge.recognizers))]


def _agreement(rows: list[tuple[str, Said]], model: int) -> dict[str, Any]:
    right = {
        f"{name} {fps} fps": share([said[name, fps][model] == label for label, said in rows])
        for name in SHAPES
        for fps in RATES
    }
    rates = {
        name: share([len({said[name, fps][model] for fps in RATES}) == 1 for _, said in rows])
        for name in SHAPES
    }
    first, second = SHAPES
    shapes = [said[first, RATES[0]][model] == said[second, RATES[0]][model] for _, said in rows]
    return {"right": right, "rates_agree": rates, "shapes_agree": share(shapes)}


def two_motions(judge: Judge, count: int, seed: int) -> list[dict[str, Any]]:
    """One result for each model."""
    pool, size = TexturePool(), SHAPES["landscape"]
    rows: list[tuple[str, list[str]]] = []
    for number in range(count):
        label = CAMERA_LABELS[number % len(CAMERA_LABELS)]
        rng = np.random.default_rng([seed, 7, number])
        scene = random_scene(label, rng, pool, aspect=size[0] / size[1], duration_s=SHOT_S)
        rows.append((label, judge.labels(with_moving_subjects(scene, rng), size, 24)))
    return [
        {
            "camera_label_wins": share([said[model] == label for label, said in rows]),
            "missed": [f"{label}: {said[model]}" for label, said in rows if said[model] != label],
        }
        for model in range(len(judge.recognizers))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["motion-rgb", "motion-two-stream"], metavar="MODEL")
    parser.add_argument("--scenes", type=int, default=65, help="for formats; as many thrice for two motions")
    parser.add_argument("--seed", type=int, default=3003)
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE, or to stdout"
    )
    parser.add_argument("-j", "--jobs", type=int)
    options = parser.parse_args()
    threads.set_jobs(options.jobs)
    models = [load_model(name) for name in options.models]
    with tempfile.TemporaryDirectory() as scratch:
        judge = Judge([Recognizer(model) for model in models], Path(scratch))
        two = two_motions(judge, 3 * options.scenes, options.seed)
        agreed = formats(judge, options.scenes, options.seed)
    result = {
        "schema": "vpipe.conditions/1",
        "seed": options.seed,
        "models": [
            {"model": model.name, "hash": model.hash, "formats": one, "two_motions": other}
            for model, one, other in zip(models, agreed, two, strict=True)
        ],
    }
    text = json.dumps(result, indent=1) + "\n"
    sys.stderr.write(text)
    if options.json:
        sys.stdout.write(text) if options.json == "-" else Path(options.json).write_text(text)


if __name__ == "__main__":
    main()
