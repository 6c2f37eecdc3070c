"""On a CUDA device, in a short precision: residual blocks that leave bias, sum and ReLU to cuDNN.

Each of these would otherwise read and write a whole activation once more, which is most of a block's time;
and the branch is added before it is rounded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vpipe.models.resnet import Bottleneck

ALIGNED = 8  # channels: 16 bytes of a short precision


class FusedBottleneck(nn.Module):
    """A `Bottleneck` whose batch norms are folded, (B, C, H, W) -> (B, C', H', W'), channels last."""

    def __init__(self, block: Bottleneck) -> None:
        super().__init__()
        self.enter, self.temporal, self.after = block.enter, block.temporal, block.after
        self.conv1, self.conv2, self.conv3 = block.conv1.conv, block.conv2.conv, block.conv3.conv
        self.downsample = block.downsample
        shortcut = getattr(self.downsample, "conv", None)
        if isinstance(shortcut, nn.Conv2d) and shortcut.bias is not None:  # one bias for their sum
            last = self.conv3.bias
            assert isinstance(last, nn.Parameter)
            last.data = (last.data.float() + shortcut.bias.data.float()).to(last.dtype)
            shortcut.bias = None

    def forward(self, x: Tensor) -> Tensor:
        branch = convolved(self.conv2, self.temporal(convolved(self.conv1, self.enter(x))))
        out: Tensor = self.after(convolved(self.conv3, branch, self.downsample(x)))
        return out


def convolved(conv: nn.Module, x: Tensor, plus: Tensor | None = None) -> Tensor:
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
            _fits(conv) for conv in (module.conv1.conv, module.conv2.conv, module.conv3.conv)
        ):
            network.set_submodule(name, FusedBottleneck(module))


def _fits(conv: nn.Module) -> bool:
    """What cuDNN fuses: a 2-D convolution with a bias, in one group, of channels that fill its loads."""
    return (
        isinstance(conv, nn.Conv2d)
        and conv.bias is not None
        and conv.groups == 1
        and conv.in_channels % ALIGNED == 0
        and conv.out_channels % ALIGNED == 0
    )
