"""Weight files of untrained networks, for tests of everything but the answer."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch

from vpipe.flow.params import FlowParams
from vpipe.models.registry import build
from vpipe.models.weights import ModelHeader, StreamSpec, write_weights

LABELS = ("static", "pan_left", "pan_right")


def write_model(path: Path, *modalities: str) -> Path:
    """A model with a stream for each of `modalities` (rgb, flow)."""
    torch.manual_seed(0)
    streams = []
    for modality in modalities:
        flow = modality == "flow"
        channels, frames = (2, 7) if flow else (3, 8)
        hyper = {"classes": len(LABELS), "frames": frames, "channels": channels, "widths": [4, 8, 8, 8]}
        params = FlowParams.preset("accurate", short_side_px=32, fps=Fraction(8)) if flow else None
        spec = StreamSpec(
            architecture="tsn",
            hyper=hyper,
            modality=modality,
            frames=frames,
            fps=Fraction(8),
            size=(32, 32),
            mean=(0.0,) * channels,
            std=(1.0,) * channels,
            flow_params=params,
            flip_labels={"pan_left": "pan_right", "pan_right": "pan_left"},
        )
        streams.append((spec, build("tsn", hyper).state_dict()))
    write_weights(path, ModelHeader("small", LABELS, "static", "untrained", "none"), streams)
    return path
