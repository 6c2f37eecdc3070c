"""What the structured temporal pyramid learns from (SSN, sections 3.3 and 3.5).

Proposals are drawn round the truth: foreground overlaps a segment by more than FOREGROUND, an incomplete one
lies mostly within a segment but is less than INCOMPLETE of it, background touches next to nothing. They are
drawn 1 : 6 : 1.

    truth          [==================]
    foreground    [===================]  [=================]
    incomplete        [====]   [=====]
    background                            [=====]
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, smooth_l1_loss

from vpipe.detection.heads.stpp import STPP

FOREGROUND = 0.7  # tIoU, at least
INCOMPLETE = 0.3  # tIoU, at most, of proposals that lie within a segment
BACKGROUND = 0.01  # tIoU, at most
INCOMPLETE_SHARE = 6  # for each foreground and each background
HARDEST = 0.17  # of the incomplete ones, those with the largest loss count (OHEM)
COMPLETENESS_WEIGHT = 0.1
REGRESSION_WEIGHT = 0.1
JITTER = 0.12  # of both ends of foreground, standard deviation in lengths of the segment
DRAWS = 4  # foreground for each segment


@dataclass(frozen=True)
class Proposals:
    """Runs (P, 2) in positions, foreground first, then incomplete, then background."""

    runs: np.ndarray  # float64
    labels: np.ndarray  # (foreground + incomplete,) int64
    foreground: int
    incomplete: int
    targets: np.ndarray  # (foreground, 2): shift of the centre over the length, logarithm of the lengths

    @classmethod
    def draw(cls, runs: np.ndarray, labels: np.ndarray, length: int, rng: np.random.Generator) -> Proposals:
        """From the truth of one video of `length` snippets: runs (A, 2) and labels (A,)."""
        truth = np.repeat(runs, DRAWS, axis=0)
        span = np.diff(truth, axis=1)
        near = np.clip(truth + rng.normal(0, JITTER, truth.shape) * span, 0, length)
        good = overlap(near, truth) > FOREGROUND
        near, whole, near_labels = near[good], truth[good], np.repeat(labels, DRAWS)[good]
        lengths = np.diff(near, axis=1)[:, 0], np.diff(whole, axis=1)[:, 0]
        shift = (whole.mean(1) - near.mean(1)) / lengths[0]
        targets = np.stack([shift, np.log(lengths[1] / lengths[0])], 1)

        truth = np.repeat(runs, DRAWS * INCOMPLETE_SHARE, axis=0)
        span = np.diff(truth, axis=1)[:, 0]
        share = rng.uniform(0.05, INCOMPLETE, len(truth))
        start = truth[:, 0] + rng.uniform(0, 1, len(truth)) * span * (1 - share)
        parts = np.stack([start, start + share * span], 1)
        # Others reach out of the segment: much too long, which is as incomplete.
        long = rng.random(len(truth)) < 0.25
        factor = rng.uniform(1 / INCOMPLETE, 2 / INCOMPLETE, len(truth))
        begin = truth[:, 0] - rng.uniform(0, 1, len(truth)) * span * (factor - 1)
        parts = np.where(long[:, None], np.stack([begin, begin + factor * span], 1), parts)
        parts = np.clip(parts, 0, length)
        few = (overlap(parts, truth) < INCOMPLETE) & (parts[:, 1] - parts[:, 0] > 1e-3)
        part_labels = np.repeat(labels, DRAWS * INCOMPLETE_SHARE)[few]
        parts = parts[few]

        count = max(4, len(runs) * DRAWS)
        size = np.minimum(np.exp(rng.uniform(np.log(2), np.log(max(3, length)), 4 * count)), length)
        start = rng.uniform(0, 1, 4 * count) * (length - size)
        free = np.stack([start, start + size], 1)
        if len(runs):
            pairs = overlap(free[:, None], runs[None])
            free = free[pairs.max(1) < BACKGROUND]
        free = free[:count]
        return cls(
            np.concatenate([near, parts, free]),
            np.concatenate([near_labels, part_labels]),
            len(near),
            len(parts),
            targets,
        )


def overlap(runs: np.ndarray, others: np.ndarray) -> np.ndarray:
    """tIoU of runs (..., 2), element by element."""
    both = np.minimum(runs[..., 1], others[..., 1]) - np.maximum(runs[..., 0], others[..., 0])
    both = np.maximum(both, 0)
    union = (runs[..., 1] - runs[..., 0]) + (others[..., 1] - others[..., 0]) - both
    return np.asarray(both / np.maximum(union, 1e-9))


def stpp_loss(network: STPP, features: Tensor, snippets: Tensor, proposals: Proposals) -> Tensor:
    """Of one video: features (T, C), the label of each snippet (T,), and its proposals.

    Snippet scores and activity by cross entropy, completeness by the hinge with its hardest incomplete ones,
    boundaries by smooth L1.
    """
    maps = network.maps(features)
    loss = cross_entropy(network.snippet(network.dropout(maps)), snippets)
    if not len(proposals.runs):
        return loss
    judged = network.judge(maps, torch.from_numpy(proposals.runs).to(maps.device))
    full, part = proposals.foreground, proposals.incomplete
    labels = torch.from_numpy(proposals.labels).to(maps.device)
    background = network.dims.classes - 1
    # An incomplete one is judged by the hinge alone: it is of the activity, but not all of it.
    chosen = torch.cat([judged.activity[:full], judged.activity[full + part :]])
    wanted = torch.cat([labels[:full], labels.new_full((len(chosen) - full,), background)])
    if len(chosen):
        loss = loss + cross_entropy(chosen, wanted)
    if not full:
        return loss
    complete = judged.completeness[torch.arange(full + part), labels]
    positive = torch.relu(1 - complete[:full])
    negative = torch.relu(1 + complete[full:])
    hardest = negative.sort(descending=True).values[: max(1, int(HARDEST * part))] if part else negative
    hinge = (positive.sum() + hardest.sum()) / (full + len(hardest))
    targets = torch.from_numpy(proposals.targets).float().to(maps.device)
    aim = (targets - network.target_mean) / network.target_std
    moves = judged.regression[torch.arange(full), labels[:full]]
    scaled = (moves - network.target_mean) / network.target_std
    return loss + COMPLETENESS_WEIGHT * hinge + REGRESSION_WEIGHT * smooth_l1_loss(scaled, aim)
