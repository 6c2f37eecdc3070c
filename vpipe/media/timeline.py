"""When each frame is shown: from packets where that is safe, else by decoding the whole stream once."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import overload

from vpipe.media.info import VideoInfo

# Short videos are decoded for their timeline all the same, about 0.2 s: only decoding shows lost frames.
EXACT_BUDGET_PX = 64_000_000
# A longer stop between two frames is taken for a broken clock: holding the frame would make endless work.
MAX_HOLD_S = 3600


class Times(Sequence[Fraction]):
    """Seconds of each frame, the first at 0, as a sequence that keeps 8 bytes a frame.

    ticks: non-decreasing integers; unit: seconds per tick.
    """

    def __init__(self, ticks: Sequence[int], unit: Fraction) -> None:
        self.ticks = ticks
        self.unit = unit

    def __len__(self) -> int:
        return len(self.ticks)

    @overload
    def __getitem__(self, index: int) -> Fraction: ...
    @overload
    def __getitem__(self, index: slice) -> list[Fraction]: ...
    def __getitem__(self, index: int | slice) -> Fraction | list[Fraction]:
        if isinstance(index, slice):
            return [self._at(tick) for tick in self.ticks[index]]
        return self._at(self.ticks[index])

    def __iter__(self) -> Iterator[Fraction]:
        return map(self._at, self.ticks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _at(self, tick: int) -> Fraction:
        return (tick - self.ticks[0]) * self.unit


@dataclass(frozen=True)
class Timeline:
    """The times of all frames of a stream.

    times: seconds from the first frame, non-decreasing. pts: as stored, None where missing.
    exact: counted by decoding; False: taken from the packets, so that damage may still take frames away.
    last_duration_s: how long the last frame stays, seconds.
    from_index: times are index / rate, because PTS are missing, do not rise or leap.
    held: frames whose PTS is missing or steps back, which keep the time of the one before.
    """

    times: Times
    pts: Sequence[int | None]
    exact: bool
    last_duration_s: Fraction
    from_index: bool = False
    held: int = 0

    def __len__(self) -> int:
        return len(self.times)

    @property
    def duration_s(self) -> Fraction:
        """From the first frame to the end of the last, seconds."""
        return self.times[-1] + self.last_duration_s

    @property
    def variable_rate(self) -> bool:
        """Whether frame intervals differ by more than the rounding of the container's clock."""
        gaps = [b - a for a, b in pairwise(self.times.ticks)]
        return bool(gaps) and max(gaps) - min(gaps) > max(2, min(gaps) // 20)

    def grid(self, fps: Fraction | None) -> list[int]:
        """The frame shown at k / fps for k = 0 .. floor(last time x fps); None: every frame once.

        That is the last frame whose time is <= k / fps, so frames repeat or are left out.
        """
        if fps is None:
            return list(range(len(self)))
        shown: list[int] = []
        for index, time in enumerate(self.times):
            first = first_tick(time, fps)
            if index and first > len(shown):
                shown.extend([index - 1] * (first - len(shown)))
        shown.extend([len(self) - 1] * (floor(self.times[-1] * fps) + 1 - len(shown)))
        return shown


def check_indices(indices: Sequence[int], frames: int) -> None:
    """Raises ValueError for indices that do not ascend or are not of a video of so many frames."""
    if any(b < a for a, b in pairwise(indices)):
        raise ValueError("indices must ascend")
    if indices and (indices[0] < 0 or indices[-1] >= frames):
        raise ValueError(f"indices must be in 0..{frames - 1}")


def first_tick(time_s: Fraction, fps: Fraction) -> int:
    """The first k with k / fps >= time: where a frame of this time can first be shown."""
    return ceil(time_s * fps)


@dataclass(frozen=True)
class PacketScan:
    """All packets of a stream, read without decoding.

    pts: ascending; keys: positions in pts where decoding may start; safe: whether one packet is one frame
    and the index may be used.
    """

    pts: array[int]
    keys: list[int]
    safe: bool
    last_duration: int  # in time base units; 0 where unknown
    discarded: int
    packets: int


def timeline_from_packets(scan: PacketScan, info: VideoInfo) -> Timeline:
    """The timeline of a safe scan."""
    times = Times(scan.pts, info.time_base)
    return Timeline(times, scan.pts, False, _last_duration(times, scan.last_duration * info.time_base, info))


def timeline_from_frames(
    pts: Sequence[int | None], last_duration_s: Fraction, info: VideoInfo, *, trusted: bool
) -> Timeline:
    """The timeline of frames that were all decoded; `trusted` as in `timeline_by_decoding`."""
    known = [value for value in pts if value is not None]
    if trusted and known:
        ticks = array("q", known[:1])
        held = 0
        for value in pts[1:]:
            held += value is None or value < ticks[-1]
            ticks.append(ticks[-1] if value is None else max(ticks[-1], value))
        times = Times(ticks, info.time_base)
        return Timeline(times, pts, True, _last_duration(times, last_duration_s, info), held=held)
    rises = len(known) == len(pts) and all(a < b for a, b in pairwise(known))
    if rises and not leaps(known, info.time_base):
        times = Times(array("q", known), info.time_base)
    else:
        times = Times(range(len(pts)), 1 / info.rate)
        return Timeline(times, pts, True, 1 / info.rate, from_index=True)
    return Timeline(times, pts, True, _last_duration(times, last_duration_s, info))


def leaps(pts: Sequence[int], time_base: Fraction) -> bool:
    """Whether ascending PTS jump further than any frame is shown."""
    most = MAX_HOLD_S / time_base
    return any(b - a > most for a, b in pairwise(pts))


def _last_duration(times: Times, stored: Fraction, info: VideoInfo) -> Fraction:
    """How long the last frame stays: as stored, else as long as the one before it, else 1 / rate."""
    if 0 < stored <= MAX_HOLD_S:
        return stored
    if len(times) > 1 and times[-1] > times[-2]:
        return times[-1] - times[-2]
    return 1 / info.rate
