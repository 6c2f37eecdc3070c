"""TSN: a 2-D network on each snippet of a clip, and the mean of their logits (Wang et al. 2016).

For RGB a snippet is one frame; for optical flow it is a stack of consecutive flows, as in the temporal
stream of Simonyan and Zisserman (2014).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.blocks import small_backbone
from vpipe.models.registry import register


@dataclass(frozen=True)
class TSNDims:
    classes: int
    frames: int  # inputs of a clip: RGB frames or flows
    channels: int = 3  # of one input: 3 RGB, 2 flow
    stack: int = 1  # consecutive inputs that go into the network together
    widths: tuple[int, ...] = (24, 48, 96, 160)
    dropout: float = 0.2
    local: bool = False  # also pool by maximum over the picture: small motion drowns in the mean
    compress: bool = False  # asinh(2 x) of the input: flows span four orders of magnitude


@register("tsn")
class TSN(nn.Module):
    """(N, T, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: TSNDims) -> None:
        super().__init__()
        if dims.frames % dims.stack:
            raise ValueError(f"{dims.frames} inputs do not divide into stacks of {dims.stack}")
        self.dims = dims
        self.backbone = small_backbone(dims.channels * dims.stack, dims.widths)
        self.dropout = nn.Dropout(dims.dropout)
        self.fc = nn.Linear(dims.widths[-1] * (2 if dims.local else 1), dims.classes)

    def forward(self, clip: Tensor) -> Tensor:
        x = self._features(clip)
        pooled = torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1) if self.dims.local else x.mean((2, 3))
        logits = self.fc(self.dropout(pooled))
        return logits.unflatten(0, (clip.shape[0], -1)).mean(1)

    def class_activation(self, clip: Tensor) -> Tensor:
        """Where each class is seen: (N, T / stack, classes, h, w) (Zhou et al. 2016, CAM)."""
        x = self._features(clip)
        if self.dims.local:  # a cell counts in the maximum in the measure that it reaches it
            most = x.amax((2, 3), keepdim=True).clamp_min(1e-6)
            x = torch.cat([x / x[0, 0].numel(), x * (x / most) ** 4], 1)
        maps = nn.functional.conv2d(x, self.fc.weight[..., None, None])
        return maps.unflatten(0, (len(clip), -1))

    def _features(self, clip: Tensor) -> Tensor:
        batch, frames, channels, height, width = clip.shape
        if self.dims.compress:
            clip = torch.asinh(2 * clip)
        segments = frames // self.dims.stack
        x = clip.reshape(batch * segments, channels * self.dims.stack, height, width)
        features: Tensor = self.backbone(x.contiguous(memory_format=torch.channels_last))
        return features
