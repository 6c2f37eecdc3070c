"""A pass that is there for a grid of times and for cuts need not decode every frame of a large video.

A picture that no other refers to is left out where it cannot be the one nearest to a time of the grid. Its
neighbours are then both decoded, so a cut is found at its very frame or the one after it; what the grid sees
does not change. With x264's defaults at 30 fps and a grid of 8 fps a third of all frames is left out, and
nearly a third of the time.

    shown    I  b  B  b  P  b  B  b  P       b: no other picture refers to it
    decoded  I  .  B  b  P  .  B  .  P
    grid     |           |           |

Whether a packet is left out follows from those that came before it and itself: from a file and from a stream
it is the same.
"""

from __future__ import annotations

from bisect import bisect, insort
from collections.abc import Callable
from fractions import Fraction

from av.packet import Packet
from av.video.stream import VideoStream

from vpipe.media.upright import much_smaller

GAP_S = Fraction(1, 8)  # between frames that are decoded, at most: beyond, motion and cuts look alike
REMEMBERED = 64  # packets: more than are ever out of order


class Nearest:
    """Which k are nearest to which frame: k / fps, counted from the first frame. All PTS in units of `unit`.

    unit: seconds of a tick. origin: PTS of the first frame.
    """

    def __init__(self, fps: Fraction, unit: Fraction, origin: int) -> None:
        self._step, self._of = (unit * fps).as_integer_ratio()
        self._origin = origin

    def first_not(self, pts: int, following: int | None) -> int:
        """The first k that is not for the frame at `pts` nor for any before it, when the next is `following`;
        the same as `walking.first_not`, in whole numbers."""
        now = (pts - self._origin) * self._step
        if following is None:
            return now // self._of + 1
        coming = (following - self._origin) * self._step
        return max(now + coming, 2 * coming - self._of) // (2 * self._of) + 1


class Thinning:
    """Decides over packets in the order of decoding. Arguments as for `Nearest`."""

    def __init__(self, fps: Fraction, unit: Fraction, origin: int) -> None:
        self._nearest = Nearest(fps, unit, origin)
        self._gap = GAP_S / unit
        self._known: list[int] = []  # PTS of the last packets, sorted
        self.left: set[int] = set()  # PTS of the packets that were left out; the caller may take from them
        self._without: list[int] = []  # the last of them

    def leaves_out(self, pts: int, disposable: bool) -> bool:
        """Whether this packet need not be decoded."""
        place = bisect(self._known, pts)
        before = self._known[place - 1] if place else None
        after = self._known[place] if place < len(self._known) else None
        insort(self._known, pts)
        del self._known[:-REMEMBERED]
        if not disposable or before is None or after is None or after - before > self._gap:
            return False
        if before in self._without or after in self._without:
            return False
        # The neighbours are these or, where others are still to come, nearer ones: then it is for fewer.
        if self._nearest.first_not(before, pts) < self._nearest.first_not(pts, after):
            return False
        self._without = [*self._without[1 - REMEMBERED :], pts]
        self.left.add(pts)
        return True


class Spares:
    """Which frames of a pass that decodes all of them a `Thinning` would leave out.

    disposable: as `Disposable`. told: whether in this container packets are frames with times of their own.
    """

    def __init__(self, disposable: Callable[[Packet[VideoStream]], bool], *, told: bool) -> None:
        self._disposable = disposable
        # PTS, disposable: of packets that were not looked at yet. None: frames are decoded all from here on.
        self._packets: list[tuple[int, bool]] | None = [] if told else None
        self._thinning: Thinning | None = None

    def see(self, packet: Packet[VideoStream]) -> bool:
        """Takes every packet in the order of decoding; True, as each is decoded."""
        if self._packets is not None and packet.pts is not None and not packet.is_discard:
            self._packets.append((packet.pts, self._disposable(packet)))
        else:
            self._packets = None
        return True

    def begin(self, fps: Fraction | None, unit: Fraction, origin: int | None) -> None:
        """Before the first `spare`: what `Thinning` takes; no `fps`: all frames are needed."""
        if fps is None or not self._packets or self._packets[0][0] != origin:
            self._packets = None
        else:
            self._thinning = Thinning(fps, unit, self._packets[0][0])

    def spare(self, pts: int | None, *, damaged: bool) -> bool:
        """Whether the frame at `pts`, the next that is shown, would be left out; none is behind damage."""
        if damaged:
            self._packets = None
        if self._packets is None or self._thinning is None:
            return False
        for packet in self._packets:
            self._thinning.leaves_out(*packet)
        self._packets.clear()
        left = pts in self._thinning.left
        self._thinning.left.discard(pts)
        return left


def may_be_thinned(size: tuple[int, int] | None, stored: tuple[int, int], fps: Fraction | None) -> bool:
    """Whether frames serve but a grid and cuts: pictures of the size `stored` become much smaller, `size`."""
    return size is not None and fps is not None and much_smaller(size, stored)
