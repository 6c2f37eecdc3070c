"""TANet: a residual network whose temporal convolutions have taps that each clip and channel choose.

Liu et al., "TAM: Temporal Adaptive Module for Video Recognition", 2021, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.registry import register
from vpipe.models.resnet import Bottleneck, FrameResNet, FrameResNetDims


@dataclass(frozen=True)
class TANetDims(FrameResNetDims):
    kernel: int = 3  # taps of the adaptive convolution
    expand: int = 2  # width of the global branch, times segments
    reduce: int = 4  # of the local branch


class TAM(nn.Module):
    """x (N*T, C, H, W) -> the same shape: weighted place by place (L), then convolved over time (G)."""

    def __init__(self, channels: int, dims: TANetDims) -> None:
        super().__init__()
        self.frames, self.kernel = dims.segments, dims.kernel
        inner, few = dims.segments * dims.expand, channels // dims.reduce
        self.G = nn.Sequential(  # equation 4: a channel's course over time -> its taps
            nn.Linear(dims.segments, inner, bias=False),
            nn.BatchNorm1d(inner),
            nn.ReLU(inplace=True),
            nn.Linear(inner, dims.kernel, bias=False),
            nn.Softmax(-1),
        )
        self.L = nn.Sequential(  # equation 3: how much each channel counts at each time
            nn.Conv1d(channels, few, dims.kernel, padding=dims.kernel // 2, bias=False),
            nn.BatchNorm1d(few),
            nn.ReLU(inplace=True),
            nn.Conv1d(few, channels, 1, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        clips = x.unflatten(0, (-1, self.frames))  # N, T, C, H, W
        course = clips.mean((3, 4)).transpose(1, 2)  # N, C, T
        taps = self.G(course.reshape(-1, self.frames)).view(*course.shape[:2], self.kernel)
        weighted = clips * self.L(course).transpose(1, 2)[..., None, None]
        out = torch.zeros_like(weighted)
        for place in range(self.kernel):
            tap = taps[:, None, :, place, None, None]
            ahead = place - self.kernel // 2  # this tap sees the frame `ahead` of each
            to = slice(max(0, -ahead), self.frames - max(0, ahead))
            seen = slice(max(0, ahead), self.frames - max(0, -ahead))
            out[:, to] += weighted[:, seen] * tap
        return out.flatten(0, 1)


@register("tanet")
class TANet(FrameResNet):
    """(N, segments * stack, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: TANetDims) -> None:
        super().__init__(
            dims,
            lambda inputs, planes, stride, *_: Bottleneck(inputs, planes, stride, temporal=TAM(planes, dims)),
        )
