"""Keeping freed memory: large tensors come and go every step, and each time new pages are slow to get."""

from __future__ import annotations

import ctypes
import sys

# mallopt parameters of glibc (malloc.h)
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4


def keep_freed_memory(_worker: int = 0) -> None:
    """Tells glibc's malloc to reuse what is freed instead of giving it back; elsewhere does nothing.

    Measured on two virtual cores: a training step on 32 clips of 8 x 96 x 96 fell from 3.0 s to 0.5 s, all of
    the difference being page faults.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 64 * 2**20)
