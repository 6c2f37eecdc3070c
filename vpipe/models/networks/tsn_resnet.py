"""TSN and two-stream networks on ResNet: each segment through a 2-D network, the mean of the logits.

Wang et al., "Temporal Segment Networks", 2016, section 3.1. With one segment this is a stream of Simonyan and
Zisserman's two-stream network (2014): one frame, or a stack of flows as channels.
"""

from __future__ import annotations

from dataclasses import dataclass

from vpipe.models.registry import register
from vpipe.models.resnet import BasicBlock, Bottleneck, FrameResNet, FrameResNetDims


@dataclass(frozen=True)
class TSNResNetDims(FrameResNetDims):
    bottleneck: bool = True


@register("tsn-resnet")
class TSNResNet(FrameResNet):
    """(N, segments * stack, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: TSNResNetDims) -> None:
        block = Bottleneck if dims.bottleneck else BasicBlock
        super().__init__(
            dims, lambda inputs, planes, stride, *_: block(inputs, planes, stride), block.expansion
        )
