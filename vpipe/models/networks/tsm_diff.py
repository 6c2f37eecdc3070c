"""A flow-free motion network: temporal shift over a small residual net that also sees frame differences.

Short-term motion comes in with the differences to the frames before and after (the idea of TDN's
short-term module, Wang et al. 2021, at the input), motion over the clip with TSM's shift in every block
(Lin et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.blocks import small_backbone
from vpipe.models.registry import register


@dataclass(frozen=True)
class TSMDiffDims:
    classes: int
    frames: int = 8
    widths: tuple[int, ...] = (24, 48, 96, 160)
    dropout: float = 0.1
    gain: float = 4.0  # of the grey-level differences, which are small beside the picture


@register("tsm-diff")
class TSMDiff(nn.Module):
    """(N, T, 3, H, W) normalised RGB frames -> (N, classes) logits."""

    def __init__(self, dims: TSMDiffDims) -> None:
        super().__init__()
        self.dims = dims
        self.backbone = small_backbone(5, dims.widths, dims.frames)
        self.dropout = nn.Dropout(dims.dropout)
        self.fc = nn.Linear(dims.widths[-1], dims.classes)

    def forward(self, clip: Tensor) -> Tensor:
        x = self._features(clip).mean((2, 3))
        return self.fc(self.dropout(x)).unflatten(0, (-1, self.dims.frames)).mean(1)

    def class_activation(self, clip: Tensor) -> Tensor:
        """Where each class is seen: (N, T, classes, h, w) (Zhou et al. 2016, CAM)."""
        maps = nn.functional.conv2d(self._features(clip), self.fc.weight[..., None, None])
        return maps.unflatten(0, (len(clip), -1))

    def _features(self, clip: Tensor) -> Tensor:
        clip = clip.permute(0, 1, 3, 4, 2)  # channels last: N, T, H, W, C
        grey = clip.mean(-1, keepdim=True)
        step = (grey[:, 1:] - grey[:, :-1]) * self.dims.gain
        none = torch.zeros_like(step[:, :1])
        x = torch.cat([clip, torch.cat([none, step], 1), torch.cat([step, none], 1)], dim=-1)
        features: Tensor = self.backbone(x.flatten(0, 1).permute(0, 3, 1, 2))
        return features
