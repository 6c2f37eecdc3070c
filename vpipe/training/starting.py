"""The networks that training on a user's labels starts from, and what goes into them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from vpipe.errors import UsageError
from vpipe.models.convention import Convention
from vpipe.models.registry import build
from vpipe.models.weights import Model, StreamSpec
from vpipe.training.loop import NORMALISATION
from vpipe.training.optimiser import head_of
from vpipe.training.recipe import Recipe


def specs_of(recipe: Recipe, init: Model | None, labels: int) -> list[StreamSpec]:
    """The streams to train: those of `init`, or the one that the recipe describes.

    Raises UsageError where neither names a network.
    """
    if not recipe.architecture:
        if init is None:
            raise UsageError("no_init", f"recipe {recipe.name} needs a model to start from: give --init")
        return [
            replace(stream.spec, hyper={**stream.spec.hyper, "classes": labels}, flip_labels={})
            for stream in init.streams
        ]
    if recipe.modality != "rgb":
        raise UsageError("bad_recipe", f"recipe {recipe.name}: a flow network needs --init on your own data")
    usual = NORMALISATION[recipe.modality]
    convention = _convention(recipe)
    frames = recipe.frames
    hyper = {"classes": labels, **recipe.hyper}
    if convention is None:
        hyper["frames"] = frames
    elif convention.sampling != "clips":
        frames = convention.segments * convention.stack
    return [
        StreamSpec(
            architecture=recipe.architecture,
            hyper=hyper,
            modality=recipe.modality,
            frames=frames,
            fps=recipe.fps,
            size=(recipe.size, recipe.size),
            mean=recipe.mean or usual.mean,
            std=recipe.std or usual.std,
            resize="stretch" if convention is None else "published",
            convention=convention,
        )
    ]


def _convention(recipe: Recipe) -> Convention | None:
    if not recipe.sampling:
        return None
    try:
        return Convention.from_json({"scale": [256], **recipe.sampling})
    except (TypeError, ValueError) as error:
        raise UsageError("bad_recipe", f"recipe {recipe.name}: [sampling]: {error}") from None


def network_of(spec: StreamSpec, init: Model | None, stream: int) -> tuple[nn.Module, int]:
    """(the network of a stream, how many of its tensors are new) with the weights of `init` where they fit.

    The last layer is always new: its rows are the labels. Raises UsageError `init_differs` where less than
    half of the rest fits.
    """
    network = build(spec.architecture, spec.hyper)
    if init is None:
        return network, 0
    given: dict[str, Tensor] = init.streams[min(stream, len(init.streams) - 1)].network.state_dict()
    head = {id(parameter) for parameter in head_of(network).parameters()}
    new = {name for name, parameter in network.named_parameters() if id(parameter) in head}
    body = {name: value for name, value in network.state_dict().items() if name not in new}
    fitting = {
        name: given[name]
        for name, value in body.items()
        if name in given and given[name].shape == value.shape
    }
    if 2 * len(fitting) < len(body):
        raise UsageError(
            "init_differs",
            f"--init {init.name}: its weights are not of {spec.architecture}: {len(body) - len(fitting)} of "
            f"{len(body)} tensors are missing or have another shape",
        )
    network.load_state_dict(fitting, strict=False)
    return network, len(body) - len(fitting)
