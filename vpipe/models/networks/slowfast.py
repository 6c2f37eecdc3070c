"""SlowFast: few frames through a wide network, many through a narrow one that keeps telling the wide one.

Feichtenhofer et al., "SlowFast Networks for Video Recognition", 2019, section 3 and table 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.layers import ConvBN, VideoNetwork
from vpipe.models.non_local import NonLocalDims
from vpipe.models.registry import register
from vpipe.models.resnet3d import SLOW_TAPS, ResNet3d, Taps

FAST_TAPS: Taps = (((3, 1),) * 3, ((3, 1),) * 4, ((3, 1),) * 6, ((3, 1),) * 3)


@dataclass(frozen=True)
class SlowFastDims(NonLocalDims):
    """Non-local blocks are the slow path's."""

    classes: int
    bottleneck: bool = True
    width: int = 64  # of the slow path
    fast_width: int = 8
    slow_taps: Taps = SLOW_TAPS
    fast_taps: Taps = FAST_TAPS
    slow_stem: int = 1
    fast_stem: int = 5
    fusion: int = 7  # taps of the lateral connections
    alpha: int = 4  # fast frames for one slow frame
    lateral_norm: bool = True  # batch norm and ReLU after the lateral convolutions
    fast_first: bool = False  # the last layer takes the fast path's features before the slow one's
    even: bool = True  # slow frames spread from the first to the last; else every alpha-th


@register("slowfast")
class SlowFast(VideoNetwork):
    """(N, T, 3, H, W) normalised frames, T a multiple of alpha -> (N, classes) logits."""

    def __init__(self, dims: SlowFastDims) -> None:
        super().__init__()
        if dims.alpha < 1:
            raise ValueError("alpha is at least 1")
        self.alpha, self.even, self.fast_first = dims.alpha, dims.even, dims.fast_first
        wide = 4 if dims.bottleneck else 1
        # Channels of the lateral connections.
        told = [2 * dims.fast_width, *(2 * wide * dims.fast_width * 2**stage for stage in range(3))]
        self.slow = ResNet3d(
            3,
            dims.width,
            dims.slow_taps,
            bottleneck=dims.bottleneck,
            stem=dims.slow_stem,
            extra=(told[0], told[1], told[2], told[3]),
            non_local=dims,
        )
        self.fast = ResNet3d(
            3, dims.fast_width, dims.fast_taps, bottleneck=dims.bottleneck, stem=dims.fast_stem
        )

        def lateral(channels: int) -> nn.Module:
            taps, stride = (dims.fusion, 1, 1), (dims.alpha, 1, 1)
            if dims.lateral_norm:
                return ConvBN(channels, 2 * channels, taps, stride)
            return nn.Conv3d(channels, 2 * channels, taps, stride, (dims.fusion // 2, 0, 0), bias=False)

        self.lateral = nn.ModuleList(lateral(channels // 2) for channels in told)
        self.fc = nn.Linear(self.slow.outputs + self.fast.outputs, dims.classes)

    def paths(self, clip: Tensor, slow: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The last maps of both, (N, C, T', h, w). `slow` gives frames other than those of the clip."""
        if slow is None:
            slow = clip[:, self.slow_frames(clip.shape[1])]
        x, fast = (tensor.transpose(1, 2).contiguous() for tensor in (slow, clip))
        x = self.slow.maxpool(self.slow.conv1(x))
        fast = self.fast.maxpool(self.fast.conv1(fast))
        for stage, lateral in enumerate(self.lateral, start=1):
            x = torch.cat([x, lateral(fast)], 1)
            x, fast = getattr(self.slow, f"layer{stage}")(x), getattr(self.fast, f"layer{stage}")(fast)
        return x, fast

    def slow_frames(self, frames: int) -> list[int]:
        """Indices of the slow path's frames among those of a clip."""
        if not self.even:
            return list(range(0, frames, self.alpha))
        count = frames // self.alpha
        # linspace from the first to the last, cut to whole numbers.
        return [k * (frames - 1) // max(count - 1, 1) for k in range(count)]

    def maps(self, clip: Tensor) -> Tensor:
        """The slow path's, (N, T / alpha, C, h, w): where the network looks."""
        return self.paths(clip)[0].transpose(1, 2)

    def features(self, clip: Tensor) -> Tensor:
        """(N, D) pooled over space and time."""
        return self._pooled(self.paths(clip))

    def scores(self, clip: Tensor, slow: Tensor | None = None) -> Tensor:
        scores: Tensor = self.fc(self._pooled(self.paths(clip, slow)))
        return scores[:, None]

    def _pooled(self, paths: tuple[Tensor, Tensor]) -> Tensor:
        order = paths[:: -1 if self.fast_first else 1]
        return torch.cat([path.mean((2, 3, 4)) for path in order], 1)
