"""The 3-D residual network with bottlenecks of I3D-ResNet, SlowOnly and both paths of SlowFast.

Carreira and Zisserman 2017 (inflation), Feichtenhofer et al. 2019 (table 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpipe.models.layers import ConvBN
from vpipe.models.resnet import MOST_BLOCKS

Taps = tuple[tuple[tuple[int, int], ...], ...]  # for each stage and block: taps in time of conv1 and conv2
SLOW_TAPS: Taps = (
    ((1, 1),) * 3,
    ((1, 1),) * 4,
    ((3, 1),) * 6,
    ((3, 1),) * 3,
)  # of SlowOnly-R50: time is convolved in the last two stages only


class Bottleneck3d(nn.Module):
    """1x1, 3x3 and 1x1 convolutions, the first two with `taps` in time."""

    def __init__(self, inputs: int, planes: int, stride: int, taps: tuple[int, int]) -> None:
        super().__init__()
        self.conv1 = ConvBN(inputs, planes, (taps[0], 1, 1))
        self.conv2 = ConvBN(planes, planes, (taps[1], 3, 3), (1, stride, stride))
        self.conv3 = ConvBN(planes, planes * 4, (1, 1, 1), relu=False)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != planes * 4:
            self.downsample = ConvBN(inputs, planes * 4, (1, 1, 1), (1, stride, stride), relu=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.conv3(self.conv2(self.conv1(x))) + self.downsample(x))


class ResNet3d(nn.Module):
    """(N, C, T, H, W) -> (N, 32 * width, T', H/32, W/32).

    In time: `stem` are the taps of the first convolution, `stem_stride` its stride and `pool_stride` that of
    the pooling; `halve` pools by two after the first stage. `extra` are channels that join the inputs of the
    stages (SlowFast's lateral connections).
    """

    def __init__(
        self,
        channels: int,
        width: int,
        taps: Taps,
        *,
        stem: int = 1,
        stem_stride: int = 1,
        pool_stride: int = 1,
        halve: bool = False,
        extra: tuple[int, int, int, int] = (0, 0, 0, 0),
    ) -> None:
        super().__init__()
        if len(taps) != 4 or not all(1 <= len(stage) <= MOST_BLOCKS for stage in taps):
            raise ValueError(f"taps are given for four stages of 1 to {MOST_BLOCKS} blocks")
        self.conv1 = ConvBN(channels, width, (stem, 7, 7), (stem_stride, 2, 2))
        self.maxpool = nn.MaxPool3d((1, 3, 3), (pool_stride, 2, 2), (0, 1, 1))
        inputs, layers = width, []
        for stage, blocks in enumerate(taps):
            planes = width * 2**stage
            inputs += extra[stage]
            layer = []
            for place, of_block in enumerate(blocks):
                layer.append(Bottleneck3d(inputs, planes, 2 if stage and not place else 1, of_block))
                inputs = planes * 4
            layers.append(nn.Sequential(*layer))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.pool2 = nn.MaxPool3d((2, 1, 1)) if halve else nn.Identity()
        self.outputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool2(self.layer1(self.maxpool(self.conv1(x))))
        features: Tensor = self.layer4(self.layer3(self.layer2(x)))
        return features
