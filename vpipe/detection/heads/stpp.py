"""SSN's structured temporal pyramid: is it this action, is it all of it, and where does it really begin.

Zhao et al., "Temporal Action Detection with Structured Segment Networks", 2017, section 3. A proposal [s, e)
of length d is seen as

    starting  [s - d/2, s)      course  [s, e), and its two halves      ending  [e, e + d/2)

each part averaged over what lies inside the video, and the outer ones scaled by how much of them that is. As
the backbone is not trained with the head, a few dilated convolutions over the features take the part of what
fine-tuning it would give; they also score snippets, from which proposals are grouped (TAG).

Letters in shapes: T snippets, C channels, M maps, P proposals, K labels without the background. Positions are
those of `vpipe.detection.detector`: snippet i covers [i, i + 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vpipe.detection.heads.temporal import DilatedResidual, Standardise

PARTS = 5  # starting, course, its halves, ending
COURSE = slice(1, 4)


@dataclass(frozen=True)
class STPPDims:
    channels: int
    classes: int  # labels, the background, the last, among them
    maps: int = 128
    layers: int = 3
    dropout: float = 0.5

    def __post_init__(self) -> None:
        for name, most in (("channels", 65536), ("classes", 65536), ("maps", 2048), ("layers", 12)):
            if not 1 <= getattr(self, name) <= most:
                raise ValueError(f"{name} is 1 to {most}")
        if self.classes < 2 or not 0 <= self.dropout < 1:
            raise ValueError("classes is at least 2, dropout 0 to 1")


@dataclass(frozen=True)
class Judged:
    """What the head says of P proposals."""

    activity: Tensor  # (P, K + 1) logits, the background last
    completeness: Tensor  # (P, K)
    regression: Tensor  # (P, K, 2): shift of the centre in lengths, logarithm of the change of length


class STPP(nn.Module):
    """Snippet scores and judgements of proposals from the features of one video."""

    target_mean: Tensor
    target_std: Tensor

    def __init__(self, dims: STPPDims) -> None:
        super().__init__()
        self.dims = dims
        labels = dims.classes - 1
        self.standardise = Standardise(dims.channels)
        self.enter = nn.Conv1d(dims.channels, dims.maps, 1)
        self.layers = nn.Sequential(
            *(DilatedResidual(dims.maps, 2**place, dims.dropout) for place in range(dims.layers))
        )
        self.snippet = nn.Linear(dims.maps, dims.classes)
        self.dropout = nn.Dropout(dims.dropout)
        self.activity = nn.Linear(dims.maps * 3, dims.classes)
        self.completeness = nn.Linear(dims.maps * PARTS, labels)
        self.regression = nn.Linear(dims.maps * PARTS, labels * 2)
        self.register_buffer("target_mean", torch.zeros(2))  # of regression targets in training
        self.register_buffer("target_std", torch.ones(2))

    def maps(self, features: Tensor) -> Tensor:
        """(T, C) features -> (T, M)."""
        x = self.standardise(features.t()[None])
        maps: Tensor = torch.relu(self.layers(self.enter(x)))[0].t()
        return maps

    @property
    def reach(self) -> int:
        """How many snippets to either side the maps of a snippet depend on."""
        return int(2**self.dims.layers - 1)

    def judge(self, maps: Tensor, runs: Tensor) -> Judged:
        """Maps (T, M) of a video and its proposals (P, 2), positions."""
        parts = self.dropout(pyramid(maps, runs))  # (P, 5, M)
        everything = parts.flatten(1)
        moves = self.regression(everything).view(len(runs), -1, 2)
        return Judged(
            self.activity(parts[:, COURSE].flatten(1)),
            self.completeness(everything),
            moves * self.target_std + self.target_mean,
        )


def pyramid(maps: Tensor, runs: Tensor) -> Tensor:
    """(T, M) and runs (P, 2) -> (P, 5, M): means of the parts, the outer two times their share inside."""
    start, end = runs[:, 0], runs[:, 1]
    half, middle = (end - start) / 2, (start + end) / 2
    first = torch.stack([start - half, start, start, middle, end], 1)  # (P, 5)
    last = torch.stack([start, end, middle, end, end + half], 1)
    inside = means(maps, first, last)
    share = (last.clamp(0, len(maps)) - first.clamp(0, len(maps))) / (last - first).clamp_min(1e-6)
    share[:, COURSE] = 1.0
    return inside * share[..., None].to(inside.dtype)


def means(maps: Tensor, first: Tensor, last: Tensor) -> Tensor:
    """Means of (T, M) over [first, last), any shape, clipped to [0, T]: that shape and M; 0 where empty."""
    count = len(maps)
    zero = torch.zeros_like(maps[:1])
    # In double: a sum over hours would eat up what a second adds.
    sums = torch.cat([zero, maps, zero]).double().cumsum(0)

    def up_to(position: Tensor) -> Tensor:
        whole = position.floor().long()
        below, above = sums[whole], sums[whole + 1]
        return below + (position - whole)[..., None] * (above - below)

    low, high = first.double().clamp(0, count), last.double().clamp(0, count)
    length = (high - low).clamp_min(0)
    total = up_to(torch.maximum(low, high)) - up_to(low)
    return torch.where(length[..., None] > 0, total / length.clamp_min(1e-9)[..., None], 0.0).to(maps.dtype)


def moved(runs: Tensor, regression: Tensor) -> Tensor:
    """Runs (P, 2) after (P, 2) shifts of centre and changes of length (equation 5)."""
    length = runs[:, 1] - runs[:, 0]
    centre = runs.mean(1) + regression[:, 0].clamp(-1, 1) * length
    half = length * regression[:, 1].clamp(-1, 1).exp() / 2
    return torch.stack([centre - half, centre + half], 1)
