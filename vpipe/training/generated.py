"""Clips of the motion vocabulary made on the fly: RGB frames, or exact flow made to look like TV-L1's."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np

from vpipe.errors import UsageError
from vpipe.flow.quantise import Storage
from vpipe.synth.scene import Scene, random_scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import LABELS
from vpipe.training.degrade import h264, jpeg, like_tvl1
from vpipe.training.recipe import Recipe

ASPECTS = (4 / 3, 4 / 3, 16 / 9, 16 / 9, 1.85, 1.0, 3 / 4, 9 / 16)
RATES = (10.0, 12.0, 15.0, 24.0, 25.0, 30.0, 30.0, 50.0, 60.0)  # of the pretended videos
SHOT_S = 2.5
FLOW_SHORT_SIDE = 128  # px, of the packaged flow recipe
RENDER_FLOW_SHORT_SIDE = 72  # px; exact flow scales, so a smaller picture does
BATCHES_PER_STOCK = 32
STOCK = 48  # textures of such a block


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
        clips, targets = zip(*(self._clip(rng) for _ in range(recipe.batch)), strict=True)
        return np.stack(clips), np.stack(targets)

    def _clip(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        aspect = float(rng.choice(ASPECTS))
        shots = [self._shot(rng, aspect)]
        target = np.zeros(len(LABELS), np.float32)
        span = float((self.recipe.frames - 1) / self.recipe.fps)
        start = float(rng.uniform(0, SHOT_S - span))
        join, width_s = np.inf, 0.0
        if rng.random() < self.recipe.joined:
            shots.append(self._shot(rng, aspect))
            join = start + span * float(rng.uniform(-0.1, 1.1))
            width_s = float(rng.uniform(0.1, 0.8)) if rng.random() < 0.5 else 0.0
        share = float(np.clip((join - start) / span, 0, 1)) if len(shots) == 2 else 1.0
        target[LABELS.index(shots[0].label)] += share
        target[LABELS.index(shots[-1].label)] += 1 - share
        make = self._rgb if self.recipe.modality == "rgb" else self._flow
        return make(shots, self._times(rng, start), join, width_s, rng), target

    def _shot(self, rng: np.random.Generator, aspect: float) -> Scene:
        label = LABELS[int(rng.integers(len(LABELS)))]
        return random_scene(label, rng, self._pool, aspect=aspect, duration_s=SHOT_S)

    def _times(self, rng: np.random.Generator, start: float) -> np.ndarray:
        """Times of the frames that a video of some rate shows at the grid's times."""
        grid = start + np.arange(self.recipe.frames) / float(self.recipe.fps)
        rate, phase = float(rng.choice(RATES)), float(rng.random())
        return np.floor(grid * rate + phase + 1e-6) / rate - phase / rate

    def _rgb(
        self, shots: list[Scene], times: np.ndarray, join: float, width_s: float, rng: np.random.Generator
    ) -> np.ndarray:
        short = int(rng.integers(54, 100)) * 2
        width, height = _size(shots[0].aspect, short)
        frames = []
        for t in times:
            second = float(np.clip((t - join) / width_s + 0.5, 0, 1)) if width_s else float(t >= join)
            pictures = [
                shot.render(t, width, height)
                for shot, w in zip(shots, (1 - second, second), strict=False)
                if w
            ]
            frames.append(
                pictures[0]
                if len(pictures) == 1
                else cv2.addWeighted(pictures[0], 1 - second, pictures[1], second, 0)
            )
        kind = rng.random()
        if kind < 0.3:
            frames = jpeg(frames, int(rng.integers(12, 90)))
        elif kind < 0.65:
            frames = h264(frames, int(rng.integers(18, 38)))
        size = (self.recipe.size, self.recipe.size)
        return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames])

    def _flow(
        self, shots: list[Scene], times: np.ndarray, join: float, width_s: float, rng: np.random.Generator
    ) -> np.ndarray:
        width, height = _size(shots[0].aspect, RENDER_FLOW_SHORT_SIDE)
        flows = []
        for before, after in pairwise(times):
            shot = shots[0] if after < join else shots[-1]
            flow = shot.flow(before, after, width, height)
            if before < join <= after or (width_s and abs(before - join) < width_s / 2):
                # Across a cut or in a dissolve the pictures do not match: what comes out is anybody's guess.
                guess = rng.standard_normal((2, 6, 6)).astype(np.float32) * rng.uniform(0.2, 4)
                mix = float(rng.uniform(0, 1)) if width_s else 0.0
                flow = mix * flow + np.stack([cv2.resize(g, (width, height)) for g in guess])
            flows.append(flow)
        scale = FLOW_SHORT_SIDE / RENDER_FLOW_SHORT_SIDE
        clip = like_tvl1(np.stack(flows).astype(np.float32), rng, scale, Storage())
        size = self.recipe.size
        factor = np.array([size / width, size / height], np.float32)[:, None, None]
        planes = [
            cv2.resize(plane, (size, size), interpolation=cv2.INTER_AREA) for flow in clip for plane in flow
        ]
        return np.stack(planes).reshape(len(clip), 2, size, size) * factor


def _size(aspect: float, short: int) -> tuple[int, int]:
    """Even (width, height) with this short side."""
    long = round(short * max(aspect, 1 / aspect) / 2) * 2
    return (long, short) if aspect >= 1 else (short, long)
