"""The clips of the comparison, made once and kept in memory, and their optical flow.

Shape letters: N clips, L frames of a clip, M and S sides of the picture as it is made and as it is seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vpipe.comparison.labels import LABELS, THEN, mirrored, upside_down
from vpipe.comparison.plan import FLOW, FPS, FRAMES, MADE_PX, SIZE_PX, STORAGE
from vpipe.flow.methods import FlowFrame, flow_between
from vpipe.synth.motion import Wobble
from vpipe.synth.scene import Look, random_scene
from vpipe.synth.textures import TexturePool
from vpipe.training.recipe import Recipe

STOCK = 48  # textures that CLIPS_PER_STOCK clips share: a new texture costs more than a clip
CLIPS_PER_STOCK = 800
START_S = 0.5  # the latest start of a clip in its shot
BRIGHTNESS, CONTRAST = 118.0, 55.0  # mean and standard deviation of the pixels of every clip
MOST_GAIN = 12.0
TURN = (0.35, 0.65)  # when a motion turns back, as a share of the clip

# Without the faults of a recording, so that little training does.
PLAIN = Look(blur_px=0, streak_px=0, streak_angle=0, noise=0, gain=1, offset=0, flicker=Wobble())

Pictures = npt.NDArray[np.uint8]
Done = Callable[[int], None]


@dataclass(frozen=True)
class Clips:
    """`frames` uint8 RGB (N, L, M, M, 3) and the number of each clip's label, int64 (N,)."""

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
    frames = np.empty((count, length, MADE_PX, MADE_PX, 3), np.uint8)
    pool = TexturePool()
    for i in range(count):
        if i % CLIPS_PER_STOCK == 0:
            stock = np.random.default_rng([*seed, 1, i])
            pool = TexturePool(stock=min(STOCK, count - i), stock_rng=stock)
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
    scene = replace(scene, look=PLAIN)
    if turns:
        turn = (length - 1) * float(rng.uniform(*TURN))
        steps = turn - np.abs(steps - turn)
    for frame, step in zip(frames, steps, strict=True):
        frame[:] = scene.render(start + step / float(FPS), MADE_PX, MADE_PX)
    gain = min(CONTRAST / max(float(frames.std()), 1e-3), MOST_GAIN)
    frames[:] = np.clip((frames.astype(np.float32) - frames.mean()) * gain + BRIGHTNESS, 0, 255)


def flow_codes(clips: Clips, *, jobs: int = 1, done: Done | None = None) -> Pictures:
    """TV-L1 flow between neighbouring frames as the cache stores it: (N, L - 1, 2, M, M) uint8 codes."""
    count, length = clips.frames.shape[:2]
    codes = np.empty((count, length - 1, 2, MADE_PX, MADE_PX), np.uint8)

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
    """Training batches by number: clips drawn at random, each cut, turned and recoloured at random.

    `inputs` are frames, uint8 (N, T, M, M, 3), or flow codes, uint8 (N, T, 2, M, M). Batch i depends on the
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
        turns = [Turn.random(rng) for _ in chosen]
        clips = np.stack([turn.of(self.inputs[i][self.take]) for turn, i in zip(turns, chosen, strict=True)])
        labels = [turn.label(int(self.labels[i])) for turn, i in zip(turns, chosen, strict=True)]
        return clips, np.eye(len(LABELS), dtype=np.float32)[labels]


@dataclass(frozen=True)
class Turn:
    """What is cut from a clip, mirrored and upside down or not; and its colours, which flow does not have."""

    left: int = (MADE_PX - SIZE_PX) // 2
    top: int = (MADE_PX - SIZE_PX) // 2
    left_right: bool = False
    up_down: bool = False
    negative: bool = False
    channels: tuple[int, ...] = (0, 1, 2)

    @classmethod
    def random(cls, rng: np.random.Generator) -> Turn:
        left, top = rng.integers(MADE_PX - SIZE_PX + 1, size=2)
        left_right, up_down, negative = rng.random(3) < 0.5
        channels = tuple(int(channel) for channel in rng.permutation(3))
        return cls(int(left), int(top), bool(left_right), bool(up_down), bool(negative), channels)

    def of(self, clip: Pictures) -> npt.NDArray[Any]:
        """Frames uint8 (..., M, M, 3) -> (..., S, S, 3); flow codes (..., 2, M, M) -> px (..., 2, S, S)."""
        rows = slice(self.top, self.top + SIZE_PX)
        columns = slice(self.left, self.left + SIZE_PX)
        x, y = -1 if self.left_right else 1, -1 if self.up_down else 1
        if clip.shape[-1] == 3:
            frames = clip[..., rows, columns, :][..., ::y, ::x, list(self.channels)]
            return 255 - frames if self.negative else frames
        flow = STORAGE.dequantise(np.ascontiguousarray(clip[..., rows, columns]))[..., ::y, ::x]
        return flow * np.array([x, y], np.float32)[:, None, None]  # vectors turn with the picture

    def label(self, number: int) -> int:
        """Of the turned clip."""
        number = int(_MIRRORED[number]) if self.left_right else number
        return int(_UPSIDE_DOWN[number]) if self.up_down else number


MIDDLE = Turn()
