"""The clips of the comparison and their optical flow.

Shape letters: N clips, L frames of a clip, M side of the picture as it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import cv2
import numpy as np
import numpy.typing as npt

from vpipe.comparison.labels import LABELS, THEN
from vpipe.comparison.plan import FLOW, FPS, FRAMES, MADE_PX, STORAGE
from vpipe.comparison.workers import Workers
from vpipe.flow.methods import FlowFrame, flow_between
from vpipe.synth.motion import Wobble
from vpipe.synth.scene import Look, random_scene
from vpipe.synth.textures import TexturePool

STOCK = 24  # textures that CLIPS_PER_STOCK clips share: a new texture costs more than a clip
CLIPS_PER_STOCK = 200
CLIPS_PER_FLOW = 40  # whose flow a process computes at a time
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
    workers: Workers,
    *,
    names: Sequence[str] = LABELS,
    length: int = FRAMES,
    done: Done | None = None,
) -> Clips:
    """`per_label` clips of each label, labels in turn. Clip i depends on the seed and i alone."""
    count = per_label * len(names)
    frames = np.empty((count, length, MADE_PX, MADE_PX, 3), np.uint8)
    blocks = [
        _Block(first, min(first + CLIPS_PER_STOCK, count), tuple(seed), tuple(names), length)
        for first in range(0, count, CLIPS_PER_STOCK)
    ]
    for block, made in zip(blocks, workers.map(_make, blocks), strict=True):
        frames[block.first : block.end] = made
        if done:
            done(block.end)
    labels = [LABELS.index(names[i % len(names)]) for i in range(count)]
    return Clips(frames, np.array(labels, np.int64))


@dataclass(frozen=True)
class _Block:
    """Clips that share a stock of textures."""

    first: int
    end: int
    seed: tuple[int, ...]
    names: tuple[str, ...]
    length: int


def _make(block: _Block) -> Pictures:
    cv2.setNumThreads(1)
    stock = np.random.default_rng([*block.seed, 1, block.first])
    pool = TexturePool(stock=min(STOCK, block.end - block.first), stock_rng=stock)
    frames = np.empty((block.end - block.first, block.length, MADE_PX, MADE_PX, 3), np.uint8)
    for i in range(block.first, block.end):
        label = block.names[i % len(block.names)]
        _render(label, np.random.default_rng([*block.seed, 2, i]), pool, frames[i - block.first])
    return frames


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


def flow_codes(clips: Clips, workers: Workers, *, done: Done | None = None) -> Pictures:
    """TV-L1 flow between neighbouring frames as the cache stores it: (N, L - 1, 2, M, M) uint8 codes."""
    count, length = clips.frames.shape[:2]
    codes = np.empty((count, length - 1, 2, MADE_PX, MADE_PX), np.uint8)
    firsts = range(0, count, CLIPS_PER_FLOW)
    parts = [clips.frames[first : first + CLIPS_PER_FLOW] for first in firsts]
    for first, found in zip(firsts, workers.map(_codes, parts), strict=True):
        codes[first : first + len(found)] = found
        if done:
            done(first + len(found))
    return codes


def _codes(clips: Pictures) -> Pictures:
    codes = np.empty((len(clips), clips.shape[1] - 1, 2, MADE_PX, MADE_PX), np.uint8)
    for clip, found in zip(clips, codes, strict=True):
        frames = [FlowFrame(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), FLOW) for frame in clip]
        for k, (before, after) in enumerate(pairwise(frames)):
            found[k] = STORAGE.quantise(flow_between(before, after))
    return codes
