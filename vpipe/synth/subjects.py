"""Subjects: a textured shape with an arm, cut out of a picture, moving over the background of a scene."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from vpipe.synth.motion import Camera, Path, rotation, scaling, translation
from vpipe.synth.textures import Texture

SPRITE_PX = 96  # side of the square picture of a body; an arm is as long and a third as wide


@dataclass(frozen=True)
class Sprite:
    """A cut-out: uint8 (h, w, 4), colours already multiplied by alpha, and its half and quarter sizes."""

    levels: tuple[np.ndarray, ...]

    @classmethod
    def cut(cls, texture: Texture, mask: np.ndarray, rng: np.random.Generator) -> Sprite:
        """Cuts the shape of `mask` (h, w, uint8) out of a random place of the texture, in changed colours."""
        height, width = mask.shape
        source = texture.levels[min(1, len(texture.levels) - 1)]
        zoom = float(rng.uniform(0.6, 1.6))
        need_h, need_w = max(2, int(height / zoom)), max(2, int(width / zoom))
        top = int(rng.integers(0, max(1, source.shape[0] - need_h)))
        left = int(rng.integers(0, max(1, source.shape[1] - need_w)))
        patch = cv2.resize(source[top : top + need_h, left : left + need_w], (width, height))
        tint, gain = rng.uniform(-50, 50, 3), rng.uniform(0.6, 1.3)
        colour = np.clip(patch * gain + tint, 0, 255)
        rgba = np.dstack([colour * (mask[..., None] / 255.0), mask]).astype(np.uint8)
        half = cv2.resize(rgba, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
        quarter = cv2.resize(half, (width // 4, height // 4), interpolation=cv2.INTER_AREA)
        return cls((rgba, half, quarter))

    def draw(self, frame: np.ndarray, to_pixels: np.ndarray) -> None:
        """Blends the sprite into `frame` (H, W, 3); `to_pixels` maps the unit square [-1, 1]^2 to pixels."""
        box = _bounding_box(to_pixels, frame.shape[1], frame.shape[0])
        if box is None:
            return
        x0, y0, x1, y1 = box
        rgba, matrix = self._level_and_matrix(to_pixels)
        patch = cv2.warpAffine(
            rgba, (translation(-x0, -y0) @ matrix)[:2], (x1 - x0, y1 - y0), flags=cv2.INTER_LINEAR
        ).astype(np.uint16)
        region = frame[y0:y1, x0:x1]
        region[:] = np.minimum(patch[..., :3] + region * (255 - patch[..., 3:]) // 255, 255).astype(np.uint8)

    def cover(self, width: int, height: int, to_pixels: np.ndarray) -> np.ndarray | None:
        """Where the sprite hides what is behind it: bool (height, width), or None where it is out of view."""
        box = _bounding_box(to_pixels, width, height)
        if box is None:
            return None
        rgba, matrix = self._level_and_matrix(to_pixels)
        alpha = np.ascontiguousarray(rgba[..., 3])
        return cv2.warpAffine(alpha, matrix[:2], (width, height), flags=cv2.INTER_LINEAR) > 127

    def _level_and_matrix(self, to_pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        size_px = 2 * np.sqrt(abs(np.linalg.det(to_pixels[:2, :2])))
        shrink = max(self.levels[0].shape[:2]) / max(size_px, 1e-6)
        rgba = self.levels[int(np.clip(np.floor(np.log2(max(shrink, 1.0)) + 0.3), 0, len(self.levels) - 1))]
        h, w = rgba.shape[:2]
        from_sprite = np.array([[2 / w, 0.0, 1 / w - 1], [0.0, 2 / h, 1 / h - 1], [0.0, 0.0, 1.0]])
        return rgba, to_pixels @ from_sprite


def _bounding_box(to_pixels: np.ndarray, width: int, height: int) -> tuple[int, int, int, int] | None:
    corners = to_pixels[:2] @ np.array([[-1, 1, 1, -1], [-1, -1, 1, 1], [1, 1, 1, 1]], float)
    x0, y0 = np.floor(corners.min(1)).astype(int) - 1
    x1, y1 = np.ceil(corners.max(1)).astype(int) + 1
    x0, y0, x1, y1 = max(0, x0), max(0, y0), min(width, x1), min(height, y1)
    return (int(x0), int(y0), int(x1), int(y1)) if x1 - x0 >= 1 and y1 - y0 >= 1 else None


def body_mask(rng: np.random.Generator) -> np.ndarray:
    """A random closed shape: uint8 (SPRITE_PX, SPRITE_PX)."""
    side = SPRITE_PX
    mask = np.zeros((side, side), np.uint8)
    kind = rng.integers(3)
    if kind == 0:  # a blob: a circle with low harmonics
        angles = np.linspace(0, 2 * np.pi, 48, endpoint=False)
        radius = 0.72 + sum(
            rng.normal(0, 0.16 / k) * np.cos(k * angles + rng.uniform(0, 2 * np.pi)) for k in range(1, 6)
        )
        squeeze = rng.uniform(0.45, 1.0)
        points = np.stack([np.cos(angles) * squeeze, np.sin(angles)], 1) * np.clip(radius, 0.2, 0.97)[:, None]
        cv2.fillPoly(mask, [((points + 1) * side / 2).astype(np.int32)], 255, cv2.LINE_AA)
    elif kind == 1:  # a head on a trunk
        half = side * rng.uniform(0.16, 0.32)
        cv2.ellipse(
            mask,
            (side // 2, int(side * 0.66)),
            (int(half), int(side * 0.32)),
            0,
            0,
            360,
            255,
            -1,
            cv2.LINE_AA,
        )
        cv2.circle(
            mask, (side // 2, int(side * 0.2)), int(side * rng.uniform(0.11, 0.18)), 255, -1, cv2.LINE_AA
        )
    else:  # a box, wide as a vehicle or tall
        w, h = side * rng.uniform(0.25, 0.48), side * rng.uniform(0.2, 0.48)
        corners = np.array([[-w, -h], [w, -h], [w, h], [-w, h]]) * rng.uniform(0.75, 1.0, (4, 2)) + side / 2
        cv2.fillPoly(mask, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    return cv2.GaussianBlur(mask, (0, 0), float(rng.uniform(0.4, 1.5)))


def arm_mask(rng: np.random.Generator) -> np.ndarray:
    """A tapering limb pointing to +x: uint8 (SPRITE_PX // 3, SPRITE_PX)."""
    h, w = SPRITE_PX // 3, SPRITE_PX
    root, tip = rng.uniform(0.25, 0.48) * h, rng.uniform(0.18, 0.46) * h
    mask = np.zeros((h, w), np.uint8)
    corners = np.array([[2, h / 2 - root], [w - 6, h / 2 - tip], [w - 6, h / 2 + tip], [2, h / 2 + root]])
    cv2.fillPoly(mask, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    return cv2.GaussianBlur(mask, (0, 0), 0.8)


@dataclass(frozen=True)
class Subject:
    """Where a subject is in the world and how it holds itself at any time. Its radius is in short sides."""

    body: Sprite
    arm: Sprite
    radius: float
    arm_length: float
    shoulder: tuple[float, float]  # on the body, in units of its radius
    facing: float  # -1 mirrors it left to right
    x: Path
    y: Path
    lean: Path  # rotation of the body about its foot, clockwise
    arm_angle: Path  # rotation of the arm about the shoulder, clockwise from +x

    def layers(
        self, camera: Camera, t: float, t_shown: float, wrap: tuple[float, float]
    ) -> list[tuple[Sprite, np.ndarray]]:
        """(sprite, unit square -> screen) of body and arm at time t, back to front.

        Subjects live on a torus of size `wrap` round the camera, so that one that leaves the frame comes back
        on the other side; which of its images is meant is decided at `t_shown`.
        """
        level = rotation(camera.roll.origin)[:2, :2]  # the torus lies along the sides of the frame
        period = np.array(wrap)
        here = np.array([self.x.at(t), self.y.at(t)]) - camera.position(t)
        shown = np.array([self.x.at(t_shown), self.y.at(t_shown)]) - camera.position(t_shown)
        relative = here - level @ (np.round(level.T @ shown / period) * period)
        foot = translation(0, 1) @ rotation(self.lean.at(t)) @ translation(0, -1)
        place = (
            camera.turn(t)
            @ translation(*relative)
            @ scaling(self.radius)
            @ np.diag([self.facing, 1.0, 1.0])
            @ foot
        )
        reach = self.arm_length / self.radius / 2
        arm = (
            translation(*self.shoulder)
            @ rotation(self.arm_angle.at(t))
            @ translation(reach * 0.9, 0)
            @ np.diag([reach, reach / 3, 1.0])
        )
        return [(self.body, place), (self.arm, place @ arm)]
