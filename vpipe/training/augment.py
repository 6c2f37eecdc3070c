"""Changes to a clip that leave its label alone, the same for all of its frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

# At jitter 1
SCALE = 0.25  # of the logarithm
TURN = 0.25  # radians
SHIFT = 0.12  # of the picture
GAIN = 0.4
OFFSET = 50.0  # of 255
TINT = 0.25
SWAPPED, INVERTED, GREY = 0.3, 0.2, 0.15  # shares of the clips
STILL = (0.15, 0.55)  # weight of a still picture laid over a clip


def jittered(clip: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    """A clip moved, scaled, turned and (RGB) recoloured at random, `amount` 0 to 1.

    uint8 RGB (T, H, W, 3) or float32 flow (T, H, W, 2), px, whose vectors turn and grow with the picture.
    """
    if amount <= 0:
        return clip
    height, width = clip.shape[1:3]
    scale = np.exp(rng.uniform(-SCALE, SCALE) * amount)
    angle = rng.uniform(-TURN, TURN) * amount
    c, s = np.cos(angle) * scale, np.sin(angle) * scale
    linear = np.array([[c, -s], [s, c]])
    middle = np.array([width / 2 - 0.5, height / 2 - 0.5])
    shift = rng.uniform(-SHIFT, SHIFT, 2) * amount * (width, height)
    matrix = np.hstack([linear, (middle + shift - linear @ middle)[:, None]])
    out = np.empty_like(clip)
    for frame, to in zip(clip, out, strict=True):
        cv2.warpAffine(frame, matrix, (width, height), to, cv2.INTER_LINEAR, cv2.BORDER_REFLECT)
    if clip.shape[-1] == 2:
        return out @ linear.T.astype(np.float32)
    return _recoloured(out, rng, amount)


def _recoloured(clip: np.ndarray, rng: np.random.Generator, amount: float) -> np.ndarray:
    """Other light and other colours; colours that are another thing's are fine where motion is the label."""
    gain = np.exp(rng.uniform(-GAIN, GAIN) * amount + rng.uniform(-TINT, TINT, 3) * amount)
    offset = rng.uniform(-OFFSET, OFFSET) * amount
    table = np.clip(np.arange(256)[:, None] * gain + offset, 0, 255)
    swap, invert, grey = rng.random(3) < np.array([SWAPPED, INVERTED, GREY]) * amount
    if invert:
        table = 255 - table
    flat = clip.reshape(-1, clip.shape[2], 3)
    if swap:
        flat = np.ascontiguousarray(flat[..., rng.permutation(3)])
    if grey:
        flat = cv2.cvtColor(cv2.cvtColor(flat, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    return np.asarray(cv2.LUT(flat, table.astype(np.uint8)[None])).reshape(clip.shape)


def blended(clip: np.ndarray, other: np.ndarray, weight: float) -> np.ndarray:
    """(1 - weight) * clip + weight * other; `other` is a clip, or one frame for all, of the same kind."""
    if clip.dtype != np.uint8:
        return (1 - weight) * clip + weight * other
    return np.stack(
        [
            cv2.addWeighted(frame, 1 - weight, over, weight, 0)
            for frame, over in zip(clip, np.broadcast_to(other, clip.shape), strict=True)
        ]
    )


def mirrored(clip: np.ndarray) -> np.ndarray:
    """Left to right; a mirrored flow runs the other way."""
    turned = clip[:, :, ::-1]
    return turned * np.array([-1, 1], np.float32) if clip.shape[-1] == 2 else turned


def random_crop(
    clip: np.ndarray, size: tuple[int, int], sides: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """A window of (T, H, W, C) at a random place, resized to `size` (width, height).

    Its sides are two of `sides` (shares of the short side, in falling order), at most one step apart (TSN,
    section 3.4, "scale jittering"); without `sides` it has `size` itself.
    """
    height, width = clip.shape[1:3]
    if sides:
        order = sorted(sides, reverse=True)
        place = int(rng.integers(len(order)))
        near = [k for k in range(len(order)) if abs(k - place) <= 1]
        other = near[int(rng.integers(len(near)))]
        short = min(width, height)
        wide, high = (max(1, round(short * order[k])) for k in (place, other))
    else:
        wide, high = min(size[0], width), min(size[1], height)
    x, y = int(rng.integers(width - wide + 1)), int(rng.integers(height - high + 1))
    window = clip[:, y : y + high, x : x + wide]
    if (wide, high) == size:
        return window
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_LINEAR) for frame in window])
