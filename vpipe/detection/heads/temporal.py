"""Layers over the snippets of a video. Letters in shapes: N videos, C channels, T snippets."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class DilatedResidual(nn.Module):
    """(N, C, T) -> (N, C, T): a convolution of 3 taps `dilation` apart, ReLU, 1x1, added to the input.

    Farha and Gall, "MS-TCN", 2019, section 3.1, equations 2 and 3.
    """

    def __init__(self, channels: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.dilated = nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation)
        self.point = nn.Conv1d(channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.dropout(self.point(torch.relu(self.dilated(x))))
        return x + branch


class DualDilated(nn.Module):
    """(N, C, T) -> (N, C, T): two dilations at once, joined, ReLU, added to the input.

    Li et al., "MS-TCN++", 2020, section 3.2.
    """

    def __init__(self, channels: int, dilations: tuple[int, int], dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv1d(channels, channels, 3, padding=dilation, dilation=dilation) for dilation in dilations
        )
        self.join = nn.Conv1d(2 * channels, channels, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        joined = self.join(torch.cat([branch(x) for branch in self.branches], 1))
        out: Tensor = x + self.dropout(torch.relu(joined))
        return out


class Standardise(nn.Module):
    """(N, C, T) features -> zero mean and unit variance per channel, as in training."""

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1))
        self.register_buffer("std", torch.ones(channels, 1))

    def learn(self, mean: Tensor, std: Tensor) -> None:
        """Takes (C,) mean and standard deviation; a channel that never changes stays 0."""
        self.mean = mean.view(-1, 1).float()
        self.std = std.view(-1, 1).float().clamp_min(1e-6 * std.float().max().clamp_min(1e-6))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
