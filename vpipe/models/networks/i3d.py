"""I3D: Inception-V1 inflated to three dimensions.

Carreira and Zisserman, "Quo Vadis, Action Recognition?", 2017, section 2.4 and figure 3. The published
weights come from TensorFlow, whose padding "same" is uneven.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool3d, pad

from vpipe.models.layers import ClipNetwork, ConvBN
from vpipe.models.registry import register

EPS = 1e-3
# Channels of the branches: 1x1; 1x1 and 3x3; 1x1 and 3x3; 1x1 after pooling.
MIXED = {
    "mixed_3b": (64, 96, 128, 16, 32, 32),
    "mixed_3c": (128, 128, 192, 32, 96, 64),
    "mixed_4b": (192, 96, 208, 16, 48, 64),
    "mixed_4c": (160, 112, 224, 24, 64, 64),
    "mixed_4d": (128, 128, 256, 24, 64, 64),
    "mixed_4e": (112, 144, 288, 32, 64, 64),
    "mixed_4f": (256, 160, 320, 32, 128, 128),
    "mixed_5b": (256, 160, 320, 32, 128, 128),
    "mixed_5c": (384, 192, 384, 48, 128, 128),
}


@dataclass(frozen=True)
class I3DDims:
    classes: int
    channels: int = 3  # 3 RGB, 2 flow
    share: int = 1  # every layer has one `share`-th of the published channels
    fixed_padding: bool = False  # as if sizes were multiples of the stride, rounding up (hassony2's port)


def padded(x: Tensor, kernel: tuple[int, int, int], stride: tuple[int, int, int], fixed: bool) -> Tensor:
    """TensorFlow's "same": what is missing to whole strides, the odd one at the end."""
    amounts: list[int] = []
    for size, taps, step in zip(x.shape[2:], kernel, stride, strict=True):
        rest = 0 if fixed else size % step
        missing = max(taps - (rest or step), 0)
        amounts = [missing // 2, missing - missing // 2, *amounts]
    return pad(x, amounts)


class Pool(nn.Module):
    """The maximum, zeros round the edges; with fixed padding the last window may hang over."""

    def __init__(self, kernel: tuple[int, int, int], stride: tuple[int, int, int], fixed: bool) -> None:
        super().__init__()
        self.kernel, self.stride, self.fixed = kernel, stride, fixed

    def forward(self, x: Tensor) -> Tensor:
        whole = padded(x, self.kernel, self.stride, self.fixed)
        return max_pool3d(whole, self.kernel, self.stride, ceil_mode=self.fixed)


class Mixed(nn.Module):
    """An inception module: four branches side by side."""

    def __init__(self, inputs: int, widths: tuple[int, ...], fixed: bool) -> None:
        super().__init__()
        one, three = (1, 1, 1), (3, 3, 3)
        self.b0 = ConvBN(inputs, widths[0], one, eps=EPS)
        self.b1a = ConvBN(inputs, widths[1], one, eps=EPS)
        self.b1b = ConvBN(widths[1], widths[2], three, eps=EPS)
        self.b2a = ConvBN(inputs, widths[3], one, eps=EPS)
        self.b2b = ConvBN(widths[3], widths[4], three, eps=EPS)
        self.pool = Pool(three, one, fixed)
        self.b3b = ConvBN(inputs, widths[5], one, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.b0(x), self.b1b(self.b1a(x)), self.b2b(self.b2a(x)), self.b3b(self.pool(x))]
        return torch.cat(branches, 1)


class InflatedInception(nn.Module):
    """(N, C, T, H, W) -> (N, 1024 / share, T/8, H/32, W/32), sizes rounded up."""

    def __init__(self, dims: I3DDims) -> None:
        super().__init__()
        share, self.fixed = dims.share, dims.fixed_padding
        self.conv_1a = ConvBN(dims.channels, 64 // share, (7, 7, 7), (2, 2, 2), padding=(0, 0, 0), eps=EPS)
        self.conv_2b = ConvBN(64 // share, 64 // share, (1, 1, 1), eps=EPS)
        self.conv_2c = ConvBN(64 // share, 192 // share, (3, 3, 3), eps=EPS)
        inputs = 192 // share
        for name, published in MIXED.items():
            widths = tuple(width // share for width in published)
            self.add_module(name, Mixed(inputs, widths, self.fixed))
            inputs = widths[0] + widths[2] + widths[4] + widths[5]
        self.outputs = inputs
        self.pool_flat = Pool((1, 3, 3), (1, 2, 2), self.fixed)
        self.pool_4a = Pool((3, 3, 3), (2, 2, 2), self.fixed)
        self.pool_5a = Pool((2, 2, 2), (2, 2, 2), self.fixed)

    def forward(self, x: Tensor) -> Tensor:
        # The fixed kind still counts the first convolution's frames.
        whole = padded(x, (7, 7, 7), (2, 2, 2), False) if not self.fixed else self._padded_frames(x)
        x = self.pool_flat(self.conv_1a(whole))
        x = self.pool_flat(self.conv_2c(self.conv_2b(x)))
        for name in MIXED:
            if name == "mixed_4b":
                x = self.pool_4a(x)
            elif name == "mixed_5b":
                x = self.pool_5a(x)
            x = self.get_submodule(name)(x)
        return x

    @staticmethod
    def _padded_frames(x: Tensor) -> Tensor:
        return pad(x, (2, 3, 2, 3, 3, 3) if x.shape[2] % 2 else (2, 3, 2, 3, 2, 3))


@register("i3d")
class I3D(ClipNetwork):
    """(N, T, C, H, W) inputs in [-1, 1], T at least 9 -> (N, classes) logits."""

    def __init__(self, dims: I3DDims) -> None:
        super().__init__()
        if not 1 <= dims.share <= 16:
            raise ValueError("share is 1 to 16")
        self.backbone = InflatedInception(dims)
        self.fc = nn.Linear(self.backbone.outputs, dims.classes)

    def pool(self, maps: Tensor) -> Tensor:
        """Means over the picture and two neighbouring times."""
        if maps.shape[1] < 2:
            raise ValueError("I3D takes clips of at least 9 frames")
        course = maps.mean((3, 4), dtype=self.pooling)  # by hand: a CPU has no 3-D mean in bfloat16
        return (course[:, 1:] + course[:, :-1]) / 2
