"""Parts that several networks share: a residual block and the temporal shift.

Shape letters: N clips, T frames of a clip, C channels, H, W; B = N*T where frames go through 2-D layers.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from vpipe.models.layers import conv2d


class _Shift(torch.autograd.Function):
    """The shift as one allocation and three copies; its gradient is the opposite shift."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, frames: int, fold: int) -> Tensor:
        ctx.frames, ctx.fold = frames, fold
        return _shifted(x, frames, fold, fold)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        return _shifted(grad, ctx.frames, ctx.fold, -ctx.fold), None, None


def _shifted(x: Tensor, frames: int, fold: int, direction: int) -> Tensor:
    """First `fold` channels from the next frame (direction > 0) or the previous; the second opposite."""
    x = x.contiguous(memory_format=torch.channels_last)
    # A GPU copies all of it faster than most of it: a whole copy has no gaps.
    out = x.clone() if x.is_cuda else torch.empty_like(x, memory_format=torch.channels_last)
    clips = x.permute(0, 2, 3, 1).unflatten(0, (-1, frames))  # N, T, H, W, C: a view
    to = out.permute(0, 2, 3, 1).unflatten(0, (-1, frames))
    if not x.is_cuda:
        to[..., 2 * fold :] = clips[..., 2 * fold :]
    next_, previous = (slice(0, fold), slice(fold, 2 * fold))[:: 1 if direction > 0 else -1]
    to[:, :-1, ..., next_] = clips[:, 1:, ..., next_]
    to[:, -1, ..., next_] = 0
    to[:, 1:, ..., previous] = clips[:, :-1, ..., previous]
    to[:, 0, ..., previous] = 0
    return out


def temporal_shift(x: Tensor, frames: int, share: int = 8) -> Tensor:
    """Moves C//share channels one frame back in time and as many forward, zeros at the ends.

    x (N*T, C, H, W) -> the same shape. The first channels take the next frame, the second the previous one
    (Lin, Gan and Han, "TSM", 2019, section 4).
    """
    shifted: Tensor = _Shift.apply(x, frames, x.shape[1] // share)
    return shifted


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm round an identity (or 1x1) path (He et al. 2016).

    With `frames` > 0 the residual branch sees temporally shifted features, as in TSM's residual shift.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, frames: int = 0) -> None:
        super().__init__()
        self.frames = frames
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: Tensor) -> Tensor:
        branch = temporal_shift(x, self.frames) if self.frames else x
        branch = torch.relu(self.bn1(self.conv1(branch)))
        return torch.relu(self.bn2(self.conv2(branch)) + self.shortcut(x))


def small_backbone(inputs: int, widths: tuple[int, ...], frames: int = 0) -> nn.Sequential:
    """Stem at half resolution, then a stage per further width, each halving: for 96 px on a CPU."""
    stem = nn.Sequential(
        nn.Conv2d(inputs, widths[0], 5, 2, 2, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU(inplace=True)
    )
    layers: list[nn.Module] = [stem]
    for place, (narrow, wide) in enumerate(pairwise(widths)):
        layers.append(ResidualBlock(narrow, wide, 2, frames))
        if place < len(widths) - 2:
            layers.append(ResidualBlock(wide, wide, 1, frames))
    return nn.Sequential(*layers)
