"""STM: spatiotemporal features and motion features, encoded side by side in every residual block.

Jiang et al., "STM: SpatioTemporal and Motion Encoding for Action Recognition", 2019, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.layers import ConvBN, TemporalConv, next_minus_this
from vpipe.models.registry import register
from vpipe.models.resnet import FrameResNet, FrameResNetDims, shortcut


@dataclass(frozen=True)
class STMDims(FrameResNetDims):
    reduce: int = 16  # channels of the motion module, as a share


class CMM(nn.Module):
    """Channel-wise motion module (section 3.2): what the next frame's features have that this one's have not.

    x (N*T, C, H, W) -> the same shape; zero for the last frame.
    """

    def __init__(self, channels: int, dims: STMDims) -> None:
        super().__init__()
        few = channels // dims.reduce
        self.frames = dims.segments
        self.squeeze = ConvBN(channels, few, 1, relu=False)
        self.transform = nn.Conv2d(few, few, 3, padding=1, groups=few, bias=False)
        self.expand = nn.Conv2d(few, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.squeeze(x)
        motion: Tensor = self.expand(next_minus_this(self.transform(x), x, self.frames))
        return motion


class STMBlock(nn.Module):
    """The residual block of figure 2: CSTM (a depthwise temporal and a 2-D convolution) plus CMM."""

    def __init__(self, inputs: int, planes: int, stride: int, dims: STMDims) -> None:
        super().__init__()
        self.conv1 = ConvBN(inputs, planes, 1)
        self.temporal = TemporalConv(planes, dims.segments)
        self.conv2 = ConvBN(planes, planes, 3, stride)
        self.motion = CMM(planes, dims)
        self.halve = nn.MaxPool2d(2) if stride == 2 else nn.Identity()
        self.conv3 = ConvBN(planes, planes * 4, 1, relu=False)
        self.downsample = shortcut(inputs, planes * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        features = self.conv1(x)
        encoded = self.conv2(self.temporal(features)) + self.halve(self.motion(features))
        return torch.relu_(self.conv3(encoded) + self.downsample(x))


@register("stm")
class STM(FrameResNet):
    """(N, segments * stack, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: STMDims) -> None:
        super().__init__(dims, lambda inputs, planes, stride, *_: STMBlock(inputs, planes, stride, dims))
