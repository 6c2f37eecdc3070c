"""The 2-D residual network (He et al. 2016, section 3) that most published video networks are built on.

TSN, TSM, TEA, STM and TANet are a `FrameResNet` with blocks of their own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.layers import ConvBN, FrameNetwork

BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}
MOST_BLOCKS = 64  # of a stage; a weight file that claims more is refused
MOST_SEGMENTS = 1024  # of a clip, likewise


class BasicBlock(nn.Module):
    """Two 3x3 convolutions: ResNet-18 and -34.

    `enter` works on the input of the residual branch only, `after` on the block's output.
    """

    expansion = 1

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int,
        *,
        enter: nn.Module | None = None,
        after: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.enter = enter or nn.Identity()
        self.conv1 = ConvBN(inputs, planes, 3, stride)
        self.conv2 = ConvBN(planes, planes, 3, relu=False)
        self.downsample = shortcut(inputs, planes, stride)
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu_(self.conv2(self.conv1(self.enter(x))) + self.downsample(x))
        out: Tensor = self.after(x)
        return out


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions: ResNet-50 and deeper.

    `enter` works on the input of the residual branch, `temporal` on what its first convolution gives, `after`
    on the block's output.
    """

    expansion = 4

    def __init__(
        self,
        inputs: int,
        planes: int,
        stride: int,
        *,
        enter: nn.Module | None = None,
        temporal: nn.Module | None = None,
        after: nn.Module | None = None,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.enter = enter or nn.Identity()
        self.conv1 = ConvBN(inputs, planes, 1, bias=bias)
        self.temporal = temporal or nn.Identity()
        self.conv2 = ConvBN(planes, planes, 3, stride, bias=bias)
        self.conv3 = ConvBN(planes, planes * 4, 1, bias=bias, relu=False)
        self.downsample = shortcut(inputs, planes * 4, stride, bias=bias)
        self.after = after or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv3(self.conv2(self.temporal(self.conv1(self.enter(x)))))
        out: Tensor = self.after(torch.relu_(branch + self.downsample(x)))
        return out


def shortcut(inputs: int, outputs: int, stride: int, *, bias: bool = False) -> nn.Module:
    """The identity, or a 1x1 convolution where shapes change."""
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return ConvBN(inputs, outputs, 1, stride, bias=bias, relu=False)


Block = Callable[[int, int, int, int, int], nn.Module]  # inputs, planes, stride, stage, place -> block


def stages(make: Block, blocks: tuple[int, ...], width: int, expansion: int) -> list[nn.Sequential]:
    """The four stages: planes double and the picture halves from one to the next."""
    if len(blocks) != 4 or not all(1 <= count <= MOST_BLOCKS for count in blocks):
        raise ValueError(f"blocks are four numbers from 1 to {MOST_BLOCKS}, not {blocks}")
    inputs, built = width, []
    for stage, count in enumerate(blocks):
        planes = width * 2**stage
        layer = []
        for place in range(count):
            stride = 2 if stage and not place else 1
            layer.append(make(inputs, planes, stride, stage, place))
            inputs = planes * expansion
        built.append(nn.Sequential(*layer))
    return built


class ResNet(nn.Module):
    """(B, C, H, W) -> (B, 8 * width * expansion, H/32, W/32)."""

    def __init__(
        self,
        channels: int,
        blocks: tuple[int, ...],
        width: int,
        make: Block,
        *,
        expansion: int = 4,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = ConvBN(channels, width, 7, 2, bias=bias)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1, self.layer2, self.layer3, self.layer4 = stages(make, blocks, width, expansion)
        self.outputs = width * 8 * expansion

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.conv1(x))
        features: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return features


@dataclass(frozen=True)
class FrameResNetDims:
    """What every residual network over the segments of a clip has."""

    classes: int
    segments: int = 8
    channels: int = 3  # of one frame: 3 RGB, 2 flow
    stack: int = 1  # frames or flows that are the channels of one input
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64


class FrameResNet(FrameNetwork):
    """A residual network of `make`'s blocks on every segment, and the mean of their logits.

    (N, segments * stack, C, H, W) normalised inputs -> (N, classes) logits.
    """

    backbone: ResNet

    def __init__(self, dims: FrameResNetDims, make: Block, expansion: int = 4) -> None:
        super().__init__()
        if not 1 <= dims.segments <= MOST_SEGMENTS:
            raise ValueError(f"segments is 1 to {MOST_SEGMENTS}")
        self.segments = dims.segments
        self.backbone = ResNet(dims.channels * dims.stack, dims.blocks, dims.width, make, expansion=expansion)
        self.fc = nn.Linear(self.backbone.outputs, dims.classes)
