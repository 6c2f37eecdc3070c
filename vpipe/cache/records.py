"""One flow as it is stored: compressed codes with their checksum. And what all flows of an entry share."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

from vpipe.flow.quantise import Storage

# The lowest that keeps a file under 2.1 times the JPEG pairs and a 14th of float32 (`make bench-cache`).
ZSTD_LEVEL = 3
GROUP = 16  # flows of a packed file that follow from each other

_mine = threading.local()


class DamagedFile(Exception):
    """A cache file, or one flow in it, is not what was written. Never reaches the user as such."""


@dataclass(frozen=True)
class Record:
    """Flow `pair` (from grid frame `pair` to the next), compressed.

    blob: a Zstd frame of the codes (2, H, W) (bytes transposed first where the dtype is wider than one byte:
    HDF5's shuffle). sha256: of the blob. valid: False where a frame was damaged; the flow is zero then.
    clipped: the fraction of its values beyond the bound. fitting_bound_px: 0, or where more than 1 %
    was clipped the bound that would have clipped 1 %.
    """

    pair: int
    blob: bytes
    sha256: bytes
    valid: bool
    clipped: float
    fitting_bound_px: float


@dataclass(frozen=True)
class Grid:
    """The n >= 2 frames that flow runs between: n-1 flows. `size` is (width, height) of the flow in px."""

    frame_index: tuple[int, ...]
    pts: tuple[int, ...]
    time_base: Fraction
    size: tuple[int, int]
    source: Mapping[str, Any]

    @property
    def pairs(self) -> int:
        return len(self.frame_index) - 1

    @property
    def times(self) -> tuple[Fraction, ...]:
        """Seconds since the first frame, ascending."""
        return tuple((pts - self.pts[0]) * self.time_base for pts in self.pts)


def encode(
    pair: int, flow: npt.NDArray[np.float32] | None, storage: Storage, size: tuple[int, int]
) -> Record:
    """Quantise and compress one flow (2, H, W) in px; None is an invalid one, stored as zero."""
    width, height = size
    if flow is None:
        codes = np.full((2, height, width), storage.zero, storage.dtype)
        return encode_codes(pair, codes, storage, valid=False)
    if flow.shape != (2, height, width) or not np.isfinite(flow).all():
        raise ValueError(f"flow {flow.shape} is not finite and (2, {height}, {width})")
    clipped, fitting = storage.clipped(flow), storage.fitting_bound_px(flow)
    return encode_codes(pair, storage.quantise(flow), storage, clipped=clipped, fitting_bound_px=fitting)


def encode_codes(
    pair: int,
    codes: npt.NDArray[Any],
    storage: Storage,
    *,
    valid: bool = True,
    clipped: float = 0.0,
    fitting_bound_px: float = 0.0,
) -> Record:
    """Compress the codes (2, H, W) of one flow."""
    if "compressor" not in _mine.__dict__:
        _mine.compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL)
    blob = _mine.compressor.compress(_shuffle(codes))
    return Record(pair, blob, hashlib.sha256(blob).digest(), valid, clipped, fitting_bound_px)


def decode(
    blob: bytes, sha256: bytes, storage: Storage, size: tuple[int, int], *, what: str
) -> npt.NDArray[Any]:
    """The codes (2, H, W) of a blob, in memory that this thread's next call uses again.

    Raises DamagedFile, naming `what`, where it is not what was written.
    """
    verify(blob, sha256, what=what)
    width, height = size
    expected = 2 * height * width * storage.dtype.itemsize
    if "decompressor" not in _mine.__dict__:
        _mine.decompressor, _mine.buffer = zstandard.ZstdDecompressor(), np.empty(0, np.uint8)
    if _mine.buffer.size != expected:  # fresh memory for each flow would cost as much as reading it
        _mine.buffer = np.empty(expected, np.uint8)
    try:
        # The size is looked at first: nothing is allocated from what a file claims.
        if zstandard.frame_content_size(blob) != expected:
            raise DamagedFile(f"{what}: not a flow of {width}x{height}")
        with _mine.decompressor.stream_reader(blob) as stream:
            if stream.readinto(_mine.buffer) != expected:
                raise DamagedFile(f"{what}: not a flow of {width}x{height}")
    except zstandard.ZstdError as error:
        raise DamagedFile(f"{what}: {error}") from None
    return _unshuffle(_mine.buffer, storage.dtype).reshape(2, height, width)


def verify(blob: bytes, sha256: bytes, *, what: str) -> None:
    """Raises DamagedFile, naming `what`, where `blob` is not the one that was written."""
    if hashlib.sha256(blob).digest() != sha256:
        raise DamagedFile(f"{what}: checksum differs")


def _shuffle(codes: npt.NDArray[Any]) -> bytes:
    if codes.itemsize == 1:
        return codes.tobytes()
    return codes.reshape(-1).view(np.uint8).reshape(-1, codes.itemsize).T.tobytes()


def _unshuffle(data: npt.NDArray[np.uint8], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    if dtype.itemsize == 1:
        return data
    planes = data.reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(planes.T).reshape(-1).view(dtype)
