"""MS-TCN and MS-TCN++: a label for every snippet by stages of dilated convolutions, each correcting the last.

Farha and Gall, "MS-TCN: Multi-Stage Temporal Convolutional Network for Action Segmentation", 2019, section 3;
Li et al., "MS-TCN++", 2020, section 3. Letters in shapes: N videos (1), C channels, T snippets, K + 1 labels,
the last of which is the background.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from vpipe.detection.heads.temporal import DilatedResidual, DualDilated, Standardise

SMOOTHING = 0.15  # weight of the truncated mean squared error
MOST_SQUARED = 16.0  # its truncation


@dataclass(frozen=True)
class MSTCNDims:
    channels: int
    classes: int  # labels, the background among them
    stages: int = 4
    layers: int = 10
    maps: int = 64
    dropout: float = 0.5
    dual: int = 0  # MS-TCN++: layers of its first stage, with two dilations each; 0: MS-TCN

    def __post_init__(self) -> None:
        for name, most in (("channels", 65536), ("classes", 65536), ("stages", 16), ("layers", 16)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is 1 to {most}")
        if not 1 <= self.maps <= 2048 or not 0 <= self.dual <= 16 or not 0 <= self.dropout < 1:
            raise ValueError("maps is 1 to 2048, dual 0 to 16, dropout 0 to 1")


class Stage(nn.Module):
    """(N, inputs, T) -> (N, K + 1, T) logits."""

    def __init__(self, inputs: int, dims: MSTCNDims, dual: bool) -> None:
        super().__init__()
        self.enter = nn.Conv1d(inputs, dims.maps, 1)
        count = dims.dual if dual else dims.layers
        self.layers = nn.Sequential(
            *(
                DualDilated(dims.maps, (2**place, 2 ** (count - 1 - place)), dims.dropout)
                if dual
                else DilatedResidual(dims.maps, 2**place, dims.dropout)
                for place in range(count)
            )
        )
        self.leave = nn.Conv1d(dims.maps, dims.classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.leave(self.layers(self.enter(x)))
        return logits


class MSTCN(nn.Module):
    """(N, C, T) features -> logits of every stage, each (N, K + 1, T); the last counts."""

    def __init__(self, dims: MSTCNDims) -> None:
        super().__init__()
        self.dims = dims
        self.standardise = Standardise(dims.channels)
        self.stages = nn.ModuleList(
            Stage(dims.classes if place else dims.channels, dims, bool(dims.dual) and not place)
            for place in range(dims.stages)
        )

    def forward(self, features: Tensor) -> list[Tensor]:
        logits = [self.stages[0](self.standardise(features))]
        for stage in self.stages[1:]:
            logits.append(stage(logits[-1].softmax(1)))
        return logits

    def loss(self, features: Tensor, targets: Tensor) -> Tensor:
        """Of one video: (1, C, T) features and (T,) labels; cross entropy and smoothness, over stages."""
        return torch.stack([stage_loss(logits, targets) for logits in self(features)]).sum()

    @torch.inference_mode()
    def probabilities(self, features: Tensor) -> Tensor:
        """(T, C) features -> (T, K + 1) probabilities of the last stage."""
        last: Tensor = self(features.t()[None])[-1]
        return last[0].softmax(0).t()


def stage_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """MS-TCN's equations 7 to 10: cross entropy, and how log-probabilities change from one to the next."""
    logs = log_softmax(logits, 1)
    loss = cross_entropy(logits, targets[None])
    if logits.shape[2] > 1:
        step = logs[:, :, 1:] - logs[:, :, :-1].detach()
        loss = loss + SMOOTHING * step.square().clamp(max=MOST_SQUARED).mean()
    return loss
