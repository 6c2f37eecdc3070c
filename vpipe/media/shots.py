"""Where a film cuts from one shot to the next, from small grey pictures of its frames, as they are decoded.

At a cut the picture before explains nothing of the picture after. Motion does not look like that: every part
of the picture is found again a little way off. So each of 12 blocks is searched in the frame before, and a
cut is where blocks are not found, where they were found in the frames around it, and where what was there
before does not come back (as it does after a flash or a lost frame). Dissolves are no cuts: each frame is
like its neighbours.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vpipe.timeline import seconds

if TYPE_CHECKING:
    import av

WIDTH, HEIGHT = 64, 48  # px of the small pictures, whatever the shape of the video
BLOCK, REACH = 16, 10  # px: side of a block, and how far off it is searched
ROWS_PER_ROW = 2  # rows of the frame that are averaged into a row of the small picture: the rest is not read
AT_LEAST = 7.0  # grey levels (of 255) of mean difference below which nothing is searched: the same picture
FLAT = 3.0  # grey levels of standard deviation: blocks below have nothing to search for
FOUND = 0.7  # likeness from which the frame before explains this one
FOUND_ALONE = (
    0.85  # the same where hardly anything changes in the frames around: soft pictures are much alike
)
ALONE = 5.0  # change at such a cut, over the greatest change around
BACK = 0.15  # likeness to what was before a flash, over that of the flash itself
OUTLIER = 1.5  # what is not found at a cut, over what is not found in the frames around it
AROUND = 3  # frames before and after that a cut is compared with: it is known this many frames later
LATEST_S = 0.5  # behind the frame before: what comes later still is no matter of motion
FASTEST = 2.0  # motion over that of a frame around, at most, for coming later after the one before
SOFT_S = 0.25  # frames around but the nearest two count only within this time: at low rates all moves far


@dataclass(frozen=True)
class Cut:
    """The first frame of a new shot."""

    frame: int
    time_s: float


@dataclass(frozen=True)
class Shot:
    """A stretch between cuts; end_frame is exclusive."""

    start_s: float
    end_s: float
    start_frame: int
    end_frame: int

    def to_json(self) -> dict[str, float | int]:
        return {
            "start_s": seconds(self.start_s),
            "end_s": seconds(self.end_s),
            "start_frame": self.start_frame,
            "end_frame": self.end_frame,
        }


def small_picture(frame: av.VideoFrame) -> NDArray[np.uint8]:
    """(HEIGHT, WIDTH) grey picture of a decoded frame, as stored: neither turned nor in full range."""
    plane, layout = frame.planes[0], frame.format
    components = layout.components
    depth = components[0].bits if components else 8
    packed = len(frame.planes) == 1 and len(components) > 1
    if layout.name.startswith("pal") or layout.is_bit_stream or depth > 16 or (packed and depth > 8):
        return _shrunk(frame.to_ndarray(format="gray"))
    memory: Any = plane
    samples = np.frombuffer(memory, np.uint16 if depth > 8 else np.uint8).reshape(plane.height, -1)
    per_pixel = layout.padded_bits_per_pixel // 8 if packed else 1
    # Of packed pixels the first byte: luma, or a colour.
    # As many rows as are wanted, evenly: several times faster to average than another number.
    rows = samples[np.arange(HEIGHT * ROWS_PER_ROW) * plane.height // (HEIGHT * ROWS_PER_ROW)]
    small = _shrunk(rows[:, : plane.width * per_pixel : per_pixel])
    return (small >> (depth - 8)).astype(np.uint8) if depth > 8 else small


def _shrunk(grey: NDArray[Any]) -> NDArray[Any]:
    height, width = grey.shape
    if height == ROWS_PER_ROW * HEIGHT and width >= 4 * WIDTH and width % 2 == 0:
        # By halves first, which OpenCV does many pixels at a time: several times faster than any other share.
        grey = cv2.resize(grey, (width // 2, HEIGHT), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(grey, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA))


def likeness(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> float:
    """How much of `after` is found in `before`, in [0, 1]: the correlation of each block with the best place
    within REACH, averaged by contrast. Brightness does not matter.
    """
    found = total = 0.0
    for top in range(0, HEIGHT, BLOCK):
        for left in range(0, WIDTH, BLOCK):
            block = after[top : top + BLOCK, left : left + BLOCK]
            around = before[
                max(0, top - REACH) : top + BLOCK + REACH, max(0, left - REACH) : left + BLOCK + REACH
            ]
            here = before[top : top + BLOCK, left : left + BLOCK]
            contrast = float(block.std())
            weight = max(contrast, float(here.std()), 1.0)
            if contrast >= FLAT:
                best = float(cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED).max())
                found += weight * max(0.0, best)
            elif abs(float(block.mean()) - float(around.mean())) < 4 * FLAT and here.std() < 2 * FLAT:
                found += weight
            total += weight
    return found / total


class ShotDetector:
    """Takes frames in order; `add` and `close` return the cuts, each known AROUND of them later."""

    def __init__(self) -> None:
        self._recent: deque[_Frame] = deque(maxlen=2 * AROUND + 2)
        self._frames = 0

    @property
    def decided_s(self) -> float:
        """Before this time all cuts are known."""
        return self._recent[max(-AROUND, -len(self._recent))].time_s if self._recent else 0.0

    def add(self, picture: NDArray[np.uint8], index: int, time_s: float) -> list[Cut]:
        """The cuts that are known with this frame: none or one."""
        change = cv2.norm(self._recent[-1].picture, picture, cv2.NORM_L1) if self._recent else 0.0
        self._recent.append(_Frame(picture, index, time_s, change / picture.size))
        self._frames += 1
        return self._judge(AROUND) if self._frames > AROUND else []

    def close(self) -> list[Cut]:
        """The cuts in the last frames."""
        return [cut for ahead in range(min(AROUND, self._frames) - 1, -1, -1) for cut in self._judge(ahead)]

    def _judge(self, ahead: int) -> list[Cut]:
        """Whether the frame `ahead` frames before the last begins a shot."""
        place = len(self._recent) - 1 - ahead
        frame = self._recent[place]
        around = [
            i
            for i in range(max(1, place - AROUND), min(len(self._recent), place + AROUND + 1))
            if i != place and (abs(i - place) <= 2 or abs(self._recent[i].time_s - frame.time_s) <= SOFT_S)
        ]
        # Searching costs a hundred times what the change costs, so it is for the greatest change around only.
        most = max((self._recent[i].change for i in around), default=0.0)
        if place < 1 or not around or frame.change < most:
            return []  # two frames alone are no two shots: nothing says how much moves here
        here = self._unlike(place)
        explained = FOUND_ALONE if frame.change > ALONE * most else FOUND
        if here <= 1 - explained or any(self._unlike(i) * OUTLIER > here for i in around):
            return []
        if self._explained_by_gap(place, here):
            return []
        later = min(place + 2, len(self._recent) - 1)
        if later > place:
            back = likeness(self._recent[place - 1].picture, self._recent[later].picture)
            if back >= FOUND and back > 1 - here + BACK:
                return []  # a flash: what was there before is back
        return [Cut(frame.index, frame.time_s)]

    def _explained_by_gap(self, place: int, here: float) -> bool:
        """Whether motion as fast as before and after makes a picture so new that comes so late."""
        if not 0 < self._gap_s(place) <= LATEST_S:
            return False
        sides = (
            range(max(1, place - AROUND), place),
            range(place + 1, min(len(self._recent), place + 1 + AROUND)),
        )
        return (
            sum(max((self._expected(i, place) for i in side), default=0.0) for side in sides) / 2 * OUTLIER
            > here
        )

    def _expected(self, i: int, place: int) -> float:
        """What would not be found in frame `place` if all moved as it does in frame i."""
        longer = self._gap_s(place) / self._gap_s(i) if self._gap_s(i) > 0 else FASTEST
        return self._searched(i) * min(longer, FASTEST)

    def _gap_s(self, place: int) -> float:
        return self._recent[place].time_s - self._recent[place - 1].time_s

    def _unlike(self, place: int) -> float:
        """What of a frame is not found in the one before it, in [0, 1]."""
        return 0.0 if self._recent[place].change <= AT_LEAST else self._searched(place)

    def _searched(self, place: int) -> float:
        frame = self._recent[place]
        if frame.unlike is None:
            frame.unlike = 1 - likeness(self._recent[place - 1].picture, frame.picture)
        return frame.unlike


@dataclass
class _Frame:
    picture: NDArray[np.uint8]
    index: int
    time_s: float
    change: float  # from the frame before, mean grey levels
    unlike: float | None = None


def shots(cuts: Sequence[Cut], frames: int, duration_s: float) -> list[Shot]:
    """The shots between the cuts of a video."""
    borders = [Cut(0, 0.0), *cuts, Cut(frames, duration_s)]
    return [Shot(a.time_s, b.time_s, a.frame, b.frame) for a, b in pairwise(borders)]
