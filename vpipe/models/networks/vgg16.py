"""A stream of the two-stream network on VGG-16: one frame, or ten flows as channels.

Simonyan and Zisserman, "Two-Stream Convolutional Networks", 2014, section 3; the network is "Very Deep
Convolutional Networks", 2015, table 1, column D.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vpipe.models.layers import FrameNetwork
from vpipe.models.registry import register


@dataclass(frozen=True)
class VGG16Dims:
    classes: int
    segments: int = 1
    channels: int = 3
    stack: int = 1
    width: int = 64
    hidden: int = 4096
    side: int = 7  # of the last feature maps: the input's, over 32


@register("vgg16")
class VGG16(FrameNetwork):
    """(N, segments * stack, C, 32 * side, 32 * side) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: VGG16Dims) -> None:
        super().__init__()
        self.segments = dims.segments
        layers: list[nn.Module] = []
        inputs = dims.channels * dims.stack
        for doublings, convolutions in ((0, 2), (1, 2), (2, 3), (3, 3), (3, 3)):
            for _ in range(convolutions):
                layers += [nn.Conv2d(inputs, dims.width * 2**doublings, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = dims.width * 2**doublings
            layers.append(nn.MaxPool2d(2))
        self.backbone = nn.Sequential(*layers)
        self.fc6 = nn.Linear(inputs * dims.side**2, dims.hidden)
        self.fc7 = nn.Linear(dims.hidden, dims.hidden)
        self.fc = nn.Linear(dims.hidden, dims.classes)

    def pool(self, maps: Tensor) -> Tensor:
        features: Tensor = self.fc7(self.fc6(maps.flatten(2)).relu_()).relu_()
        return features
