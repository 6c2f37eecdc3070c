"""Batches out of a user's pieces: labels in turn, each piece of a label in turn, a random window of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vpipe.models.weights import StreamSpec
from vpipe.recognition.published import windows as published_windows
from vpipe.training.augment import STILL, blended, jittered, mirrored, random_crop
from vpipe.training.pieces import Piece
from vpipe.training.recipe import Recipe
from vpipe.training.windows import training_window


class OwnClips:
    """Batches by number (see `reading.Batches`). Clip p of all depends on the seed and p alone.

    Every label is seen equally often, however many pieces it has, and every piece of a label before any of
    them again. Batch i is clips i * batch to (i + 1) * batch.
    """

    in_threads = True

    def __init__(
        self, spec: StreamSpec, recipe: Recipe, labels: int, pieces: Sequence[Piece], *, clips: int
    ) -> None:
        self.spec, self.recipe, self.labels, self.clips = spec, recipe, labels, clips
        self._of_label = [[p for p in pieces if p.label == label] for label in range(labels)]

    def __len__(self) -> int:
        return -(-self.clips // self.recipe.batch)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        first = number * self.recipe.batch
        drawn = [self._clip(place) for place in range(first, first + self.recipe.batch)]
        return np.stack([clip for clip, _ in drawn]), np.stack([target for _, target in drawn])

    def describe(self, number: int) -> str:
        """The files of a batch, and where in them its clips begin and end."""
        first = number * self.recipe.batch
        names = []
        for place in range(first, first + self.recipe.batch):
            piece, rng = self._draw(place)
            frames, _ = training_window(piece, self.spec, self.labels, rng, self.recipe.tempo)
            times = piece.video.stored.times_s
            ends = [times[min(frame, len(times) - 1)] for frame in (min(frames), max(frames))]
            names.append(f"{piece.video.path} ({ends[0]:.2f}-{ends[1]:.2f} s)")
        return f"batch {number}: {', '.join(dict.fromkeys(names))}"

    def _draw(self, place: int) -> tuple[Piece, np.random.Generator]:
        seed, count = self.recipe.seed, self.labels
        turn, at = divmod(place, count)
        label = int(np.random.default_rng([seed, 7, turn]).permutation(count)[at])
        pieces = self._of_label[label]
        round_, which = divmod(turn, len(pieces))
        order = np.random.default_rng([seed, 8, label, round_]).permutation(len(pieces))
        return pieces[int(order[which])], np.random.default_rng([seed, 9, place])

    def _clip(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        recipe = self.recipe
        piece, rng = self._draw(place)
        clip, target = self._window(piece, rng)
        if recipe.still and self.spec.modality == "rgb" and rng.random() < recipe.still:
            # A picture that says nothing of the label, so that pictures say less of it (Wang et al. 2021,
            # "Removing the Background by Adding the Background").
            over, _ = self._window(self._any(rng), rng)
            clip = blended(clip, over[int(rng.integers(len(over)))], float(rng.uniform(*STILL)))
        if recipe.mixup and rng.random() < recipe.mixup:  # Zhang et al. 2018
            other, second = self._window(self._any(rng), rng)
            weight = float(rng.beta(0.4, 0.4))
            clip, target = blended(clip, other, weight), (1 - weight) * target + weight * second
        return as_input(clip, self.spec), target

    def _any(self, rng: np.random.Generator) -> Piece:
        pieces = self._of_label[int(rng.integers(self.labels))]
        return pieces[int(rng.integers(len(pieces)))]

    def _window(self, piece: Piece, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A random window of a piece, cropped and changed, and its target."""
        frames, target = training_window(piece, self.spec, self.labels, rng, self.recipe.tempo)
        clip = piece.video.read(frames)
        if self.spec.convention is not None:
            clip = random_crop(clip, self.spec.size, self.recipe.crops, rng)
        clip = jittered(clip, rng, self.recipe.jitter)
        return mirrored(clip) if self.recipe.flip and rng.random() < 0.5 else clip, target


def as_input(clip: np.ndarray, spec: StreamSpec) -> np.ndarray:
    """(T, H, W, C) as the loop takes it: RGB in the model's order of channels, flow as (T, 2, H, W)."""
    if spec.modality == "flow":
        return np.ascontiguousarray(clip.transpose(0, 3, 1, 2))
    if spec.convention is not None and spec.convention.order == "bgr":
        clip = clip[..., ::-1]
    return np.ascontiguousarray(clip)


def centred(clip: np.ndarray, spec: StreamSpec) -> np.ndarray:
    """What `vpipe classify` cuts out of a clip with one crop."""
    if spec.convention is None:
        return clip
    return next(published_windows(clip, spec.size, 1, spec.convention)).inputs
