"""C3D: eight 3x3x3 convolutions and three linear layers.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks", 2015, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vpipe.models.layers import ClipNetwork
from vpipe.models.registry import register


@dataclass(frozen=True)
class C3DDims:
    classes: int
    channels: int = 3
    width: int = 64
    hidden: int = 4096
    places: int = 16  # of the last feature maps: (H / 32 + 1) * (W / 32 + 1), rounded down, for 16 frames


@register("c3d")
class C3D(ClipNetwork):
    """(N, 16, C, 112, 112) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: C3DDims) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = dims.channels
        for stage, (doublings, convolutions) in enumerate(((0, 1), (1, 1), (2, 2), (3, 2), (3, 2))):
            for _ in range(convolutions):
                outputs = dims.width * 2**doublings
                layers += [nn.Conv3d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True)]
                inputs = outputs
            layers.append(nn.MaxPool3d((2 if stage else 1, 2, 2), padding=(0, 1, 1) if stage == 4 else 0))
        self.backbone = nn.Sequential(*layers)
        self.fc6 = nn.Linear(inputs * dims.places, dims.hidden)
        self.fc7 = nn.Linear(dims.hidden, dims.hidden)
        self.fc = nn.Linear(dims.hidden, dims.classes)

    def pool(self, maps: Tensor) -> Tensor:
        flat = maps.transpose(1, 2).flatten(1)
        features: Tensor = self.fc7(self.fc6(flat).relu_()).relu_()
        return features[:, None]
