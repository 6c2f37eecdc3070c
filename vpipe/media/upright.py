"""How pictures lie and how large they become: what is known of them without a decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Color = Literal["rgb", "gray"]
MUCH = 8  # times, in both directions and however a picture lies


def much_smaller(size: tuple[int, int], than: tuple[int, int]) -> bool:
    """Whether pictures of the size `than` lose most of what they show, and small errors with it."""
    return max(size) * MUCH <= min(than)


@dataclass(frozen=True)
class Orientation:
    """How stored pictures become upright: transpose first, then mirror left-right, then top-bottom."""

    transpose: bool = False
    mirror_x: bool = False
    mirror_y: bool = False
    right_angle: bool = True  # False: the file asks for an angle between, and the nearest is taken

    @property
    def rotation(self) -> int:
        """Degrees counter-clockwise (0, 90, 180, 270) that are applied, apart from any mirroring."""
        if self.transpose:
            return 90 if self.mirror_y else 270
        return 180 if self.mirror_y else 0

    @property
    def mirrored(self) -> bool:
        """Whether the picture is also mirrored, as some front cameras write it."""
        return self.transpose ^ self.mirror_x ^ self.mirror_y

    def apply(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Turn one (H, W) or (H, W, 3) array upright; C-contiguous."""
        if self.transpose:
            image = image.swapaxes(0, 1)
        if self.mirror_x:
            image = image[:, ::-1]
        if self.mirror_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


def scaled_size(width: int, height: int, short_side_px: int) -> tuple[int, int]:
    """(width, height) with the shorter side at `short_side_px` and the other to the nearest pixel."""
    short = min(width, height)

    def scale(side: int) -> int:
        return max(1, (2 * side * short_side_px + short) // (2 * short))

    return scale(width), scale(height)
