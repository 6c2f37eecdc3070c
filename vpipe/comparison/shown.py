"""What networks are shown of the clips: batches cut, turned and recoloured at random, on the device itself.

Shape letters: B clips of a batch, T inputs of a clip, M and S sides of the picture as made and as seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from vpipe.comparison.labels import LABELS, mirrored, upside_down
from vpipe.comparison.plan import MADE_PX, SIZE_PX, STORAGE
from vpipe.training.recipe import Recipe

_MIRRORED = np.array([LABELS.index(mirrored(label)) for label in LABELS])
_UPSIDE_DOWN = np.array([LABELS.index(upside_down(label)) for label in LABELS])
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Turns:
    """What is cut from each clip of a batch, mirrored and upside down or not; and its colours, where there
    are any."""

    left: Numbers  # (B,)
    top: Numbers
    left_right: Flags
    up_down: Flags
    negative: Flags
    channels: Numbers  # (B, 3)

    @classmethod
    def none(cls, count: int) -> Turns:
        """The middle of the picture as it is."""
        middle, no = np.full(count, (MADE_PX - SIZE_PX) // 2), np.zeros(count, bool)
        return cls(middle, middle, no, no, no, np.tile(np.arange(3), (count, 1)))

    @classmethod
    def random(cls, rng: np.random.Generator, count: int) -> Turns:
        left, top = rng.integers(MADE_PX - SIZE_PX + 1, size=(2, count))
        left_right, up_down, negative = rng.random((3, count)) < 0.5
        channels = rng.permuted(np.tile(np.arange(3), (count, 1)), axis=1)
        return cls(left, top, left_right, up_down, negative, channels)

    def of(self, inputs: Tensor, chosen: Numbers, take: Sequence[int]) -> Tensor:
        """Inputs `take` of the clips `chosen`: uint8 frames (N, T', M, M, 3) -> (B, T, S, S, 3); uint8 flow
        codes (N, T', 2, M, M) -> float32 px (B, T, 2, S, S)."""

        def along(values: npt.NDArray[np.generic], *axes: int, of: int = 5) -> Tensor:
            """On the device, with these axes of `of`."""
            found = torch.as_tensor(values, device=inputs.device)
            return found[tuple(slice(None) if axis in axes else None for axis in range(of))]

        frames = inputs.shape[-1] == 3
        planes = inputs[:, :, None].flatten(4) if frames else inputs  # N, T', planes, M, row
        rows = along(_places(self.top, self.up_down), 0, 3, of=4)
        every = along(np.arange(planes.shape[2]), 2, of=4)
        lines = planes[along(chosen, 0, of=4), along(np.asarray(take), 1, of=4), every, rows]
        columns = _places(self.left, self.left_right)
        if frames:
            columns = (columns[:, :, None] * 3 + self.channels[:, None]).reshape(len(columns), -1)
        seen = lines.gather(4, along(columns, 0, 4).expand(*lines.shape[:4], -1))
        if frames:
            turned_over = np.where(self.negative, 255, 0).astype(np.uint8)
            return seen[:, :, 0].unflatten(3, (-1, 3)) ^ along(turned_over, 0)
        signs = 1 - 2 * np.stack([self.left_right, self.up_down], 1)  # vectors turn with the picture
        return (seen.float() - STORAGE.zero) * STORAGE.scale * along(signs.astype(np.float32), 0, 2)

    def labels(self, numbers: Numbers) -> Numbers:
        """Of the turned clips."""
        numbers = np.where(self.left_right, _MIRRORED[numbers], numbers)
        return np.where(self.up_down, _UPSIDE_DOWN[numbers], numbers)


def _places(first: Numbers, backwards: Flags) -> Numbers:
    """Rows or columns of the picture that are seen, (B, S)."""
    steps = np.arange(SIZE_PX)
    return first[:, None] + np.where(backwards[:, None], steps[::-1], steps)


class Shown:
    """Training batches by number: clips drawn at random, each cut, turned and recoloured at random.

    `inputs` are frames, uint8 (N, T', M, M, 3), or flow codes, uint8 (N, T', 2, M, M), on the device where
    they are wanted. Batch i depends on the recipe's seed and i alone, so every network sees the same clips in
    the same order.
    """

    def __init__(self, inputs: Tensor, labels: Numbers, recipe: Recipe, take: Sequence[int]) -> None:
        self.inputs, self.labels, self.recipe, self.take = inputs, labels, recipe, tuple(take)

    def __len__(self) -> int:
        return -(-self.recipe.clips // self.recipe.batch)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Clips uint8 (B, T, S, S, 3) or float32 flow in px (B, T, 2, S, S), targets (B, classes)."""
        rng = np.random.default_rng([self.recipe.seed, 3, number])
        chosen = rng.integers(len(self.labels), size=self.recipe.batch)
        turns = Turns.random(rng, len(chosen))
        targets = np.eye(len(LABELS), dtype=np.float32)[turns.labels(self.labels[chosen])]
        return turns.of(self.inputs, chosen, self.take), torch.from_numpy(targets)
