"""Pairs of pictures for the flow benchmark: generated ones with known flow, real ones beside the checkout.

A generated pair is painted twice from the same textures under two sets of affine maps, at twice the size and
averaged down: the truth is exact and nothing aliases. Truth counts everywhere, hidden points included.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vpipe.media import FrameSource
from vpipe.synth.textures import fractal_noise, procedural_texture

KINDS = ("translation", "rotation", "zoom", "objects", "noise")
WIDTH, HEIGHT = 340, 256
OVERSAMPLED = 2
TEXTURE_PX = 512
MIDDLEBURY = ("Dimetrodon", "Grove2", "RubberWhale", "Urban2", "Venus")
UNKNOWN_PX = 1e9  # Middlebury writes larger values where the flow is not known
CLIP_PAIRS = Path(__file__).parent / "flow_pairs.csv"

Picture = npt.NDArray[np.uint8]
Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """first, second: gray uint8 (H, W). truth: float32 (2, H, W), NaN where unknown; None for real clips."""

    name: str
    kind: str
    first: Picture
    second: Picture
    truth: npt.NDArray[np.float32] | None


def generated(count: int, seed: int) -> Iterator[Pair]:
    """`count` pairs of each kind; pair i of a kind depends on (seed, kind, i) alone."""
    for number, kind in enumerate(KINDS):
        for i in range(count):
            yield generated_pair(kind, np.random.default_rng((seed, number, i)), f"{kind}-{i}")


def generated_pair(kind: str, rng: np.random.Generator, name: str = "") -> Pair:
    """One pair. translation: to 15 px; rotation: to 6 degrees; zoom: by 0.9 to 1.1; objects: three that move
    to 12 px over ground that moves to 5; noise: a translation to 6 px, and noise of 6 grey levels in both."""
    reach = {"translation": 15.0, "rotation": 2.0, "zoom": 2.0, "objects": 5.0, "noise": 6.0}[kind]
    ground = _moves(rng, reach)
    if kind == "rotation":
        ground = ground @ _about_centre(np.deg2rad(rng.uniform(-6, 6)), 1.0)
    if kind == "zoom":
        ground = ground @ _about_centre(0.0, rng.uniform(0.9, 1.1))
    layers = [(_texture(rng), np.ones((TEXTURE_PX, TEXTURE_PX), np.float32), _placed(rng), ground)]
    for _ in range(3 if kind == "objects" else 0):
        turn = _about_centre(np.deg2rad(rng.uniform(-4, 4)), rng.uniform(0.97, 1.03))
        layers.append((_texture(rng), _blob(rng), _placed(rng, small=True), _moves(rng, 12.0) @ turn))
    first, second = (_painted(layers, moved) for moved in (False, True))
    if kind == "noise":
        first, second = (p + rng.normal(0, 6, p.shape).astype(np.float32) for p in (first, second))
    return Pair(name, kind, _uint8(first), _uint8(second), _truth(layers))


def middlebury(folder: Path) -> Iterator[Pair]:
    """The five pairs with ground truth, from `flow_pairs` beside the checkout."""
    for name in MIDDLEBURY:
        first, second = (_gray(folder / name / f"frame{number}.png") for number in (10, 11))
        data = np.fromfile(folder / name / "flow10.flo", np.float32)
        width, height = (int(n) for n in data[1:3].view(np.int32))
        truth = data[3 : 3 + 2 * width * height].reshape(height, width, 2).transpose(2, 0, 1).copy()
        truth[:, (np.abs(truth) > UNKNOWN_PX).any(0)] = np.nan
        yield Pair(name, "middlebury", first, second, truth)


def from_clips(folder: Path, short_side_px: int = 256) -> Iterator[Pair]:
    """The committed list of frame pairs, from `clips` beside the checkout."""
    with CLIP_PAIRS.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for name in dict.fromkeys(row["clip"] for row in rows):
        starts = [int(row["frame"]) for row in rows if row["clip"] == name]
        source = FrameSource(folder / name, short_side_px=short_side_px, color="gray")
        wanted = sorted({i + step for i in starts for step in (0, 1)})
        frames = {frame.index: frame.image.copy() for frame in source.select(wanted)}
        for i in starts:
            yield Pair(f"{Path(name).stem[:18]}:{i}", "clip", frames[i], frames[i + 1], None)


def queue_from_clips(folder: Path, count: int) -> list[Pair]:
    """`count` pairs of frames and the next, WIDTH x HEIGHT, spread over the clips of the committed list."""
    with CLIP_PAIRS.open(newline="") as file:
        names = list(dict.fromkeys(row["clip"] for row in csv.DictReader(file)))
    pairs = []
    for number, name in enumerate(names):
        share = count // len(names) + (number < count % len(names))
        source = FrameSource(folder / name, size=(WIDTH, HEIGHT), color="gray")
        total = sum(1 for _ in source.frames())
        starts = [round((k + 0.5) / share * (total - 2)) for k in range(share)]
        wanted = sorted({i + step for i in starts for step in (0, 1)})
        frames = {frame.index: frame.image.copy() for frame in source.select(wanted)}
        pairs += [Pair(f"{Path(name).stem[:18]}:{i}", "clip", frames[i], frames[i + 1], None) for i in starts]
    return pairs


def end_point_error(flow: npt.NDArray[Any], truth: npt.NDArray[Any]) -> float:
    """The mean length of the difference in px, where the truth is known."""
    return float(np.nanmean(np.hypot(*(flow - truth))))


def _gray(path: Path) -> Picture:
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise FileNotFoundError(path)
    return np.asarray(picture, np.uint8)


def _texture(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Gray, periodic enough; a little fine noise, for no camera gives perfectly flat areas."""
    image = cv2.cvtColor(procedural_texture(rng, TEXTURE_PX).levels[0], cv2.COLOR_RGB2GRAY).astype(np.float32)
    return image + 2 * fractal_noise(rng, TEXTURE_PX, 0.5)


def _blob(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """The shape of an object in its texture: 1 inside a random star-like outline."""
    angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radius = TEXTURE_PX * 0.33 * np.ones_like(angles)
    for harmonic in range(2, 6):
        radius *= 1 + rng.uniform(-0.18, 0.18) * np.cos(harmonic * angles + rng.uniform(0, 2 * np.pi))
    points = TEXTURE_PX / 2 + radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1)
    mask = np.zeros((TEXTURE_PX, TEXTURE_PX), np.uint8)
    cv2.fillPoly(mask, [np.rint(points).astype(np.int32)], 1)
    return mask.astype(np.float32)


def _placed(rng: np.random.Generator, small: bool = False) -> Matrix:
    """Texture to first picture, in px."""
    scale = rng.uniform(0.15, 0.35) if small else rng.uniform(0.9, 1.4)
    x, y = (rng.uniform(0.2, 0.8) * n if small else n / 2 for n in (WIDTH, HEIGHT))
    return _shift(x, y) @ np.diag([scale, scale, 1.0]) @ _shift(-TEXTURE_PX / 2, -TEXTURE_PX / 2)


def _moves(rng: np.random.Generator, reach_px: float) -> Matrix:
    angle, length = rng.uniform(0, 2 * np.pi), reach_px * np.sqrt(rng.uniform(0.02, 1))
    return _shift(length * np.cos(angle), length * np.sin(angle))


def _about_centre(angle: float, scale: float) -> Matrix:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return _shift(WIDTH / 2, HEIGHT / 2) @ turn @ _shift(-WIDTH / 2, -HEIGHT / 2)


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0, x], [0, 1, y], [0, 0, 1]])


def _uint8(picture: npt.NDArray[np.float32]) -> Picture:
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8)


def _painted(layers: list[Any], moved: bool) -> npt.NDArray[np.float32]:
    size = (WIDTH * OVERSAMPLED, HEIGHT * OVERSAMPLED)
    # Pixel centres are at whole numbers in both sizes.
    up = np.array(
        [[OVERSAMPLED, 0, (OVERSAMPLED - 1) / 2], [0, OVERSAMPLED, (OVERSAMPLED - 1) / 2], [0, 0, 1]]
    )
    picture = np.zeros((size[1], size[0]), np.float32)
    for texture, shape, placed, move in layers:
        matrix = (up @ (move if moved else np.eye(3)) @ placed)[:2]
        painted = cv2.warpAffine(
            texture, matrix, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101
        )
        border = cv2.BORDER_REPLICATE if shape.all() else cv2.BORDER_CONSTANT
        alpha = cv2.warpAffine(shape, matrix, size, flags=cv2.INTER_LINEAR, borderMode=border)
        picture += alpha * (painted - picture)
    return np.asarray(cv2.resize(picture, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.float32)


def _truth(layers: list[Any]) -> npt.NDArray[np.float32]:
    x, y = np.meshgrid(np.arange(WIDTH, dtype=np.float64), np.arange(HEIGHT, dtype=np.float64))
    flow = np.zeros((2, HEIGHT, WIDTH))
    for _, shape, placed, move in layers:
        border = cv2.BORDER_REPLICATE if shape.all() else cv2.BORDER_CONSTANT
        alpha = cv2.warpAffine(shape, placed[:2], (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=border)
        u = move[0, 0] * x + move[0, 1] * y + move[0, 2] - x
        v = move[1, 0] * x + move[1, 1] * y + move[1, 2] - y
        flow = np.where(alpha > 0.5, np.stack([u, v]), flow)
    return flow.astype(np.float32)
