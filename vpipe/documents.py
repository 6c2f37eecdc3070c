"""Text files that people and other tools write: read whole, but not without end."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import BinaryIO

# As large as such a file can sensibly be; what is larger is no such file, or has no end (/dev/zero).
SMALL_BYTES = 16 << 20  # recipes, labels, settings, descriptions
LARGE_BYTES = 2 << 30  # ground truth, predictions, lists of inputs
_BLOCK_BYTES = 1 << 24


def read_document(source: Path | BinaryIO, most_bytes: int = SMALL_BYTES) -> bytes:
    """All bytes of a file, fifo or open file. Raises OSError, also for more than `most_bytes`."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            return read_document(file, most_bytes)
    blocks: list[bytes] = []
    while block := source.read(_BLOCK_BYTES):
        blocks.append(block)
        most_bytes -= len(block)
        if most_bytes < 0:
            raise OSError(errno.EFBIG, "larger than such a file can be")
    return b"".join(blocks)
