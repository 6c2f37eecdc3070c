"""Training on generated clips that goes on from a model of the vocabulary, its last layer included."""

from __future__ import annotations

import torch
from torch import nn

from vpipe.errors import UsageError
from vpipe.models import load_model
from vpipe.synth.vocabulary import LABELS
from vpipe.training.recipe import Recipe


def with_start(network: nn.Module, start: nn.Module, share: float) -> nn.Module:
    """The mean of the weights before and after, in the network itself: what it knew stays better known.

    Wortsman et al., "Robust fine-tuning of zero-shot models", 2022, section 3 (WiSE-FT).
    """
    before = start.state_dict()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.lerp_(before[name].to(value), share)
    return network


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
