"""Pictures to move: procedural textures with the statistics of natural scenes, or frames of real videos.

The procedural ones are "dead leaves" (occluding shapes whose sizes follow a power law, which gives the edges
and scale invariance of photographs; Lee, Mumford and Huang 2001) over 1/f noise, with lines and lettering.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vpipe.errors import InputError, UsageError, VpipeError
from vpipe.media import FrameSource

TEXTURE_PX = 512  # side of a procedural texture
REAL_SHORT_SIDE_PX = 360  # frames of real videos are kept at this size
REAL_FRAMES_PER_VIDEO = 12


@dataclass(frozen=True)
class Texture:
    """An RGB picture and its half, quarter and eighth sizes, so that minified views do not alias."""

    levels: tuple[np.ndarray, ...]

    @classmethod
    def from_image(cls, image: np.ndarray) -> Texture:
        """From uint8 RGB (H, W, 3)."""
        levels = [np.ascontiguousarray(image)]
        while len(levels) < 4 and min(levels[-1].shape[:2]) >= 32:
            height, width = levels[-1].shape[:2]
            levels.append(cv2.resize(levels[-1], (width // 2, height // 2), interpolation=cv2.INTER_AREA))
        return cls(tuple(levels))

    def level_for(self, texels_per_pixel: float) -> tuple[np.ndarray, float]:
        """The level to sample at this minification, and its scale relative to level 0."""
        level = int(np.clip(np.round(np.log2(max(texels_per_pixel, 1e-6)) - 0.2), 0, len(self.levels) - 1))
        return self.levels[level], self.levels[level].shape[1] / self.levels[0].shape[1]


def fractal_noise(rng: np.random.Generator, side: int, exponent: float) -> np.ndarray:
    """Noise with spectrum 1/f^exponent: float32 (side, side), zero mean, unit deviation, periodic."""
    fy = np.fft.fftfreq(side)[:, None]
    fx = np.fft.rfftfreq(side)[None]
    radius = np.sqrt(fx * fx + fy * fy)
    radius[0, 0] = 1.0
    spectrum = np.fft.rfft2(rng.standard_normal((side, side), dtype=np.float32)) / radius**exponent
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(side, side)).astype(np.float32)
    return noise / (noise.std() + 1e-6)


def _palette(rng: np.random.Generator, count: int) -> np.ndarray:
    """Colours (count, 3) in 0..255 that look as if lit by one light: shared cast, limited saturation."""
    base = rng.uniform(20, 235)
    spread = rng.uniform(15, 80)
    luminance = rng.normal(base, spread, (count, 1))
    cast = rng.normal(0, rng.uniform(2, 25), (1, 3))
    chroma = rng.normal(0, rng.uniform(3, 45), (count, 3))
    return np.clip(luminance + cast + chroma - chroma.mean(1, keepdims=True), 0, 255).astype(np.float32)


def _leaf(
    rng: np.random.Generator, canvas: np.ndarray, value: int, centre: np.ndarray, radius: float
) -> None:
    """Draws one filled shape of this radius (px) into the map of leaf numbers."""
    kind = rng.integers(4)
    at = (int(centre[0]), int(centre[1]))
    if kind == 0:
        cv2.circle(canvas, at, max(1, int(radius)), value, -1)
    elif kind == 1:
        axes = (max(1, int(radius)), max(1, int(radius * rng.uniform(0.15, 0.9))))
        cv2.ellipse(canvas, at, axes, float(rng.uniform(0, 360)), 0, 360, value, -1)
    else:
        corners = 4 if kind == 2 else int(rng.integers(3, 8))
        angles = (
            np.sort(rng.uniform(0, 2 * np.pi, corners))
            if kind == 3
            else np.arange(4) * np.pi / 2 + rng.uniform(0, 7)
        )
        stretch = rng.uniform(0.2, 1.0)
        points = np.stack([np.cos(angles), np.sin(angles) * stretch], 1) * radius
        turn = rng.uniform(0, np.pi) if rng.random() < 0.6 else 0.0
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        cv2.fillPoly(canvas, [np.round(points @ rotation.T + centre).astype(np.int32)], value)


def procedural_texture(rng: np.random.Generator, side: int = TEXTURE_PX) -> Texture:
    """One random texture of side x side px; equal generator states give equal textures."""
    leaves = int(rng.choice([6, 25, 80, 220]))
    canvas = np.zeros((side, side), np.int32)
    largest = side * rng.uniform(0.15, 0.5)
    smallest = side * rng.uniform(0.006, 0.04)
    # Inverse-cube law of radii, cut at both ends: r = (u*(a^-2 - b^-2) + b^-2)^(-1/2)
    uniform = rng.random(leaves)
    radii = np.sort((uniform * (smallest**-2 - largest**-2) + largest**-2) ** -0.5)[::-1]
    if rng.random() < 0.5:
        radii = rng.permutation(radii)
    centres = rng.uniform(0, side, (leaves, 2))
    for number in range(leaves):
        _leaf(rng, canvas, number + 1, centres[number], float(radii[number]))
    colours = _palette(rng, leaves + 1)
    fine = fractal_noise(rng, side, rng.uniform(0.4, 1.1))
    coarse = fractal_noise(rng, side, rng.uniform(1.2, 1.9))
    roughness = (rng.gamma(1.2, rng.uniform(2, 14), leaves + 1)).astype(np.float32)
    image = colours[canvas]
    image += (fine * roughness[canvas])[..., None]
    image += (coarse * rng.uniform(3, 35))[..., None] * rng.uniform(0.6, 1.2, 3).astype(np.float32)
    if rng.random() < 0.5:  # a lit side
        ramp = np.linspace(-1, 1, side, dtype=np.float32) * rng.uniform(0, 45)
        image += (ramp[:, None] if rng.random() < 0.7 else ramp[None])[..., None]
    image = np.clip(image, 0, 255).astype(np.uint8)
    _line_work(rng, image)
    return Texture.from_image(_soften(rng, image))


def _soften(rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
    """Walls, skies, nights and things out of focus: much of a real picture has little texture."""
    if rng.random() < 0.35:
        image = cv2.GaussianBlur(image, (0, 0), float(np.exp(rng.uniform(0.0, 2.3))))
    if rng.random() < 0.4:
        contrast = float(np.exp(rng.uniform(np.log(0.08), 0.0)))
        level = float(rng.uniform(5, 250)) - contrast * float(image.mean())
        image = np.clip(image * np.float32(contrast) + np.float32(level), 0, 255).astype(np.uint8)
    return image


def _line_work(rng: np.random.Generator, image: np.ndarray) -> None:
    """Lines, a grid or lettering on some textures, in place."""
    side = image.shape[0]
    colour = [float(c) for c in rng.uniform(0, 255, 3)]
    if rng.random() < 0.3:
        for _ in range(int(rng.integers(2, 12))):
            start, end = rng.integers(0, side, (2, 2))
            cv2.line(
                image,
                tuple(map(int, start)),
                tuple(map(int, end)),
                colour,
                int(rng.integers(1, 6)),
                cv2.LINE_AA,
            )
    if rng.random() < 0.2:
        step, phase = int(rng.integers(18, 90)), int(rng.integers(0, 18))
        for at in range(phase, side, step):
            cv2.line(image, (at, 0), (at, side), colour, int(rng.integers(1, 4)))
            if rng.random() < 0.7:
                cv2.line(image, (0, at), (side, at), colour, 1)
    if rng.random() < 0.25:
        letters = "".join(chr(int(c)) for c in rng.integers(65, 91, 6))
        corner = (int(rng.integers(0, side // 2)), int(rng.integers(40, side)))
        cv2.putText(
            image,
            letters,
            corner,
            cv2.FONT_HERSHEY_SIMPLEX,
            float(rng.uniform(0.8, 3)),
            colour,
            int(rng.integers(1, 6)),
        )


def textures_from_videos(folder: Path) -> list[Texture]:
    """Frames of the real videos in a folder as textures, evenly spread over each, in file-name order.

    Files that are not readable videos are left out. Raises UsageError where none can be read.
    """
    if not folder.is_dir():
        raise UsageError("not_found", f"{folder}: no such folder of videos; give --background-from a folder")
    textures: list[Texture] = []
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        try:
            source = FrameSource(path, short_side_px=REAL_SHORT_SIDE_PX)
            times = source.timeline().times
            wanted = sorted({int(i) for i in np.linspace(0, len(times) - 1, REAL_FRAMES_PER_VIDEO)})
            textures += [Texture.from_image(frame.image) for frame in source.select(wanted)]
        except (InputError, VpipeError):
            continue
    if not textures:
        raise UsageError(
            "no_videos", f"{folder}: holds no readable video; give --background-from a folder of videos"
        )
    return textures


class TexturePool:
    """Where scenes take their pictures from: fresh procedural ones, a stock of them, or real frames."""

    def __init__(
        self, real: Sequence[Texture] = (), *, stock: int = 0, stock_rng: np.random.Generator | None = None
    ) -> None:
        """With `real`, only those are used. With `stock` > 0, that many procedural textures are drawn from
        `stock_rng` and reused (for training, where making a new one every time is too slow)."""
        self._textures = list(real)
        if stock and stock_rng is not None:
            self._textures += [procedural_texture(stock_rng) for _ in range(stock)]

    def pick(self, rng: np.random.Generator) -> Texture:
        if not self._textures:
            return procedural_texture(rng)
        return self._textures[int(rng.integers(len(self._textures)))]
