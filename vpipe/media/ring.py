"""Memory that we and a decoder process share: room for a few frames, filled and emptied in turn.

    decoder ──writes──► slot 0 | slot 1 | ... ──copies──► we

It needs no /dev/shm: it is memory without a name (memfd), or a file without a name where there is no such
thing. Its size is fixed, so that a decoder gone mad cannot pull it from under us.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import tempfile

import numpy as np
from numpy.typing import NDArray

SLOTS = 16
RING_BYTES = 16 << 20  # fewer slots for large frames, but two
_NO_SUCH_CALL = (errno.ENOSYS, errno.EPERM, errno.EINVAL)


def slots_for(frame_bytes: int) -> int:
    """How many frames of a size a ring has room for."""
    return max(2, min(SLOTS, RING_BYTES // frame_bytes))


class Ring:
    """`slots` frames of uint8 `shape` in shared memory. Made by us, and opened by the decoder from `fd`."""

    def __init__(self, shape: tuple[int, ...], slots: int, fd: int | None = None) -> None:
        self.shape, self.slots = shape, slots
        self._frame_bytes = int(np.prod(shape))
        self.fd = _unnamed_memory(slots * self._frame_bytes) if fd is None else fd
        try:
            self._memory = mmap.mmap(self.fd, slots * self._frame_bytes)
        except BaseException:
            os.close(self.fd)
            raise

    def close_fd(self) -> None:
        """The memory stays: only its descriptor goes."""
        os.close(self.fd)

    def close(self) -> None:
        self._memory.close()

    def put(self, slot: int, image: NDArray[np.uint8]) -> None:
        """Copy a frame in."""
        if image.shape != self.shape:
            raise ValueError(f"a frame of {image.shape} in a ring of {self.shape}")
        start = slot * self._frame_bytes
        self._memory[start : start + self._frame_bytes] = image.data.cast("B")

    def take(self, slot: int) -> NDArray[np.uint8]:
        """Copy a frame out: its own memory, C-contiguous."""
        start = slot * self._frame_bytes
        data = np.frombuffer(self._memory, np.uint8, self._frame_bytes, start)
        return data.reshape(self.shape).copy()


def _unnamed_memory(size: int) -> int:
    """A descriptor of `size` bytes of memory. Raises OSError."""
    try:
        fd = os.memfd_create("vpipe-frames", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, PermissionError, NotImplementedError):
        return _unnamed_file(size)
    except OSError as error:
        if error.errno in _NO_SUCH_CALL:
            return _unnamed_file(size)
        raise
    try:
        os.ftruncate(fd, size)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _unnamed_file(size: int) -> int:
    with tempfile.TemporaryFile(prefix="vpipe-frames-") as file:
        os.posix_fallocate(file.fileno(), 0, size)  # a full disk says so here, not by a signal later
        return os.dup(file.fileno())
