"""What is known of a video stream."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from vpipe.errors import Warning_
from vpipe.media.upright import Orientation

DEFAULT_RATE = Fraction(25)  # FFmpeg's own guess where a file says nothing
SLOWEST, FASTEST = Fraction(1, 60), Fraction(1000)  # frames per second; beyond them, a header is not believed


@dataclass(frozen=True)
class VideoInfo:
    """One video stream. Sizes in pixels, upright; declared_* are the header's claims and may be wrong.

    Pixels are taken as square: a sample aspect ratio is not applied, only warned about.
    """

    path: str
    stream_index: int
    codec: str
    pix_fmt: str
    width: int
    height: int
    rotation: int  # degrees counter-clockwise that decoding applies: 0, 90, 180, 270
    average_rate: Fraction | None  # frames per second
    declared_frames: int | None
    declared_duration_s: float | None
    time_base: Fraction  # seconds per PTS unit
    warnings: tuple[Warning_, ...]
    container: str = ""
    start_s: float = 0.0  # PTS of the first frame, seconds
    is_image: bool = False  # a still picture, not a video
    orientation: Orientation = field(default_factory=Orientation)

    @property
    def rate(self) -> Fraction:
        """Frames per second for files whose times are unusable."""
        known = self.average_rate
        return known if known is not None and SLOWEST <= known <= FASTEST else DEFAULT_RATE
