"""TSM on MobileNetV2: the shift where a block has both an expansion and an identity path.

Lin et al., "TSM", 2019, section 5.5; Sandler et al., "MobileNetV2", 2018, table 2.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vpipe.models.blocks import temporal_shift
from vpipe.models.layers import ConvBN, FrameNetwork
from vpipe.models.registry import register

# Expansion, channels, blocks, stride of the first.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LAST = 1280
MOST = 6.0  # of the activations


@dataclass(frozen=True)
class TSMMobileNetV2Dims:
    classes: int
    segments: int = 8
    channels: int = 3
    stack: int = 1
    share: int = 8  # one of `share` parts of the channels goes each way
    narrow: int = 1  # every layer has one `narrow`-th of the published channels


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise and linear 1x1 convolution; identity where shapes stay."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, expansion: int, frames: int, share: int
    ) -> None:
        super().__init__()
        wide = inputs * expansion
        self.same = stride == 1 and inputs == outputs
        self.shifted = self.same and expansion != 1
        self.frames, self.share = frames, share
        self.expand = ConvBN(inputs, wide, 1, most=MOST) if expansion != 1 else nn.Identity()
        self.depthwise = ConvBN(wide, wide, 3, stride, groups=wide, most=MOST)
        self.project = ConvBN(wide, outputs, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        branch = temporal_shift(x, self.frames, self.share) if self.shifted else x
        branch = self.project(self.depthwise(self.expand(branch)))
        return x + branch if self.same else branch


@register("tsm-mobilenetv2")
class TSMMobileNetV2(FrameNetwork):
    """(N, segments * stack, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: TSMMobileNetV2Dims) -> None:
        super().__init__()
        if not 1 <= dims.narrow <= 16:
            raise ValueError("narrow is 1 to 16")
        self.segments = dims.segments
        inputs = 32 // dims.narrow
        layers: list[nn.Module] = [ConvBN(dims.channels * dims.stack, inputs, 3, 2, most=MOST)]
        for expansion, published, count, first in STAGES:
            outputs = published // dims.narrow
            for place in range(count):
                stride = 1 if place else first
                layers.append(InvertedResidual(inputs, outputs, stride, expansion, dims.segments, dims.share))
                inputs = outputs
        layers.append(ConvBN(inputs, LAST // dims.narrow, 1, most=MOST))
        self.backbone = nn.Sequential(*layers)
        self.fc = nn.Linear(LAST // dims.narrow, dims.classes)
