"""From a trained network to a self-describing weight file."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from torch import nn

import vpipe
from vpipe.flow.params import FlowParams
from vpipe.models.weights import ModelHeader, StreamSpec, write_weights
from vpipe.synth.vocabulary import BACKGROUND, FLIPPED, LABELS
from vpipe.training.loop import NORMALISATION
from vpipe.training.recipe import Recipe

LICENCE = "Apache-2.0"


def packaged_flow_recipe(fps: Fraction) -> FlowParams:
    """How flow for the packaged models is computed."""
    return FlowParams.preset("accurate", short_side_px=128, fps=fps)


def export(recipe: Recipe, network: nn.Module, steps: int, path: Path) -> None:
    """Writes the network as a weight file (float16) that `classify` and `detect` take at once."""
    normalisation = NORMALISATION[recipe.modality]
    spec = StreamSpec(
        architecture=recipe.architecture,
        hyper={"classes": len(LABELS), "frames": recipe.inputs, **recipe.hyper},
        modality=recipe.modality,
        frames=recipe.inputs,
        fps=recipe.fps,
        size=(recipe.size, recipe.size),
        mean=normalisation.mean,
        std=normalisation.std,
        flow_params=packaged_flow_recipe(recipe.fps) if recipe.modality == "flow" else None,
        flip_labels=FLIPPED,
    )
    source = (
        f"vpipe {vpipe.__version__} train, recipe {recipe.name}, seed {recipe.seed}, "
        f"{steps * recipe.batch} {recipe.data} clips"
        + (f" of {recipe.kept} kept ones" if recipe.kept else "")
        + (f", from {recipe.init}" if recipe.init else "")
    )
    header = ModelHeader(recipe.name, LABELS, BACKGROUND, source, LICENCE)
    write_weights(path, header, [(spec, network.state_dict())])
