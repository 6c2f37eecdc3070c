"""TSN and two-stream networks on ResNet: each segment through a 2-D network, the mean of the logits.

Wang et al., "Temporal Segment Networks", 2016, section 3.1. With one segment this is a stream of Simonyan and
Zisserman's two-stream network (2014): one frame, or a stack of flows as channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from vpipe.models.layers import FrameNetwork
from vpipe.models.registry import register
from vpipe.models.resnet import BasicBlock, Bottleneck, ResNet


@dataclass(frozen=True)
class TSNResNetDims:
    classes: int
    segments: int = 8
    channels: int = 3  # of one frame: 3 RGB, 2 flow
    stack: int = 1  # frames or flows that are the channels of one input
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    width: int = 64


@register("tsn-resnet")
class TSNResNet(FrameNetwork):
    """(N, segments * stack, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: TSNResNetDims) -> None:
        super().__init__()
        self.segments = dims.segments
        block = Bottleneck if dims.bottleneck else BasicBlock
        self.backbone = ResNet(
            dims.channels * dims.stack,
            dims.blocks,
            dims.width,
            lambda inputs, planes, stride, stage, place: block(inputs, planes, stride),
            expansion=block.expansion,
        )
        self.fc = nn.Linear(self.backbone.outputs, dims.classes)
