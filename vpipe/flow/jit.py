"""Compiled kernels: numba with this project's options, kept on disk in a folder of our own."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import platformdirs
from numba.core import config as _config

# Set from the environment at run time, so that type checkers do not know its fields.
config: Any = _config

# Files that kernels of other files call into.
_SHARED = (
    "jit.py",
    "simd.py",
    "median_kernel.py",
    "tvl1_planes.py",
    "tvl1_iterations.py",
    "tvl1_pictures.py",
)

log = logging.getLogger(__name__)


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or None where no such folder can be written.

    Numba sees an edit of a kernel's own file, not of what it imports. So the folder's name holds a digest of
    all that is shared.
    """
    digest = hashlib.sha256()
    for source in _SHARED:
        digest.update(Path(__file__).with_name(source).read_bytes())
    folder = platformdirs.user_cache_path("vpipe") / "kernels" / digest.hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
        if not any(folder.rglob("*.nbi")):
            log.warning("compiling the flow kernels, once on this machine: some seconds")
    except OSError as error:
        log.warning(
            "%s: kernels cannot be kept there (%s): they compile on every run", folder, error.strerror
        )
        return None
    return folder


def kernel(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Decorates a kernel: numba.njit without the GIL, division as in C, and kept on disk."""

    def decorate(function: Callable[..., Any]) -> Any:
        folder = cache_folder()
        before = config.CACHE_DIR
        config.CACHE_DIR = os.fspath(folder) if folder else ""
        try:
            return numba.njit(nogil=True, error_model="numpy", cache=folder is not None, **options)(function)
        finally:
            config.CACHE_DIR = before  # it belongs to all users of numba in this process

    return decorate
