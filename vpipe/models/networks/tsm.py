"""TSM: a 2-D residual network whose residual branches see channels of the frames before and after.

Lin, Gan and Han, "TSM: Temporal Shift Module for Efficient Video Understanding", 2019, sections 3 and 4; with
the non-local blocks of Wang et al. 2018 (section 3) and temporal pooling where a checkpoint has them.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vpipe.models.blocks import temporal_shift
from vpipe.models.non_local import NonLocal, NonLocalDims
from vpipe.models.registry import register
from vpipe.models.resnet import BasicBlock, Bottleneck, FrameResNet, FrameResNetDims


@dataclass(frozen=True)
class TSMDims(FrameResNetDims, NonLocalDims):
    bottleneck: bool = True
    share: int = 8  # one of `share` parts of the channels goes each way
    every: int = 1  # shift in every block, or in every second (the reference's ResNet-101)
    whole_block: bool = False  # shift before the identity path too ("in-place shift", section 4.1)
    pool: str = "none"  # "max": half the frames from stage 2 on; "halves": see below


class Shift(nn.Module):
    """x (N*T, C, H, W): C / share channels from the next frame, as many from the one before."""

    def __init__(self, frames: int, share: int) -> None:
        super().__init__()
        self.frames, self.share = frames, share

    def forward(self, x: Tensor) -> Tensor:
        return temporal_shift(x, self.frames, self.share)


class FramesNonLocal(NonLocal):
    """A non-local block over the frames of each clip. (N*T, C, H, W) -> the same shape."""

    def __init__(self, channels: int, frames: int, dims: NonLocalDims) -> None:
        super().__init__(channels, dims)
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        clip = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        return super().forward(clip).transpose(1, 2).flatten(0, 1)


class TemporalPool(nn.Module):
    """Half the frames: the maximum of three, at every second one. (N*T, C, H, W) -> (N*T/2, C, H, W)."""

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        clip = x.unflatten(0, (-1, self.frames)).transpose(1, 2)
        pooled = nn.functional.max_pool3d(clip, (3, 1, 1), (2, 1, 1), (1, 0, 0))
        return pooled.transpose(1, 2).flatten(0, 1)


@register("tsm")
class TSM(FrameResNet):
    """(N, segments * stack, C, H, W) normalised inputs -> (N, classes) logits."""

    def __init__(self, dims: TSMDims) -> None:
        if dims.pool not in ("none", "max", "halves"):
            raise ValueError(f"pool is none, max or halves, not {dims.pool!r}")
        if min(dims.segments, dims.share, dims.every) < 1:
            raise ValueError("segments, share and every are at least 1")
        kind = Bottleneck if dims.bottleneck else BasicBlock

        def block(inputs: int, planes: int, stride: int, stage: int, place: int) -> nn.Module:
            # "halves" is what the reference's network class does when its separate pooling step is left out:
            # frames stay, and from stage 2 on the two halves of the clip do not see each other.
            frames = dims.segments if dims.pool == "none" or not stage else dims.segments // 2
            shift = None if place % dims.every else Shift(frames, dims.share)
            after = None
            if place in dims.non_local[stage]:
                after = FramesNonLocal(planes * kind.expansion, frames, dims)
            if not dims.whole_block:
                return kind(inputs, planes, stride, enter=shift, after=after)
            whole = kind(inputs, planes, stride, after=after)
            return nn.Sequential(shift, whole) if shift else whole

        super().__init__(dims, block, kind.expansion)
        if dims.pool == "max":
            self.backbone.layer1.append(TemporalPool(dims.segments))
