"""On a CUDA device, in a short precision: residual blocks that leave bias, sum and ReLU to cuDNN.

Each of these would otherwise read and write a whole activation once more, which is most of a block's time;
and the branch is added before it is rounded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vpipe.models.resnet import Bottleneck


class FusedBottleneck(nn.Module):
    """A `Bottleneck` whose batch norms are folded, (B, C, H, W) -> (B, C', H', W'), channels last."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.enter, self.temporal, self.after = block.enter, block.temporal, block.after
        self.conv1, self.conv2, self.conv3 = block.conv1.conv, block.conv2.conv, block.conv3.conv
        self.downsample = block.downsample

    def forward(self, x: Tensor) -> Tensor:
        branch = _convolved(self.conv2, self.temporal(_convolved(self.conv1, self.enter(x))))
        out: Tensor = self.after(_convolved(self.conv3, branch, self.downsample(x)))
        return out


def _convolved(conv: nn.Module, x: Tensor, plus: Tensor | None = None) -> Tensor:
    """relu(conv(x) + bias + plus)."""
    assert isinstance(conv, nn.Conv2d)
    how: Any = (conv.stride, conv.padding, conv.dilation, conv.groups)
    if plus is None:
        return torch.cudnn_convolution_relu(x, conv.weight, conv.bias, *how)
    return torch.cudnn_convolution_add_relu(x, conv.weight, plus, 1.0, conv.bias, *how)


def fuse_blocks(network: nn.Module) -> None:
    """In place, of a network that is folded and on its device; blocks of other kinds stay as they are."""
    for name, module in list(network.named_modules()):
        if type(module) is Bottleneck and all(
            isinstance(conv, nn.Conv2d) and conv.bias is not None
            for conv in (module.conv1.conv, module.conv2.conv, module.conv3.conv)
        ):
            network.set_submodule(name, FusedBottleneck(module))
