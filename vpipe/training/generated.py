"""Clips of the motion vocabulary made on the fly: RGB frames, or exact flow made to look like TV-L1's."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from vpipe.errors import UsageError
from vpipe.flow.quantise import Storage
from vpipe.synth.lively import enliven
from vpipe.synth.scene import Scene, random_scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import LABELS
from vpipe.training.degrade import h264, jpeg, like_tvl1
from vpipe.training.recipe import Recipe

ASPECTS = (4 / 3, 4 / 3, 16 / 9, 16 / 9, 1.85, 1.0, 3 / 4, 9 / 16)
RATES = (10.0, 12.0, 15.0, 24.0, 25.0, 30.0, 30.0, 50.0, 60.0)  # of the pretended videos
SHOT_S = 2.5
RECORDED_SHORT_SIDE = (112, 232)  # px, of the pretended videos
FLOW_SHORT_SIDE = 128  # px, of the packaged flow recipe
RENDER_FLOW_SHORT_SIDE = 72  # px; exact flow scales, so a smaller picture does
BATCHES_PER_STOCK = 32
STOCK = 48  # textures of such a block


@dataclass(frozen=True)
class DrawnClip:
    """One shot, or two with a cut or a dissolve between them, and when its frames are taken."""

    shots: tuple[Scene, ...]
    times_s: np.ndarray
    join_s: float  # inf: one shot
    dissolve_s: float  # 0: a cut
    target: np.ndarray  # float32 (classes,): the share of the time that each label has

    def recorded(self, rng: np.random.Generator) -> list[np.ndarray]:
        """Its frames as a video shows them: uint8 RGB of some size, 65 % of the clips compressed."""
        width, height = _size(self.shots[0].aspect, int(rng.integers(*RECORDED_SHORT_SIDE)) // 2 * 2)
        frames = [self._picture(float(t), width, height) for t in self.times_s]
        kind = rng.random()
        if kind < 0.3:
            return jpeg(frames, int(rng.integers(12, 90)))
        if kind < 0.65:
            return h264(frames, int(rng.integers(18, 38)))
        return frames

    def _picture(self, t: float, width: int, height: int) -> np.ndarray:
        if self.dissolve_s:
            second = float(np.clip((t - self.join_s) / self.dissolve_s + 0.5, 0, 1))
        else:
            second = float(t >= self.join_s)
        pictures = [
            shot.render(t, width, height)
            for shot, weight in zip(self.shots, (1 - second, second), strict=False)
            if weight
        ]
        if len(pictures) == 1:
            return pictures[0]
        return cv2.addWeighted(pictures[0], 1 - second, pictures[1], second, 0)


def draw_clip(recipe: Recipe, rng: np.random.Generator, pool: TexturePool) -> DrawnClip:
    """One clip of the vocabulary with `recipe`'s frames, rate and shares."""
    aspect = float(rng.choice(ASPECTS))
    shots = [_shot(recipe, rng, pool, aspect)]
    span = float((recipe.frames - 1) / recipe.fps)
    start = float(rng.uniform(0, SHOT_S - span))
    join, width_s, share = np.inf, 0.0, 1.0
    if rng.random() < recipe.joined:
        shots.append(_shot(recipe, rng, pool, aspect))
        join = start + span * float(rng.uniform(-0.1, 1.1))
        width_s = float(rng.uniform(0.1, 0.8)) if rng.random() < 0.5 else 0.0
        share = float(np.clip((join - start) / span, 0, 1))
    target = np.zeros(len(LABELS), np.float32)
    target[LABELS.index(shots[0].label)] += share
    target[LABELS.index(shots[-1].label)] += 1 - share
    # The frames that a video of some rate shows at the grid's times
    grid = start + np.arange(recipe.frames) / float(recipe.fps)
    rate, phase = float(rng.choice(RATES)), float(rng.random())
    times = np.floor(grid * rate + phase + 1e-6) / rate - phase / rate
    return DrawnClip(tuple(shots), times, join, width_s, target)


def _shot(recipe: Recipe, rng: np.random.Generator, pool: TexturePool, aspect: float) -> Scene:
    label = LABELS[int(rng.integers(len(LABELS)))]
    scene = random_scene(label, rng, pool, aspect=aspect, duration_s=SHOT_S)
    return enliven(scene, rng) if rng.random() < recipe.lively else scene


class GeneratedClips:
    """Batches by number; batch i is the same whatever the number of workers and whatever came before.

    A block of BATCHES_PER_STOCK batches shares a stock of textures: a new texture costs as much as a clip.
    """

    def __init__(self, recipe: Recipe) -> None:
        span_s = float((recipe.frames - 1) / recipe.fps)
        if span_s >= SHOT_S:
            raise UsageError(
                "bad_recipe",
                f"recipe {recipe.name}: {recipe.frames} frames at {recipe.fps} a second last {span_s:.2f} s; "
                f"generated shots last {SHOT_S} s: raise fps or lower frames",
            )
        self.recipe = recipe
        self._block = -1
        self._pool = TexturePool()

    def __len__(self) -> int:
        return -(-self.recipe.clips // self.recipe.batch)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(clips, targets): uint8 (N, T, H, W, 3) or float32 (N, T, 2, H, W), and float32 (N, classes)."""
        cv2.setNumThreads(1)
        recipe, block = self.recipe, number // BATCHES_PER_STOCK
        if block != self._block:
            stock = np.random.default_rng([recipe.seed, 1, block])
            self._pool = TexturePool(stock=STOCK, stock_rng=stock)
            self._block = block
        rng = np.random.default_rng([recipe.seed, 2, number])
        drawn = [draw_clip(recipe, rng, self._pool) for _ in range(recipe.batch)]
        make = self._rgb if recipe.modality == "rgb" else self._flow
        return np.stack([make(clip, rng) for clip in drawn]), np.stack([clip.target for clip in drawn])

    def _rgb(self, clip: DrawnClip, rng: np.random.Generator) -> np.ndarray:
        size = (self.recipe.size, self.recipe.size)
        frames = clip.recorded(rng)
        return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])

    def _flow(self, clip: DrawnClip, rng: np.random.Generator) -> np.ndarray:
        shots, join, width_s = clip.shots, clip.join_s, clip.dissolve_s
        width, height = _size(shots[0].aspect, RENDER_FLOW_SHORT_SIDE)
        flows = []
        for before, after in pairwise(clip.times_s):
            shot = shots[0] if after < join else shots[-1]
            flow = shot.flow(before, after, width, height)
            if before < join <= after or (width_s and abs(before - join) < width_s / 2):
                # Across a cut or in a dissolve the pictures do not match: what comes out is anybody's guess.
                guess = rng.standard_normal((2, 6, 6)).astype(np.float32) * rng.uniform(0.2, 4)
                mix = float(rng.uniform(0, 1)) if width_s else 0.0
                flow = mix * flow + np.stack([cv2.resize(g, (width, height)) for g in guess])
            flows.append(flow)
        scale = FLOW_SHORT_SIDE / RENDER_FLOW_SHORT_SIDE
        seen = like_tvl1(np.stack(flows).astype(np.float32), rng, scale, Storage())
        size = self.recipe.size
        factor = np.array([size / width, size / height], np.float32)[:, None, None]
        planes = [
            cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA) for flow in seen for plane in flow
        ]
        return np.stack(planes).reshape(len(seen), 2, size, size) * factor


def _size(aspect: float, short: int) -> tuple[int, int]:
    """Even (width, height) with this short side."""
    long = round(short * max(aspect, 1 / aspect) / 2) * 2
    return (long, short) if aspect >= 1 else (short, long)
