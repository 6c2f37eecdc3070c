"""TEA: motion excites channels, and a hierarchy of temporal convolutions widens what a block sees of time.

Li et al., "TEA: Temporal Excitation and Aggregation for Action Recognition", 2020, section 3; the blocks are
those of Res2Net (Gao et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.layers import ConvBN, TemporalConv, next_minus_this
from vpipe.models.registry import register
from vpipe.models.resnet import FrameResNet, FrameResNetDims, shortcut


@dataclass(frozen=True)
class TEADims(FrameResNetDims):
    base_width: int = 26  # channels of a split for 64 planes
    splits: int = 4
    reduce: int = 16  # channels of the motion excitation, as a share


class MotionExcitation(nn.Module):
    """ME (section 3.1): channels in which the next frame differs are strengthened. Shape as given."""

    def __init__(self, channels: int, dims: TEADims) -> None:
        super().__init__()
        few = channels // dims.reduce
        self.frames = dims.segments
        self.squeeze = ConvBN(channels, few, 1, relu=False)
        self.transform = nn.Conv2d(few, few, 3, padding=1, groups=few, bias=False)
        self.expand = ConvBN(few, channels, 1, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        squeezed = self.squeeze(x)
        motion = next_minus_this(self.transform(squeezed), squeezed, self.frames)
        attention = torch.sigmoid(self.expand(motion.mean((2, 3), keepdim=True))) - 0.5
        return x + x * attention


class TEABlock(nn.Module):
    """ME, then multiple temporal aggregation (MTA, section 3.2) over splits of the channels.

    Each split adds the one before it, but not in the first block of a stage, where the last split, which has
    no 3x3 convolution, is averaged down to the new size.
    """

    def __init__(self, inputs: int, planes: int, stride: int, first: bool, dims: TEADims) -> None:
        super().__init__()
        self.first, self.split = first, planes * dims.base_width // 64
        wide = self.split * dims.splits
        self.conv1 = ConvBN(inputs, wide, 1)
        self.excite = MotionExcitation(wide, dims)
        self.temporal = nn.ModuleList(TemporalConv(self.split, dims.segments) for _ in range(dims.splits))
        self.spatial = nn.ModuleList(
            ConvBN(self.split, self.split, 3, stride) for _ in range(dims.splits - 1)
        )
        self.rest = nn.AvgPool2d(3, stride, 1) if first else nn.Identity()
        self.conv3 = ConvBN(wide, planes * 4, 1, relu=False)
        self.downsample = shortcut(inputs, planes * 4, stride)

    def forward(self, x: Tensor) -> Tensor:
        *splits, last = self.excite(self.conv1(x)).split(self.split, 1)
        done: list[Tensor] = []
        for split, temporal, spatial in zip(splits, self.temporal, self.spatial, strict=False):
            seen = split if self.first or not done else split + done[-1]
            done.append(spatial(temporal(seen)))
        done.append(self.rest(self.temporal[-1](last)))
        return torch.relu_(self.conv3(torch.cat(done, 1)) + self.downsample(x))


@register("tea")
class TEA(FrameResNet):
    """(N, segments * stack, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: TEADims) -> None:
        super().__init__(
            dims,
            lambda inputs, planes, stride, stage, place: TEABlock(inputs, planes, stride, not place, dims),
        )
