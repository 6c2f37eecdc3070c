"""From decoded pictures to plain arrays: scaled, coloured and turned upright in the decoder's own scaler."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import av
import numpy as np
from av.sidedata.sidedata import Type as SideDataType
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from vpipe.media.halving import Halver
from vpipe.media.upright import Color, Orientation, much_smaller

if TYPE_CHECKING:
    from collections.abc import Iterable

    from av.sidedata.sidedata import SideData

PIXEL_FORMATS: dict[Color, str] = {"rgb": "rgb24", "gray": "gray"}
EXACT = Interpolation.ACCURATE_RND | Interpolation.BITEXACT  # the same bytes on every CPU; costs nothing here
SHRINK = Interpolation.AREA | EXACT
GROW = Interpolation.BILINEAR | EXACT  # area interpolation upwards would repeat pixels


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


class Converter:
    """One scaler for a whole stream: frames of any size in, arrays of one size out.

    size: (width, height) of the upright result, pixels. exact: always by the scaler alone; otherwise pictures
    that become much smaller are halved first, in half the time, 0.2 grey levels off in the mean.
    """

    def __init__(
        self, size: tuple[int, int], color: Color, orientation: Orientation, *, exact: bool = True
    ) -> None:
        self._stored = (size[1], size[0]) if orientation.transpose else size
        self._format = PIXEL_FORMATS[color]
        self._orientation = orientation
        self._halved = None if exact else Halver()
        self._reformatter = VideoReformatter()  # frame.reformat() would build a new scaler each time

    def __call__(self, frame: av.VideoFrame) -> NDArray[np.uint8]:
        """uint8 (H, W, 3) RGB or (H, W) gray in full range, C-contiguous, its own memory."""
        width, height = self._stored
        if self._halved is not None and much_smaller(self._stored, (frame.width, frame.height)):
            frame = self._halved(frame)
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
