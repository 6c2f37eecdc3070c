"""A recipe: every choice of a training run, in one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from vpipe.errors import UsageError

PACKAGED_RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, how long and how. Times in seconds, rates per clip batch."""

    name: str
    modality: str  # "rgb" or "flow"
    architecture: str
    clips: int  # seen in all
    hyper: dict[str, Any] = field(default_factory=dict)
    data: str = "generated"  # or a folder written by `vpipe synth clips`
    seed: int = 1
    batch: int = 24
    learning_rate: float = 3e-3  # the peak of a one-cycle schedule
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    clip_gradient: float = 2.0
    precision: str = "auto"  # "float32", "bfloat16", or bfloat16 where the processor multiplies in it
    frames: int = 8  # grid frames of a clip
    fps: Fraction = Fraction(8)
    size: int = 96  # side of the input picture, px
    joined: float = 0.15  # share of clips that hold a cut or dissolve between two shots

    @property
    def inputs(self) -> int:
        """Network inputs of a clip: frames, or the flows between them."""
        return self.frames if self.modality == "rgb" else self.frames - 1

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fps": str(self.fps)}


def load_recipe(name_or_path: str) -> Recipe:
    """Reads a recipe by the name of a packaged one or by path.

    Raises UsageError: `unknown_recipe`, `bad_recipe` (not TOML, an unknown key, a value out of range).
    """
    path = Path(name_or_path)
    if not path.is_file():
        path = PACKAGED_RECIPES / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in PACKAGED_RECIPES.glob("*.toml")))
        raise UsageError(
            "unknown_recipe", f"{name_or_path}: no such recipe; give a TOML file or one of: {known}"
        )
    try:
        values = tomllib.loads(path.read_text())
        unknown = set(values) - {f.name for f in fields(Recipe)}
        if unknown:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
        if "fps" in values:
            values["fps"] = Fraction(str(values["fps"]))
        recipe = Recipe(**values)
        _check(recipe)
        return recipe
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, TypeError, ValueError, ZeroDivisionError) as error:
        raise UsageError("bad_recipe", f"{path}: not a usable recipe: {error}") from None


_TYPES = {
    int: ("clips", "seed", "batch", "frames", "size"),
    float: ("learning_rate", "weight_decay", "label_smoothing", "clip_gradient", "joined"),
    str: ("name", "modality", "architecture", "data", "precision"),
    dict: ("hyper",),
}
_SMALLEST_PX = 16  # what the networks' strides leave something of


def _check(recipe: Recipe) -> None:
    for kind, names in _TYPES.items():
        for name in names:
            value = getattr(recipe, name)
            whole_is_fine = kind is float and type(value) is int
            if type(value) is not kind and not whole_is_fine:
                word = {int: "a whole number", float: "a number", str: "text", dict: "a table"}[kind]
                raise ValueError(f"{name} = {value!r}: {word} is needed")
    if recipe.modality not in ("rgb", "flow"):
        raise ValueError(f"modality '{recipe.modality}': rgb or flow")
    if recipe.precision not in ("auto", "float32", "bfloat16"):
        raise ValueError(f"precision '{recipe.precision}': auto, float32 or bfloat16")
    for name in ("clips", "batch", "frames", "size", "learning_rate", "fps"):
        if getattr(recipe, name) <= 0:
            raise ValueError(f"{name} must be above 0")
    if recipe.size < _SMALLEST_PX or recipe.frames < 2:
        raise ValueError(f"size must be at least {_SMALLEST_PX} px and frames at least 2")
    if not (0 <= recipe.joined <= 1 and 0 <= recipe.label_smoothing < 1 and recipe.seed >= 0):
        raise ValueError("joined and label_smoothing are shares of 1, and seed is not negative")
