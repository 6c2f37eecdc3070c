"""From decoded pictures to plain arrays: scaled, coloured and turned upright in the decoder's own scaler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Iterable

    from av.sidedata.sidedata import SideData

Color = Literal["rgb", "gray"]
PIXEL_FORMATS: dict[Color, str] = {"rgb": "rgb24", "gray": "gray"}
EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT  # the same bytes on every CPU; costs nothing here
SHRINK = Interpolation.AREA | EXACT
GROW = Interpolation.BILINEAR | EXACT  # area interpolation upwards would repeat pixels


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


def orientation_of(frame: av.VideoFrame) -> Orientation:
    """The orientation that the file's display matrix asks for."""
    for item in cast("Iterable[SideData]", frame.side_data):  # iterating it gives the items, not their types
        if item.type != SideDataType.DISPLAYMATRIX:
            continue
        # x' = a x + c y, y' = b x + d y, 16.16 fixed point; the third column is not used by players.
        a, b, _, c, d = (float(v) for v in np.frombuffer(bytes(item), dtype="<i4")[:5])
        transpose = abs(a) + abs(d) < abs(b) + abs(c)
        right_angle = (a == d == 0) if transpose else (b == c == 0)
        if transpose:
            return Orientation(True, c < 0, b < 0, right_angle)
        return Orientation(False, a < 0, d < 0, right_angle)
    return Orientation()


def scaled_size(width: int, height: int, short_side_px: int) -> tuple[int, int]:
    """(width, height) with the shorter side at `short_side_px` and the other to the nearest pixel."""
    short = min(width, height)

    def scale(side: int) -> int:
        return max(1, (2 * side * short_side_px + short) // (2 * short))

    return scale(width), scale(height)


class Converter:
    """One scaler for a whole stream: frames of any size in, arrays of one size out.

    size: (width, height) of the upright result, pixels.
    """

    def __init__(self, size: tuple[int, int], color: Color, orientation: Orientation) -> None:
        self._stored = (size[1], size[0]) if orientation.transpose else size
        self._format = PIXEL_FORMATS[color]
        self._orientation = orientation
        self._reformatter = VideoReformatter()  # frame.reformat() would build a new scaler each time

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB or (H, W) gray in full range, C-contiguous, its own memory."""
        width, height = self._stored
        grows = width > frame.width or height > frame.height
        scaled = self._reformatter.reformat(
            frame,
            width=width,
            height=height,
            format=self._format,
            interpolation=GROW if grows else SHRINK,
            threads=1,
        )
        array = cast("NDArray[np.uint8]", scaled.to_ndarray())
        if scaled is frame:  # nothing to convert: the memory is the decoder's
            array = array.copy()
        return self._orientation.apply(array)
