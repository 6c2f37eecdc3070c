"""I3D-ResNet and SlowOnly: one 3-D residual network over the clip.

I3D-ResNet: Carreira and Zisserman 2017, inflated ResNet as in Wang et al. 2018 (table 1). SlowOnly:
Feichtenhofer et al., "SlowFast Networks for Video Recognition", 2019, the slow pathway of table 1 alone.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vpipe.models.layers import ClipNetwork
from vpipe.models.non_local import NonLocalDims
from vpipe.models.registry import register
from vpipe.models.resnet3d import SLOW_TAPS, ResNet3d, Taps


@dataclass(frozen=True)
class ResNet3dDims(NonLocalDims):
    classes: int
    channels: int = 3
    width: int = 64
    bottleneck: bool = True
    taps: Taps = SLOW_TAPS
    stem: int = 1  # taps in time of the first convolution
    stem_stride: int = 1  # in time
    pool_stride: int = 1  # in time, of the pooling after it
    pool_margin: bool = True  # the pooling looks one place beyond the picture
    halve: bool = False  # pool time by two after the first stage


@register("resnet3d")
class ResNet3dNetwork(ClipNetwork):
    """(N, T, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: ResNet3dDims) -> None:
        super().__init__()
        self.backbone = ResNet3d(
            dims.channels,
            dims.width,
            dims.taps,
            bottleneck=dims.bottleneck,
            stem=dims.stem,
            stem_stride=dims.stem_stride,
            pool_stride=dims.pool_stride,
            pool_margin=dims.pool_margin,
            halve=dims.halve,
            non_local=dims,
        )
        self.fc = nn.Linear(self.backbone.outputs, dims.classes)
