"""Parts of the published networks: convolution with batch norm, work over time, and what all networks share.

Shape letters: N clips, T frames of a clip, S places in time that a network scores, C channels, H, W, and
B = N*T where frames go through 2-D layers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

FEW_CHANNELS = 16  # fewer than the block of the widest oneDNN kernel


class ThinnedConv2d(nn.Conv2d):
    """A strided 1x1 convolution that is given only the pixels it takes: the same result.

    Of fewer channels than a block of its kernel, oneDNN writes beyond its memory in the gradient of the
    weights (channels last, x86 without AVX-512; uxlfoundation/oneDNN issue 6035, torch 2.13).
    """

    def forward(self, x: Tensor) -> Tensor:
        (down, across), layout = self.stride, torch.channels_last
        thinned = x[:, :, ::down, ::across].contiguous(memory_format=layout)
        return nn.functional.conv2d(thinned, self.weight, self.bias, groups=self.groups)


def conv2d(
    inputs: int, outputs: int, kernel: int, stride: int = 1, padding: int = 0, *, groups: int = 1, bias: bool
) -> nn.Conv2d:
    """nn.Conv2d, in a form that is safe to train."""
    thin = kernel == 1 and stride > 1 and padding == 0 and inputs < FEW_CHANNELS
    return (ThinnedConv2d if thin else nn.Conv2d)(
        inputs, outputs, kernel, stride, padding, groups=groups, bias=bias
    )


class ConvBN(nn.Module):
    """Convolution, batch norm, and ReLU unless `relu` is False; 3-D where `kernel` has three sizes.

    Padding keeps the picture's size at stride 1 unless it is given. `most` cuts the ReLU off above it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int, int],
        stride: int | tuple[int, int, int] = 1,
        *,
        padding: int | tuple[int, int, int] | None = None,
        groups: int = 1,
        bias: bool = False,
        relu: bool = True,
        most: float | None = None,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.relu, self.most = relu, most
        if isinstance(kernel, int):
            space = kernel // 2 if padding is None else padding
            assert isinstance(stride, int)
            assert isinstance(space, int)
            self.conv: nn.Module = conv2d(inputs, outputs, kernel, stride, space, groups=groups, bias=bias)
            self.bn: nn.Module = nn.BatchNorm2d(outputs, eps)
        else:
            three = tuple(size // 2 for size in kernel) if padding is None else padding
            self.conv = nn.Conv3d(inputs, outputs, kernel, stride, three, 1, groups, bias)  # type: ignore[arg-type]
            self.bn = nn.BatchNorm3d(outputs, eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        if not self.relu:
            return x
        return torch.relu_(x) if self.most is None else torch.clamp(x, 0.0, self.most)

    def fold(self) -> None:
        """The batch norm's factor and shift go into the convolution: the same numbers in one pass less."""
        if isinstance(self.bn, nn.Identity):
            return
        self.conv = fuse_conv_bn_eval(self.conv, self.bn)  # type: ignore[type-var,arg-type]
        self.bn = nn.Identity()


def channels_last(network: nn.Module) -> nn.Module:
    """The network itself, its 2-D and 3-D kernels laid out as the inputs are: channels innermost."""
    for parameter in network.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
        elif parameter.ndim == 5:  # which Module.to(memory_format=...) refuses in one go with the others
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return network


class VideoNetwork(nn.Module):
    """A network over clips: feature maps, pooled to features, scored by `fc`, averaged over time.

    A subclass gives `maps`, and `pool` where it is more than a mean over the picture.
    """

    fc: nn.Module
    pooling: torch.dtype | None = None  # of the mean over the picture; None: that of the maps

    def maps(self, clip: Tensor) -> Tensor:
        """(N, T, C, H, W) normalised inputs -> (N, S, C', h, w) last feature maps."""
        raise NotImplementedError

    def pool(self, maps: Tensor) -> Tensor:
        """(N, S, C', h, w) -> (N, S', D) features, before the last linear layer."""
        return maps.mean((3, 4), dtype=self.pooling)

    def scores(self, clip: Tensor) -> Tensor:
        """Logits before consensus, (N, S', classes)."""
        scores: Tensor = self.fc(self.pool(self.maps(clip)))
        return scores

    def features(self, clip: Tensor) -> Tensor:
        """(N, D): the mean of the features over time."""
        return self.pool(self.maps(clip)).mean(1)

    def forward(self, clip: Tensor) -> Tensor:
        """(N, classes) logits: the mean over time of `scores` (segment consensus, TSN section 3.1)."""
        return self.scores(clip).mean(1)


class FrameNetwork(VideoNetwork):
    """A 2-D network over each of `segments` inputs of a clip; `stack` frames or flows make one input."""

    backbone: nn.Module
    segments: int

    def maps(self, clip: Tensor) -> Tensor:
        x = clip.reshape(clip.shape[0] * self.segments, -1, *clip.shape[3:])
        maps: Tensor = self.backbone(x.contiguous(memory_format=torch.channels_last))
        return maps.unflatten(0, (clip.shape[0], -1))


class ClipNetwork(VideoNetwork):
    """A 3-D network: `backbone` takes (N, C, T, H, W) and gives (N, C', S, h, w)."""

    backbone: nn.Module

    def maps(self, clip: Tensor) -> Tensor:
        x = clip.transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)
        maps: Tensor = self.backbone(x)
        return maps.transpose(1, 2)


class TemporalConv(nn.Module):
    """A depthwise convolution of 3 taps over the frames of a clip; zeros beyond its ends.

    weight (C, 1, 3), as nn.Conv1d has it. x (N*T, C, H, W) -> the same shape.
    """

    def __init__(self, channels: int, frames: int) -> None:
        super().__init__()
        self.frames = frames
        self.weight = nn.Parameter(torch.zeros(channels, 1, 3))
        # Training starts as a temporal shift: an eighth of the channels comes from each side.
        ahead, behind = channels // 8, 2 * (channels // 8)
        with torch.no_grad():
            self.weight[:ahead, :, 2] = self.weight[ahead:behind, :, 0] = self.weight[behind:, :, 1] = 1

    def forward(self, x: Tensor) -> Tensor:
        before, now, after = self.weight.view(-1, 3, 1, 1).unbind(1)
        out = x * now
        clips, sums = (tensor.unflatten(0, (-1, self.frames)) for tensor in (x, out))
        sums[:, 1:].addcmul_(clips[:, :-1], before)
        sums[:, :-1].addcmul_(clips[:, 1:], after)
        return out


def next_minus_this(later: Tensor, now: Tensor, frames: int) -> Tensor:
    """later[t + 1] - now[t] for the frames of each clip, zero for the last. (N*T, C, H, W) both and back."""
    step = later.unflatten(0, (-1, frames))[:, 1:] - now.unflatten(0, (-1, frames))[:, :-1]
    return torch.cat([step, torch.zeros_like(step[:, :1])], 1).flatten(0, 1)
