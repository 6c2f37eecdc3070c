"""Which clips of a video a model looks at.

Models learn at a rate of their own (8 grid frames a second for the packaged ones), so clips are cut from
a grid in time and not from frame numbers: grid frame k is the frame shown at k / fps seconds, whatever
the video's rate.

    time       0 s                                1 s                                2 s
    grid       0   1   2   3   4   5   6   7   8   9   10  11  12  13  14  15  16
    clip 0     [---------------------------]                        starts at 0, spans 8 grid frames
    clip 1                 [---------------------------]            starts at 3
    flows      0-1 1-2 2-3 3-4 4-5 5-6 6-7                          clip 0 in a flow stream: its 7 pairs
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ClipPlan:
    """Clips over a grid of `grid_length` frames, each `clip_length` grid frames long, by ascending start."""

    grid_length: int
    clip_length: int
    starts: tuple[int, ...]

    def frames(self, start: int) -> list[int]:
        """Grid frames of the clip that begins at `start`; past the end the last one repeats."""
        return [min(k, self.grid_length - 1) for k in range(start, start + self.clip_length)]

    def pairs(self, start: int) -> list[int | None]:
        """Flows of that clip (pair k goes from grid frame k to k + 1); None, no motion, past the end."""
        inside = self.grid_length - 1
        return [k if k < inside else None for k in range(start, start + self.clip_length - 1)]


def plan_clips(grid_length: int, clip_length: int, *, clips: int, twice: bool = False) -> ClipPlan:
    """`clips` clips spread evenly over the video, each in the middle of its share of the possible starts.

    `twice` adds a second set that begins where the shares begin (TSM's twice-sample). A short video has fewer
    starts than that; no clip is taken twice.
    """
    if min(grid_length, clip_length, clips) < 1:
        raise ValueError("grid_length, clip_length and clips are at least 1")
    possible = max(1, grid_length - clip_length + 1)
    share = possible / clips
    starts = {int(share / 2 + share * i) for i in range(clips)}
    if twice:
        starts |= {int(share * i) for i in range(clips)}
    return ClipPlan(grid_length, clip_length, tuple(sorted(starts)))
