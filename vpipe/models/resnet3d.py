"""The 3-D residual network of I3D-ResNet, SlowOnly and both paths of SlowFast.

Carreira and Zisserman 2017 (inflation), Feichtenhofer et al. 2019 (table 1), Wang et al. 2018 (non-local).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vpipe.models.layers import ConvBN
from vpipe.models.non_local import NonLocal, NonLocalDims
from vpipe.models.resnet import MOST_BLOCKS

Taps = tuple[tuple[tuple[int, int], ...], ...]  # for each stage and block: taps in time of conv1 and conv2
SLOW_TAPS: Taps = (
    ((1, 1),) * 3,
    ((1, 1),) * 4,
    ((3, 1),) * 6,
    ((3, 1),) * 3,
)  # of SlowOnly-R50: time is convolved in the last two stages only


class Block3d(nn.Module):
    """A residual block of 3-D convolutions; `after` works on its output."""

    expansion: int

    def __init__(self, inputs: int, outputs: int, stride: int, after: nn.Module | None) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.downsample = ConvBN(inputs, outputs, (1, 1, 1), (1, stride, stride), relu=False)
        self.after = after or nn.Identity()

    def convolved(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.after(torch.relu_(self.convolved(x) + self.downsample(x)))
        return out


class Bottleneck3d(Block3d):
    """1x1, 3x3 and 1x1 convolutions, the first two with `taps` in time."""

    expansion = 4

    def __init__(
        self, inputs: int, planes: int, stride: int, taps: tuple[int, int], after: nn.Module | None
    ) -> None:
        super().__init__(inputs, planes * 4, stride, after)
        self.conv1 = ConvBN(inputs, planes, (taps[0], 1, 1))
        self.conv2 = ConvBN(planes, planes, (taps[1], 3, 3), (1, stride, stride))
        self.conv3 = ConvBN(planes, planes * 4, (1, 1, 1), relu=False)

    def convolved(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv3(self.conv2(self.conv1(x)))
        return out


class BasicBlock3d(Block3d):
    """Two 3x3 convolutions with `taps` in time."""

    expansion = 1

    def __init__(
        self, inputs: int, planes: int, stride: int, taps: tuple[int, int], after: nn.Module | None
    ) -> None:
        super().__init__(inputs, planes, stride, after)
        self.conv1 = ConvBN(inputs, planes, (taps[0], 3, 3), (1, stride, stride))
        self.conv2 = ConvBN(planes, planes, (taps[1], 3, 3), relu=False)

    def convolved(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(self.conv1(x))
        return out


class ResNet3d(nn.Module):
    """(N, C, T, H, W) -> (N, outputs, T', H/32, W/32).

    In time: `stem` are the taps of the first convolution, `stem_stride` its stride and `pool_stride` that of
    the pooling, which looks beyond the picture's edge with `pool_margin`; `halve` pools by two after the
    first stage. `extra` are channels that join the inputs of the stages (SlowFast's lateral connections).
    """

    def __init__(
        self,
        channels: int,
        width: int,
        taps: Taps,
        *,
        bottleneck: bool = True,
        stem: int = 1,
        stem_stride: int = 1,
        pool_stride: int = 1,
        pool_margin: bool = True,
        halve: bool = False,
        extra: tuple[int, int, int, int] = (0, 0, 0, 0),
        non_local: NonLocalDims | None = None,
    ) -> None:
        super().__init__()
        if len(taps) != 4 or not all(1 <= len(stage) <= MOST_BLOCKS for stage in taps):
            raise ValueError(f"taps are given for four stages of 1 to {MOST_BLOCKS} blocks")
        self.conv1 = ConvBN(channels, width, (stem, 7, 7), (stem_stride, 2, 2))
        margin = int(pool_margin)
        self.maxpool = nn.MaxPool3d((1, 3, 3), (pool_stride, 2, 2), (0, margin, margin))
        kind = Bottleneck3d if bottleneck else BasicBlock3d
        inputs, layers = width, []
        for stage, blocks in enumerate(taps):
            planes = width * 2**stage
            inputs += extra[stage]
            layer = []
            for place, of_block in enumerate(blocks):
                outputs = planes * kind.expansion
                after = None
                if non_local is not None and place in non_local.non_local[stage]:
                    after = NonLocal(outputs, non_local)
                layer.append(kind(inputs, planes, 2 if stage and not place else 1, of_block, after))
                inputs = outputs
            layers.append(nn.Sequential(*layer))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.pool2 = nn.MaxPool3d((2, 1, 1)) if halve else nn.Identity()
        self.outputs = inputs

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool2(self.layer1(self.maxpool(self.conv1(x))))
        features: Tensor = self.layer4(self.layer3(self.layer2(x)))
        return features
