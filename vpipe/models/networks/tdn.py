"""TDN: temporal differences in the pixels round each frame, and in the features of neighbouring segments.

Wang et al., "TDN: Temporal Difference Networks for Efficient Action Recognition", 2021, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from vpipe.models.layers import ConvBN, FrameNetwork, TemporalConv, next_minus_this
from vpipe.models.registry import register
from vpipe.models.resnet import Bottleneck, ResNet

FRAMES = 5  # of a segment; the third is the one that is seen, the others give differences


@dataclass(frozen=True)
class TDNDims:
    classes: int
    segments: int = 8
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    reduce: int = 16  # channels of the long-term module, as a share
    alpha: float = 0.5  # of the frame's features; not in the checkpoint: 0.75 and 0.25 for 16 segments
    beta: float = 0.5  # of those of the short-term differences


class LongTermDifference(nn.Module):
    """L-TDM (section 3.3): channels are weighted by multi-scale differences to the next and previous segment.

    x (N*T, C, H, W) -> the same shape.
    """

    def __init__(self, channels: int, dims: TDNDims) -> None:
        super().__init__()
        few = channels // dims.reduce
        self.frames = dims.segments
        self.squeeze = ConvBN(channels, few, 1, relu=False)
        self.transform = nn.Conv2d(few, few, 3, padding=1, groups=few, bias=False)
        self.half_size = ConvBN(few, few, 3, relu=False)  # works at half the size
        self.full_size = ConvBN(few, few, 3, relu=False)
        self.expand = ConvBN(few, channels, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        transformed = self.transform(squeezed)
        ahead = next_minus_this(transformed, squeezed, self.frames)
        back = self._previous_minus_this(transformed, squeezed)
        attention = self._attention(ahead) + self._attention(back)
        return x + x * (0.5 * attention)

    def _attention(self, step: Tensor) -> Tensor:
        half = interpolate(self.half_size(avg_pool2d(step, 2)), step.shape[2:])
        return torch.sigmoid(self.expand((step + half + self.full_size(step)) / 3)) - 0.5

    def _previous_minus_this(self, before: Tensor, now: Tensor) -> Tensor:
        frames = (-1, self.frames)
        step = before.unflatten(0, frames)[:, :-1] - now.unflatten(0, frames)[:, 1:]
        return torch.cat([torch.zeros_like(step[:, :1]), step], 1).flatten(0, 1)


class TDNBackbone(ResNet):
    """(N*T, 15, H, W), the frames of a segment as channels -> (N*T, C', H/32, W/32)."""

    def __init__(self, dims: TDNDims) -> None:
        def block(inputs: int, planes: int, stride: int, stage: int, place: int) -> nn.Module:
            temporal = None
            if stage:
                temporal = nn.Sequential(
                    LongTermDifference(planes, dims), TemporalConv(planes, dims.segments)
                )
            return Bottleneck(inputs, planes, stride, temporal=temporal, bias=True)

        super().__init__(3, dims.blocks, dims.width, block, bias=True)
        self.alpha, self.beta = dims.alpha, dims.beta
        self.short_conv = ConvBN(3 * (FRAMES - 1), dims.width, 7, 2)
        self.short_layer = nn.Sequential(
            *(
                Bottleneck(dims.width * (4 if place else 1), dims.width, 1, bias=True)
                for place in range(dims.blocks[0])
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        frames = x.unflatten(1, (FRAMES, 3))
        # S-TDM (section 3.2): differences at half the size, added before and after the first stage.
        steps = (frames[:, 1:] - frames[:, :-1]).flatten(1, 2)
        short = self.maxpool(self.short_conv(avg_pool2d(steps, 2)))
        x = self.maxpool(self.conv1(frames[:, FRAMES // 2]))
        x = self._supplied(x, short)
        x = self._supplied(self.layer1(x), self.short_layer(short))
        features: Tensor = self.layer4(self.layer3(self.layer2(x)))
        return features

    def _supplied(self, x: Tensor, short: Tensor) -> Tensor:
        return self.alpha * x + self.beta * interpolate(short, x.shape[2:])


@register("tdn")
class TDN(FrameNetwork):
    """(N, segments * 5, 3, H, W) normalised frames -> (N, classes) logits."""

    def __init__(self, dims: TDNDims) -> None:
        super().__init__()
        self.segments = dims.segments
        self.backbone = TDNBackbone(dims)
        self.fc = nn.Linear(self.backbone.outputs, dims.classes)
