"""Training on generated clips that goes on from a model of the vocabulary, its last layer included."""

from __future__ import annotations

from torch import nn

from vpipe.errors import UsageError
from vpipe.models import load_model
from vpipe.synth.vocabulary import LABELS
from vpipe.training.recipe import Recipe


def network_to_go_on(recipe: Recipe) -> tuple[nn.Module, str]:
    """The network of `recipe.init` that the recipe trains, and the hash of its file.

    Raises UsageError: as `load_model`; `init_differs` where that model has other labels or no such network.
    """
    model = load_model(recipe.init)
    if tuple(model.labels) != LABELS:
        raise UsageError("init_differs", f"--init {recipe.init}: its labels are not those of generated clips")
    for stream in model.streams:
        spec = stream.spec
        wanted = {**recipe.hyper, "frames": recipe.inputs}
        if (spec.modality, spec.architecture) == (recipe.modality, recipe.architecture) and all(
            spec.hyper.get(name) == value for name, value in wanted.items()
        ):
            return stream.network, model.hash
    raise UsageError(
        "init_differs",
        f"--init {recipe.init}: it has no {recipe.modality} stream of {recipe.architecture} with the numbers "
        f"of recipe {recipe.name}; choose another, or leave --init out",
    )
