"""TSN on Inception with batch norm: the networks of the original TSN, RGB and flow.

Wang et al., "Temporal Segment Networks", 2016, section 3; Ioffe and Szegedy, "Batch Normalization", 2015,
figure 5. The weights come from Caffe, whose poolings round sizes up.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.layers import ConvBN, FrameNetwork
from vpipe.models.registry import register

# Channels of 1x1 (0: the module halves the picture), of both parts of 3x3, of the three of double 3x3, of the
# projection after pooling (0: the pooled input itself), and the kind of pooling.
MODULES = {
    "inception_3a": (64, (64, 64), (64, 96, 96), 32, "mean"),
    "inception_3b": (64, (64, 96), (64, 96, 96), 64, "mean"),
    "inception_3c": (0, (128, 160), (64, 96, 96), 0, "max"),
    "inception_4a": (224, (64, 96), (96, 128, 128), 128, "mean"),
    "inception_4b": (192, (96, 128), (96, 128, 128), 128, "mean"),
    "inception_4c": (160, (128, 160), (128, 160, 160), 128, "mean"),
    "inception_4d": (96, (128, 192), (160, 192, 192), 128, "mean"),
    "inception_4e": (0, (128, 192), (192, 256, 256), 0, "max"),
    "inception_5a": (352, (192, 320), (160, 224, 224), 128, "mean"),
    "inception_5b": (352, (192, 320), (192, 224, 224), 128, "max"),
}


@dataclass(frozen=True)
class BNInceptionDims:
    classes: int
    segments: int = 3
    channels: int = 3
    stack: int = 1
    share: int = 1  # every layer has one `share`-th of the published channels


class Inception(nn.Module):
    """Branches of 1x1, 3x3, two 3x3 and pooling, side by side."""

    def __init__(
        self,
        inputs: int,
        one: int,
        three: tuple[int, ...],
        double: tuple[int, ...],
        project: int,
        pooling: str,
    ) -> None:
        super().__init__()
        stride = 1 if one else 2
        self.branches = nn.ModuleDict()
        if one:
            self.branches["1x1"] = ConvBN(inputs, one, 1, bias=True)
        self.branches["3x3_reduce"] = ConvBN(inputs, three[0], 1, bias=True)
        self.branches["3x3"] = ConvBN(three[0], three[1], 3, stride, bias=True)
        self.branches["double_3x3_reduce"] = ConvBN(inputs, double[0], 1, bias=True)
        self.branches["double_3x3_1"] = ConvBN(double[0], double[1], 3, bias=True)
        self.branches["double_3x3_2"] = ConvBN(double[1], double[2], 3, stride, bias=True)
        if project:
            self.branches["pool_proj"] = ConvBN(inputs, project, 1, bias=True)
        kind = nn.AvgPool2d if pooling == "mean" else nn.MaxPool2d
        self.pool = kind(3, stride, 1 if one else 0, ceil_mode=True)
        self.outputs = one + three[1] + double[2] + (project or inputs)

    def forward(self, x: Tensor) -> Tensor:
        part = self.branches
        done = [part["1x1"](x)] if "1x1" in part else []
        done.append(part["3x3"](part["3x3_reduce"](x)))
        done.append(part["double_3x3_2"](part["double_3x3_1"](part["double_3x3_reduce"](x))))
        pooled = self.pool(x)
        done.append(part["pool_proj"](pooled) if "pool_proj" in part else pooled)
        return torch.cat(done, 1)


class BNInception(nn.Sequential):
    """(B, C, H, W) -> (B, 1024 / share, H/32, W/32), sizes rounded up."""

    def __init__(self, channels: int, share: int) -> None:
        super().__init__()
        width = 64 // share
        self.conv1_7x7_s2 = ConvBN(channels, width, 7, 2, bias=True)
        self.pool1 = nn.MaxPool2d(3, 2, ceil_mode=True)
        self.conv2_3x3_reduce = ConvBN(width, width, 1, bias=True)
        self.conv2_3x3 = ConvBN(width, 192 // share, 3, bias=True)
        self.pool2 = nn.MaxPool2d(3, 2, ceil_mode=True)
        inputs = 192 // share
        for name, (one, three, double, project, pooling) in MODULES.items():
            module = Inception(
                inputs,
                one // share,
                tuple(n // share for n in three),
                tuple(n // share for n in double),
                project // share,
                pooling,
            )
            self.add_module(name, module)
            inputs = module.outputs
        self.outputs = inputs


@register("tsn-bninception")
class TSNBNInception(FrameNetwork):
    """(N, segments * stack, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: BNInceptionDims) -> None:
        super().__init__()
        if not 1 <= dims.share <= 16:
            raise ValueError("share is 1 to 16")
        self.segments = dims.segments
        self.backbone = BNInception(dims.channels * dims.stack, dims.share)
        self.fc = nn.Linear(self.backbone.outputs, dims.classes)
