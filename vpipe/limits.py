"""How much a file may ask for before it is refused: one set for the whole process."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

MAX_PIXELS = 8192 * 8192


def _memory_of_the_machine() -> int:
    """Bytes: physical memory, or the container's share of it."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(total, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return total


def _default_memory() -> int:
    return min(4 << 30, _memory_of_the_machine() // 2)


@dataclass(frozen=True)
class Limits:
    """What one video file may ask for.

    pixels: of one decoded or scaled frame. frames: of one video. streams: of all kinds. metadata_bytes: of
    tags, all streams together. stall_s: seconds without a packet or a frame until a decoder is given up.
    memory_bytes: that a decoder may take beyond what it has when it starts.
    """

    pixels: int = MAX_PIXELS
    frames: int = 10_000_000  # 46 hours at 60 fps; a timeline keeps 16 bytes of each
    streams: int = 100
    metadata_bytes: int = 16 << 20
    stall_s: float = 60.0
    memory_bytes: int = field(default_factory=_default_memory)


_limits = Limits()


def limits() -> Limits:
    """The limits that hold now."""
    return _limits


def set_limits(new: Limits) -> None:
    """Make `new` hold for every file opened from now on."""
    global _limits
    _limits = new
