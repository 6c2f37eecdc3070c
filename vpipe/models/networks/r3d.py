"""R3D, MC3 and R(2+1)D: residual networks of two 3-D convolutions a block, whole, flat or split in two.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", 2018, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.layers import ClipNetwork, ConvBN
from vpipe.models.registry import register
from vpipe.models.resnet import MOST_BLOCKS


@dataclass(frozen=True)
class R3DDims:
    classes: int
    channels: int = 3
    blocks: tuple[int, ...] = (2, 2, 2, 2)
    width: int = 64
    # "full": 3x3x3; "flat": 1x3x3; "split": 1x3x3, then 3x1x1. Of the stem, then of the four stages.
    kinds: tuple[str, ...] = ("split",) * 5
    middle: int = 45  # channels between the halves of a split stem
    shared_middle: bool = True  # as many between the halves of a block's second convolution as of its first
    split_shortcut: bool = False
    pool: bool = False  # halve the picture after the stem
    eps: float = 1e-5  # of the batch norms
    middle_eps: float = 1e-5  # of those between halves


def between(inputs: int, outputs: int, side: int) -> int:
    """Channels between the halves, so that they have as many weights as the whole (section 3.5)."""
    return 3 * inputs * outputs * side**2 // (inputs * side**2 + 3 * outputs)


class Split(nn.Module):
    """A convolution over the picture, batch norm, ReLU, and one over time with its batch norm."""

    def __init__(
        self,
        inputs: int,
        middle: int,
        outputs: int,
        side: int,
        stride: tuple[int, int, int],
        relu: bool,
        dims: R3DDims,
        taps: int = 3,
    ) -> None:
        super().__init__()
        time, *space = stride
        self.spatial = ConvBN(inputs, middle, (1, side, side), (1, space[0], space[1]), eps=dims.middle_eps)
        self.temporal = ConvBN(middle, outputs, (taps, 1, 1), (time, 1, 1), relu=relu, eps=dims.eps)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.temporal(self.spatial(x))
        return out


class Block(nn.Module):
    """Two convolutions of one kind round an identity, or a 1x1x1 convolution where shapes change."""

    def __init__(self, inputs: int, planes: int, stride: int, kind: str, dims: R3DDims) -> None:
        super().__init__()
        steps = (1 if kind == "flat" else stride, stride, stride)
        first = between(inputs, planes, 3)
        second = first if dims.shared_middle else between(planes, planes, 3)
        self.conv1 = self._conv(kind, inputs, first, planes, steps, True, dims)
        self.conv2 = self._conv(kind, planes, second, planes, (1, 1, 1), False, dims)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or inputs != planes:
            if dims.split_shortcut:
                middle = between(inputs, planes, 1)
                self.downsample = Split(inputs, middle, planes, 1, steps, False, dims, taps=1)
            else:
                self.downsample = ConvBN(inputs, planes, (1, 1, 1), steps, relu=False, eps=dims.eps)

    @staticmethod
    def _conv(
        kind: str,
        inputs: int,
        middle: int,
        outputs: int,
        stride: tuple[int, int, int],
        relu: bool,
        dims: R3DDims,
    ) -> nn.Module:
        if kind == "split":
            return Split(inputs, middle, outputs, 3, stride, relu, dims)
        return ConvBN(inputs, outputs, (3 if kind == "full" else 1, 3, 3), stride, relu=relu, eps=dims.eps)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu_(self.conv2(self.conv1(x)) + self.downsample(x))


@register("r3d")
class R3D(ClipNetwork):
    """(N, T, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: R3DDims) -> None:
        super().__init__()
        if len(dims.kinds) != 5 or not set(dims.kinds) <= {"full", "flat", "split"}:
            raise ValueError("kinds are five of full, flat and split")
        if len(dims.blocks) != 4 or not all(1 <= count <= MOST_BLOCKS for count in dims.blocks):
            raise ValueError(f"blocks are four numbers from 1 to {MOST_BLOCKS}")
        inputs = dims.width
        steps = (1, 2, 2)
        layers: list[nn.Module] = []
        if dims.kinds[0] == "split":
            layers.append(Split(dims.channels, dims.middle, inputs, 7, steps, True, dims))
        else:
            layers.append(ConvBN(dims.channels, inputs, (3, 7, 7), steps, eps=dims.eps))
        layers[0] = nn.Sequential(
            layers[0], *([nn.MaxPool3d((1, 3, 3), steps, (0, 1, 1))] if dims.pool else [])
        )
        for stage, count in enumerate(dims.blocks):
            planes = dims.width * 2**stage
            blocks = []
            for place in range(count):
                stride = 2 if stage and not place else 1
                blocks.append(Block(inputs, planes, stride, dims.kinds[stage + 1], dims))
                inputs = planes
            layers.append(nn.Sequential(*blocks))
        self.backbone = nn.Sequential(*layers)
        self.fc = nn.Linear(inputs, dims.classes)
