"""Late fusion: several models of one label list as one weight file, their scores added up with weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from vpipe.errors import UsageError
from vpipe.models.weights import Model, ModelHeader, write_weights


def fuse(
    models: Sequence[Model], weights: Sequence[float], name: str, path: Path, *, on: str = "softmax"
) -> None:
    """Writes the streams of all models into one file; weight k multiplies the streams of model k.

    on: "softmax" averages probabilities (Simonyan and Zisserman 2014), "logits" adds up logits (I3D).
    Raises UsageError where label lists differ or a weight is not above zero.
    """
    first = models[0]
    if len(weights) != len(models) or not all(0 < weight < math.inf for weight in weights):
        raise UsageError("bad_fusion", f"give one finite weight above 0 for each of the {len(models)} models")
    for model in models[1:]:
        if model.labels != first.labels or model.background != first.background:
            raise UsageError(
                "labels_differ", f"{model.name} and {first.name} do not have the same labels in order"
            )
    streams = [
        (replace(stream.spec, weight=stream.spec.weight * weight), stream.network.state_dict())
        for model, weight in zip(models, weights, strict=True)
        for stream in model.streams
    ]
    parts = "; ".join(
        f"{model.name} x {weight:g}: {model.header.source}"
        for model, weight in zip(models, weights, strict=True)
    )
    header = ModelHeader(
        name, tuple(first.labels), first.background, f"fusion of {parts}", first.header.licence, on
    )
    # Weights that were published as float32 stay so.
    write_weights(path, header, streams, half=not any(spec.convention for spec, _ in streams))
