"""Tiny videos of two labels that only motion tells apart: a bar that goes left or right over noise."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np

from vpipe.media import VideoWriter

SIZE = (48, 32)  # width, height
FPS = 8


def bar_frames(way: int, frames: int, rng: np.random.Generator) -> list[np.ndarray]:
    """uint8 RGB frames of a bar that goes right (way 1), left (-1) or stands still (0)."""
    width, height = SIZE
    noise = rng.integers(0, 90, (height, width, 3)).astype(np.uint8)
    at, made = int(rng.integers(width)), []
    for k in range(frames):
        frame = noise.copy()
        for column in range(6):
            frame[:, (at + 3 * way * k + column) % width] = 230
        made.append(frame)
    return made


def write_video(path: Path, frames: list[np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, *SIZE, fps=Fraction(FPS), crf=12, preset="ultrafast") as writer:
        for frame in frames:
            writer.write(frame)
    return path


def write_folders(folder: Path, each: int, frames: int = 12, seed: int = 0) -> Path:
    """folder/left/0.mp4 ..., folder/right/0.mp4 ...: `each` videos of a label."""
    for way, label in ((-1, "left"), (1, "right")):
        for number in range(each):
            rng = np.random.default_rng([seed, number, way + 1])
            write_video(folder / label / f"{number}.mp4", bar_frames(way, frames, rng))
    return folder
