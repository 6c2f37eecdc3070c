"""Flow as colour: the direction is the hue, the speed the saturation, white is no motion.

Right is red, down yellow-green, left cyan, up violet; speeds beyond `max_px` are drawn darker.
The idea is the colour wheel of Baker et al., "A Database and Evaluation Methodology for Optical Flow", 2011;
the wheel here is the plain HSV circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

_BEYOND_SHADE = 0.75
_RENDER_SHORT_SIDE_PX = 360


def flow_to_rgb(flow: npt.NDArray[np.floating[Any]], max_px: float) -> npt.NDArray[np.uint8]:
    """Flow (2, H, W) in px -> RGB uint8 (H, W, 3); full saturation at `max_px` (> 0)."""
    if flow.ndim != 3 or flow.shape[0] != 2:
        raise ValueError(f"flow must be (2, H, W), got {flow.shape}")
    if not max_px > 0:
        raise ValueError(f"max_px must be positive, got {max_px}")
    u, v = flow.astype(np.float32)
    speed = np.hypot(u, v) / np.float32(max_px)
    hue = np.arctan2(v, u) * np.float32(3 / np.pi)  # sixths of a turn, clockwise on the screen
    saturation = np.minimum(speed, 1)
    value = np.where(speed > 1 + 1e-6, np.float32(_BEYOND_SHADE), np.float32(1))
    rgb = np.empty((*u.shape, 3), np.float32)
    for channel, centre in enumerate((0, 2, 4)):  # red at 0, green at 2, blue at 4 sixths
        distance = np.abs((hue - centre + 3) % 6 - 3)
        rgb[..., channel] = value * (1 - saturation * np.clip(distance - 1, 0, 1))
    return np.rint(rgb * 255).astype(np.uint8)


def wheel(diameter_px: int) -> npt.NDArray[np.uint8]:
    """The legend's disc, RGBA uint8 (D, D, 4): a point has the colour of motion from the centre to it."""
    radius = (diameter_px - 1) / 2
    y, x = np.mgrid[:diameter_px, :diameter_px].astype(np.float32) - np.float32(radius)
    distance = np.hypot(x, y)
    rgb = flow_to_rgb(np.stack([x, y]) * np.minimum(1, radius / np.maximum(distance, 1e-6)), max(radius, 1))
    alpha = np.clip(radius + 0.5 - distance, 0, 1) * 255
    return np.dstack([rgb, np.rint(alpha).astype(np.uint8)])


def render_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the picture drawn for flow of `size`: small flow is enlarged, to be readable."""
    width, height = size
    factor = max(1.0, _RENDER_SHORT_SIDE_PX / min(size))
    return round(width * factor), round(height * factor)


def render(flow: npt.NDArray[np.floating[Any]], max_px: float, *, caption: str = "") -> npt.NDArray[np.uint8]:
    """Flow (2, H, W) -> RGB uint8 of `render_size`, with the wheel, its scale and a caption in it."""
    size = render_size((flow.shape[2], flow.shape[1]))
    enlarged = cv2.resize(flow_to_rgb(flow, max_px), size, interpolation=cv2.INTER_LINEAR)
    picture: npt.NDArray[np.uint8] = np.ascontiguousarray(enlarged, dtype=np.uint8)
    draw_legend(picture, max_px, caption=caption)
    return picture


def draw_legend(picture: npt.NDArray[np.uint8], max_px: float, *, caption: str = "") -> None:
    """Draw the wheel with its scale into the lower right corner of an RGB picture, in place."""
    height, width = picture.shape[:2]
    diameter = max(24, min(height, width) // 5)
    margin = max(4, diameter // 8)
    text_height = max(8, diameter // 5)
    disc = wheel(diameter)
    lines = [f"rim {max_px:.3g} px", *([caption] if caption else [])]
    box_height = diameter + 2 * margin + len(lines) * (text_height + margin // 2)
    box_width = max(diameter, *(_text_width(line, text_height) for line in lines)) + 2 * margin
    top, left = max(0, height - box_height - margin), max(0, width - box_width - margin)
    box = picture[top : top + box_height, left : left + box_width]
    box[:] = np.rint(box * np.float32(0.25) + 255 * 0.75).astype(np.uint8)
    x = (box.shape[1] - diameter) // 2
    place = box[margin : margin + diameter, x : x + diameter]
    disc = disc[: place.shape[0], : place.shape[1]]
    alpha = disc[..., 3:].astype(np.float32) / 255
    place[:] = np.rint(place * (1 - alpha) + disc[..., :3] * alpha).astype(np.uint8)
    radius = diameter / 2
    cv2.circle(box, (round(x + radius), round(margin + radius)), round(radius), (90, 90, 90), 1, cv2.LINE_AA)
    for row, line in enumerate(lines):
        baseline = margin + diameter + margin // 2 + (row + 1) * text_height + row * (margin // 2)
        start = ((box.shape[1] - _text_width(line, text_height)) // 2, baseline)
        cv2.putText(box, line, start, *_font(text_height), (20, 20, 20), 1, cv2.LINE_AA)


def display_max_px(flows: Sequence[npt.NDArray[np.floating[Any]]]) -> float:
    """A `max_px` that shows these flows well: their 99th percentile of speed, at least 1 px."""
    if not len(flows):
        return 1.0
    speeds = np.concatenate([np.hypot(flow[0], flow[1]).ravel()[::7] for flow in flows])
    return max(1.0, float(np.percentile(speeds, 99)))


def _font(height_px: int) -> tuple[int, float]:
    return cv2.FONT_HERSHEY_SIMPLEX, height_px / 22  # capitals are 22 px high at scale 1


def _text_width(text: str, height_px: int) -> int:
    return int(cv2.getTextSize(text, *_font(height_px), 1)[0][0])
