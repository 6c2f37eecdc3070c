"""A temporal stream that takes the camera's motion apart from the rest.

Each flow is fitted with an affine motion, robustly, so that moving subjects count little (Odobez and
Bouthemy, "Robust multiresolution estimation of parametric motion models", 1995). A 2-D network sees the stack
of flows, as in Simonyan and Zisserman (2014), beside what the affine motions leave of them; a small network
sees the affine motions themselves over time.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.models.blocks import small_backbone
from vpipe.models.registry import register

PLACES = 24  # the fit looks at means over a grid of this many places a side
ROUNDS = 3  # of reweighting
STATISTICS = 8  # of one flow: six of the affine motion, mean and largest of what is left


@dataclass(frozen=True)
class AffineTSNDims:
    classes: int
    frames: int  # flows of a clip
    channels: int = 2
    widths: tuple[int, ...] = (32, 64, 128, 192)
    hidden: int = 128  # of the network that sees the affine motions
    dropout: float = 0.2

    def __post_init__(self) -> None:
        if self.channels != 2:
            raise ValueError("channels is 2: the motion to the right and down")


@register("tsn-affine")
class AffineTSN(nn.Module):
    """(N, T, 2, H, W) flow in px -> (N, classes) logits."""

    def __init__(self, dims: AffineTSNDims) -> None:
        super().__init__()
        self.dims = dims
        self.backbone = small_backbone(2 * dims.channels * dims.frames, dims.widths)
        self.camera = nn.Sequential(
            nn.Linear(STATISTICS * dims.frames, dims.hidden),
            nn.BatchNorm1d(dims.hidden),
            nn.ReLU(inplace=True),
            nn.Linear(dims.hidden, dims.hidden // 2),
            nn.BatchNorm1d(dims.hidden // 2),
            nn.ReLU(inplace=True),
        )
        self.dropout = nn.Dropout(dims.dropout)
        self.fc = nn.Linear(2 * dims.widths[-1] + dims.hidden // 2, dims.classes)

    def forward(self, clip: Tensor) -> Tensor:
        x, camera = self._features(clip)
        logits: Tensor = self.fc(self.dropout(torch.cat([x.mean((2, 3)), x.amax((2, 3)), camera], 1)))
        return logits

    def class_activation(self, clip: Tensor) -> Tensor:
        """Where each class is seen: (N, 1, classes, h, w) (Zhou et al. 2016, CAM).

        A cell counts in the maximum in the measure that it reaches it. What the affine motions say is
        everywhere alike.
        """
        x, camera = self._features(clip)
        cells = x[0, 0].numel()
        most = x.amax((2, 3), keepdim=True).clamp_min(1e-6)
        everywhere = camera[..., None, None].expand(-1, -1, *x.shape[2:]) / cells
        seen = torch.cat([x / cells, x * (x / most) ** 4, everywhere], 1)
        return nn.functional.conv2d(seen, self.fc.weight[..., None, None])[:, None]

    def _features(self, clip: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, h, w), and what the affine motions say (N, hidden / 2)."""
        with torch.autocast(clip.device.type, enabled=False):
            motion, rest = affine_motion(clip.float())
            largest = rest.square().sum(2).sqrt().flatten(2)
            numbers = torch.cat([motion, largest.mean(2, keepdim=True), largest.amax(2, keepdim=True)], 2)
            numbers = torch.asinh(4 * numbers).flatten(1).to(clip.dtype)
            # Flows span four orders of magnitude.
            both = torch.asinh(2 * torch.cat([clip.float(), rest], 1)).flatten(1, 2).to(clip.dtype)
        x: Tensor = self.backbone(both.contiguous(memory_format=torch.channels_last))
        return x, self.camera(numbers)


@torch.no_grad()
def affine_motion(flow: Tensor) -> tuple[Tensor, Tensor]:
    """The affine motion of most of the picture, and what it leaves.

    flow float32 (N, T, 2, H, W), px. Returns (N, T, 6), in px: u at the middle, its growth from the middle to
    the right edge and to the lower edge, then the same of v; and flow less that motion, (N, T, 2, H, W).
    """
    count, frames, _, height, width = flow.shape
    small = nn.functional.adaptive_avg_pool2d(flow.flatten(0, 1), (min(PLACES, height), min(PLACES, width)))
    basis = _basis(small.shape[2], small.shape[3], flow)
    points = small.flatten(2)  # B, 2, P
    weights = torch.ones_like(points[:, 0])
    ridge = 1e-4 * torch.eye(3, device=flow.device)
    for _ in range(ROUNDS):
        weighted = weights[:, None] * basis  # B, 3, P
        normal = weighted @ basis.T / basis.shape[1] + ridge
        moments = weighted @ points.transpose(1, 2) / basis.shape[1]  # B, 3, 2
        motion = torch.linalg.solve(normal, moments).transpose(1, 2)  # B, 2, 3
        error = (points - motion @ basis).square().sum(1)
        scale = error.mean(1, keepdim=True) + 1e-3
        weights = (1 + error / scale) ** -2  # Geman and McClure
    fitted = (motion @ _basis(height, width, flow)).view(count, frames, 2, height, width)
    return motion.reshape(count, frames, 6), flow - fitted


def _basis(height: int, width: int, like: Tensor) -> Tensor:
    """1, x and y of every place, -1 to 1 from edge to edge: (3, H * W)."""
    x = (torch.arange(width, device=like.device) * 2 + 1) / width - 1
    y = (torch.arange(height, device=like.device) * 2 + 1) / height - 1
    one = torch.ones(height, width, device=like.device)
    return torch.stack([one, x.expand(height, width), y[:, None].expand(height, width)]).flatten(1)
