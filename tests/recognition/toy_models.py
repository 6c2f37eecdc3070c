"""Networks whose answer is known beforehand, in the form of models."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor, nn

from vpipe.flow.params import FlowParams
from vpipe.models import Model, Stream
from vpipe.models.weights import ModelHeader, StreamSpec


class Colour(nn.Module):
    """Scores red, green and blue by the brightness of the three channels."""

    def __init__(self, gain: float = 12.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(gain))

    def forward(self, clip: Tensor) -> Tensor:
        return clip.mean((1, 3, 4)) * self.gain


class Half(nn.Module):
    """Scores left and right by the first channel in the two halves of the picture."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(8.0))

    def forward(self, clip: Tensor) -> Tensor:
        first = clip[:, :, 0].mean((1, 2))
        half = first.shape[1] // 2
        return torch.stack([first[:, :half].mean(1), first[:, half:].mean(1)], dim=1) * self.gain


class Drift(nn.Module):
    """Scores left and right by the mean horizontal flow."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(4.0))

    def forward(self, clip: Tensor) -> Tensor:
        u = clip[:, :, 0].mean((1, 2, 3)) * self.gain
        return torch.stack([-u, u], dim=1)


def rgb_stream(network: nn.Module, *, size: tuple[int, int] = (16, 12), **changes: object) -> Stream:
    fields: dict = {
        "architecture": "toy", "hyper": {}, "modality": "rgb", "frames": 8, "fps": Fraction(8), "size": size,
        "mean": (0.0,) * 3, "std": (1.0,) * 3,
    }  # fmt: skip
    return Stream(StreamSpec(**(fields | changes)), network.eval())


def flow_stream(network: nn.Module, *, size: tuple[int, int] = (24, 16), **changes: object) -> Stream:
    params = FlowParams.preset("accurate", short_side_px=32, fps=Fraction(8))
    fields: dict = {
        "architecture": "toy", "hyper": {}, "modality": "flow", "frames": 7, "fps": Fraction(8), "size": size,
        "mean": (0.0, 0.0), "std": (1.0, 1.0), "flow_params": params, "bound": 20.0,
    }  # fmt: skip
    return Stream(StreamSpec(**(fields | changes)), network.eval())


def model(*streams: Stream, labels: tuple[str, ...], background: str | None = None) -> Model:
    return Model(ModelHeader("toy", labels, background, "made by hand", "none"), streams, "0" * 64)
