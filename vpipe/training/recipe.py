"""A recipe: every choice of a training run, in one TOML file."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from vpipe.documents import read_document
from vpipe.errors import UsageError

PACKAGED_RECIPES = Path(__file__).parent / "recipes"


@dataclass(frozen=True)
class Recipe:
    """What is trained, on what, how long and how. Times in seconds, rates per clip batch."""

    name: str
    modality: str = "rgb"  # or "flow"
    architecture: str = ""  # "": that of `init`
    clips: int = 0  # seen in all; on a user's data at least, in whole epochs
    epochs: int = 0  # times over a user's data, instead of `clips`
    hyper: dict[str, Any] = field(default_factory=dict)
    init: str = ""  # the model that a user's labels start from: weights, and what goes into the network
    start_share: float = 0.0  # of generated clips: share of `init`'s weights in the model that comes out
    source: str = ""  # paper and code that the numbers come from
    data: str = "generated"  # or a folder written by `vpipe synth clips`
    seed: int = 1
    batch: int = 24  # clips of one process at a time
    accumulate: int = 1  # batches a step
    optimiser: str = "adamw"  # or "sgd"
    momentum: float = 0.9  # of sgd
    learning_rate: float = 3e-3  # the highest of the schedule
    head_rate: float = 1.0  # times that, for the last layer
    bias_rate: float = 1.0  # times that, for biases
    schedule: str = "one-cycle"  # or "cosine", "step"
    warmup: float = 0.2  # share of the run
    milestones: tuple[float, ...] = ()  # of "step": shares of the run
    decay: float = 0.1  # of "step"
    weight_decay: float = 0.02
    label_smoothing: float = 0.05
    clip_gradient: float = 2.0
    dropout: float = 0.0  # of the last layer's inputs, beside the network's own
    ema: float = 0.0  # decay of the moving average of the weights that becomes the model; 0: none
    freeze_bn: str = "none"  # "all", "partial": all but the first
    sync_bn: bool = False  # batch statistics over all processes
    precision: str = "auto"  # "float32", "bfloat16", "float16"; or bfloat16 where the hardware has it
    frames: int = 8  # grid frames of a clip
    fps: Fraction = Fraction(8)
    size: int = 96  # side of the input picture, px
    mean: tuple[float, ...] = ()  # of the input; (): the packaged models'
    std: tuple[float, ...] = ()
    sampling: dict[str, Any] = field(default_factory=dict)  # a published convention; {}: the packaged models'
    joined: float = 0.15  # share of generated clips that hold a cut or dissolve between two shots
    lively: float = 0.0  # share of generated clips whose subjects and lights are livelier
    kept: int = 0  # generated clips that are made once and seen often; 0: each is seen once
    flip: bool = False  # mirror half of a user's clips: only where left and right mean the same
    crops: tuple[float, ...] = ()  # sides of random windows, as shares of the short side
    jitter: float = 0.0  # how far a user's pictures are moved, scaled, turned and recoloured, 0 to 1
    tempo: float = 0.0  # how far a user's clips are slowed and sped up, of the logarithm
    still: float = 0.0  # share of a user's clips with a still picture of another video laid over them
    mixup: float = 0.0  # share of a user's clips that are two clips in one

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
        values = tomllib.loads(read_document(path).decode())
        unknown = set(values) - {f.name for f in fields(Recipe)}
        if unknown:
            raise ValueError(f"unknown key {', '.join(sorted(unknown))}")
        if "fps" in values:
            values["fps"] = Fraction(str(values["fps"]))
        values |= {name: tuple(values[name]) for name in _TYPES[list] if name in values}
        recipe = Recipe(**values)
        _check(recipe)
        return recipe
    except (OSError, TypeError, ValueError, ZeroDivisionError, RecursionError) as error:
        raise UsageError("bad_recipe", f"{path}: not a usable recipe: {error}") from None


_TYPES = {
    int: ("clips", "epochs", "seed", "batch", "accumulate", "frames", "size", "kept"),
    float: (
        *("momentum", "learning_rate", "head_rate", "bias_rate", "warmup", "decay", "weight_decay"),
        *(
            "label_smoothing",
            "clip_gradient",
            "dropout",
            "ema",
            "start_share",
            "joined",
            "lively",
            "jitter",
            "tempo",
            "still",
            "mixup",
        ),
    ),
    str: (
        *("name", "modality", "architecture", "init", "source", "data", "optimiser", "schedule"),
        *("freeze_bn", "precision"),
    ),
    dict: ("hyper", "sampling"),
    bool: ("sync_bn", "flip"),
    list: ("milestones", "mean", "std", "crops"),
}
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "text",
    dict: "a table",
    bool: "true or false",
    list: "a list",
}
_CHOICES = {
    "modality": ("rgb", "flow"),
    "optimiser": ("adamw", "sgd"),
    "schedule": ("one-cycle", "cosine", "step"),
    "freeze_bn": ("none", "all", "partial"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
}
_ABOVE_0 = ("batch", "accumulate", "frames", "size", "learning_rate", "fps", "clip_gradient")
_SHARES = (
    "start_share",
    "joined",
    "lively",
    "jitter",
    "tempo",
    "still",
    "mixup",
    "warmup",
    "momentum",
    "ema",
    "decay",
    "dropout",
    "label_smoothing",
)
_SMALLEST_PX = 16  # what the networks' strides leave something of


def _check(recipe: Recipe) -> None:
    for kind, names in _TYPES.items():
        for name in names:
            value = getattr(recipe, name)
            wanted = tuple if kind is list else kind
            whole_is_fine = kind is float and type(value) is int
            if type(value) is not wanted and not whole_is_fine:
                raise ValueError(f"{name} = {value!r}: {_WORDS[kind]} is needed")
    for name in _TYPES[list]:
        if not all(type(value) in (int, float) for value in getattr(recipe, name)):
            raise ValueError(f"{name}: numbers are needed")
    for name, allowed in _CHOICES.items():
        if getattr(recipe, name) not in allowed:
            raise ValueError(f"{name} '{getattr(recipe, name)}': {' or '.join(allowed)}")
    if recipe.clips <= 0 and recipe.epochs <= 0:
        raise ValueError("clips must be above 0, or epochs")
    for name in _ABOVE_0:
        if getattr(recipe, name) <= 0:
            raise ValueError(f"{name} must be above 0")
    if not recipe.architecture and not recipe.init:
        raise ValueError("architecture is needed, or init")
    if recipe.size < _SMALLEST_PX or recipe.frames < 2:
        raise ValueError(f"size must be at least {_SMALLEST_PX} px and frames at least 2")
    if not all(0 <= getattr(recipe, name) <= 1 for name in _SHARES) or 1 in (
        recipe.label_smoothing,
        recipe.dropout,
    ):
        raise ValueError(f"{', '.join(_SHARES)} are shares of 1")
    if min(recipe.seed, recipe.kept, recipe.weight_decay, recipe.head_rate, recipe.bias_rate) < 0:
        raise ValueError("seed, kept, weight_decay, head_rate and bias_rate are not negative")
    if not all(0 < side <= 1 for side in (*recipe.milestones, *recipe.crops)) or 0 in recipe.std:
        raise ValueError("milestones and crops are shares of 1, and std is not 0")
