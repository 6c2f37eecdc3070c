"""Writing that survives a crash, and the faults of a cache folder said so that a user can act on them."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from vpipe.errors import EnvironmentFault
from vpipe.whole_file import whole

# What looking for a file below the cache raises where it is not there; the latter where a file is in the way,
# which whoever writes finds out.
ABSENT = (FileNotFoundError, NotADirectoryError)
WAY_OUT = "choose another folder with --cache-dir DIR or VPIPE_CACHE_DIR"


def write_atomic(path: Path, pieces: Iterable[bytes], *, beside: Path) -> None:
    """Write `path` so that it is whole or absent and lasts, by way of `beside` (same file system)."""
    with whole(path, beside=beside, lasting=True) as place, open(place, "wb") as out:
        for piece in pieces:
            out.write(piece)


@contextmanager
def cache_faults(root: Path, needed: Callable[[], int] | None = None) -> Iterator[None]:
    """Turn an OSError met in the cache into an EnvironmentFault that names the folder.

    needed(): about how many bytes it would still take, asked where there is no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            room = "" if needed is None else f"about {megabytes(needed())} more are needed; "
            what = "the quota is used up" if error.errno == errno.EDQUOT else "no space left"
            raise EnvironmentFault(
                "disk_full",
                f"{root}: {what} for the flow cache: {room}what is finished is kept. Free some room and run "
                f"again to go on, or {WAY_OUT}",
            ) from error
        raise EnvironmentFault(
            "cache_unwritable", f"{root}: cannot use the flow cache ({error.strerror or error}); {WAY_OUT}"
        ) from error


def megabytes(size: float) -> str:
    """Bytes for people: "312.0 kB", "4.3 MB", "12.0 GB"."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"
