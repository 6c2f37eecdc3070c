"""The clips of the comparison, made once and kept in memory, and their optical flow.

Shape letters: N clips, L frames of a clip, S side of the picture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vpipe.comparison.labels import LABELS, THEN, mirrored, upside_down
from vpipe.comparison.plan import FLOW, FPS, FRAMES, SIZE_PX, STORAGE
from vpipe.flow.methods import FlowFrame, flow_between
from vpipe.synth.scene import random_scene
from vpipe.synth.textures import TexturePool
from vpipe.training.recipe import Recipe

STOCK = 48  # textures that CLIPS_PER_STOCK clips share: a new texture costs more than a clip
CLIPS_PER_STOCK = 400
START_S = 0.5  # the latest start of a clip in its shot
TURN = (0.35, 0.65)  # when a motion turns back, as a share of the clip

Pictures = npt.NDArray[np.uint8]
Done = Callable[[int], None]


@dataclass(frozen=True)
class Clips:
    """`frames` uint8 RGB (N, L, S, S, 3) and the number of each clip's label, int64 (N,)."""

    frames: Pictures
    labels: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def of(self, names: Sequence[str]) -> Clips:
        """Those with one of these labels."""
        chosen = np.isin(self.labels, [LABELS.index(name) for name in names])
        return Clips(self.frames[chosen], self.labels[chosen])

    def played(self, order: npt.NDArray[np.int64]) -> Clips:
        """The same clips with these of their frames, (L',) or for each clip its own (N, L')."""
        orders = np.broadcast_to(order, (len(self), order.shape[-1]))
        return Clips(self.frames[np.arange(len(self))[:, None], orders], self.labels)


def make_clips(
    per_label: int,
    seed: Sequence[int],
    *,
    names: Sequence[str] = LABELS,
    length: int = FRAMES,
    done: Done | None = None,
) -> Clips:
    """`per_label` clips of each label, labels in turn. Clip i depends on the seed and i alone."""
    cv2.setNumThreads(1)
    count = per_label * len(names)
    frames = np.empty((count, length, SIZE_PX, SIZE_PX, 3), np.uint8)
    pool = TexturePool()
    for i in range(count):
        if i % CLIPS_PER_STOCK == 0:
            stock = np.random.default_rng([*seed, 1, i])
            pool = TexturePool(stock=min(STOCK, 2 * (count - i)), stock_rng=stock)
        _render(names[i % len(names)], np.random.default_rng([*seed, 2, i]), pool, frames[i])
        if done:
            done(i + 1)
    labels = [LABELS.index(names[i % len(names)]) for i in range(count)]
    return Clips(frames, np.array(labels, np.int64))


def _render(label: str, rng: np.random.Generator, pool: TexturePool, frames: Pictures) -> None:
    first, turns = label.partition(THEN)[::2]
    length = len(frames)
    steps = np.arange(length, dtype=float)
    start = float(rng.uniform(0, START_S))
    scene = random_scene(first, rng, pool, aspect=1.0, duration_s=START_S + length / float(FPS))
    if turns:
        turn = (length - 1) * float(rng.uniform(*TURN))
        steps = turn - np.abs(steps - turn)
    for frame, step in zip(frames, steps, strict=True):
        frame[:] = scene.render(start + step / float(FPS), SIZE_PX, SIZE_PX)


def flow_codes(clips: Clips, *, jobs: int = 1, done: Done | None = None) -> Pictures:
    """TV-L1 flow between neighbouring frames as the cache stores it: (N, L - 1, 2, S, S) uint8 codes."""
    count, length = clips.frames.shape[:2]
    codes = np.empty((count, length - 1, 2, SIZE_PX, SIZE_PX), np.uint8)

    def compute(i: int) -> None:
        frames = [FlowFrame(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), FLOW) for frame in clips.frames[i]]
        for k in range(length - 1):
            codes[i, k] = STORAGE.quantise(flow_between(frames[k], frames[k + 1]))

    with ThreadPoolExecutor(jobs) as pool:  # the kernels release the GIL
        for i, _ in enumerate(pool.map(compute, range(count))):
            if done:
                done(i + 1)
    return codes


_MIRRORED = np.array([LABELS.index(mirrored(label)) for label in LABELS])
_UPSIDE_DOWN = np.array([LABELS.index(upside_down(label)) for label in LABELS])


class Shown:
    """Training batches by number: clips drawn at random, half of them mirrored, half upside down.

    `inputs` are frames, uint8 (N, T, S, S, 3), or flow codes, uint8 (N, T, 2, S, S). Batch i depends on the
    recipe's seed and i alone, so every network sees the same clips in the same order.
    """

    def __init__(
        self, inputs: Pictures, labels: npt.NDArray[np.int64], recipe: Recipe, take: Sequence[int]
    ) -> None:
        self.inputs, self.labels, self.recipe, self.take = inputs, labels, recipe, list(take)

    def __len__(self) -> int:
        return -(-self.recipe.clips // self.recipe.batch)

    def __getitem__(self, number: int) -> tuple[npt.NDArray[Any], npt.NDArray[np.float32]]:
        """Clips uint8 (N, T, S, S, 3) or float32 flow in px (N, T, 2, S, S), targets (N, classes)."""
        rng = np.random.default_rng([self.recipe.seed, 3, number])
        chosen = rng.integers(len(self.labels), size=self.recipe.batch)
        flips = rng.random((2, self.recipe.batch)) < 0.5
        labels = self.labels[chosen]
        labels = np.where(flips[0], _MIRRORED[labels], labels)
        labels = np.where(flips[1], _UPSIDE_DOWN[labels], labels)
        batch = np.ascontiguousarray(self.inputs[chosen][:, self.take])
        shown = batch if batch.shape[-1] == 3 else STORAGE.dequantise(batch)
        for i, (left_right, up_down) in enumerate(flips.T):
            shown[i] = flipped(shown[i], bool(left_right), bool(up_down))
        return shown, np.eye(len(LABELS), dtype=np.float32)[labels]


def flipped(clip: npt.NDArray[Any], left_right: bool, up_down: bool) -> npt.NDArray[Any]:
    """Frames (T, S, S, 3), or flow (T, 2, S, S) whose vectors turn with the picture."""
    if clip.shape[-1] == 3:
        return clip[:, :: -1 if up_down else 1, :: -1 if left_right else 1]
    signs = np.array([-1 if left_right else 1, -1 if up_down else 1], clip.dtype)[:, None, None]
    return clip[:, :, :: -1 if up_down else 1, :: -1 if left_right else 1] * signs
