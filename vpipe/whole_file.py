"""Files and folders that are whole under their name, or not there."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vpipe.errors import EnvironmentFault

_NAME_CHARACTERS = 40  # of the final name, in the one beside: a name that is longest as it is has no room
_numbers = itertools.count()


@contextmanager
def whole(path: Path, *, beside: Path | None = None, lasting: bool = False) -> Iterator[Path]:
    """Gives a name to write a file or folder under, which gets the name `path` when the block ends.

    Where it ends by an exception, nothing of it is left. beside: the name to write under, on the same file
    system. lasting: a file, and its name, outlive a loss of power. A folder takes the place of none. What is
    no file, as /dev/stdout or a fifo, is written to and never replaced. Raises OSError.
    """
    if _is_no_file(path):
        yield path
        return
    if beside is None:
        beside = path.with_name(f".{path.name[:_NAME_CHARACTERS]}.{os.getpid()}-{next(_numbers)}.part")
    try:
        yield beside
        if lasting:
            with open(beside, "rb+") as file:
                os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        _remove(beside)
        raise
    if lasting:
        fsync_dir(path.parent)


def _is_no_file(path: Path) -> bool:
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError):
        return False
    plain = stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    return not plain or os.path.realpath(path.parent) == "/dev" or "/proc/" in os.path.realpath(path.parent)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def fsync_dir(folder: Path) -> None:
    """Make renames and removals in `folder` last, where the file system can."""
    try:
        fd = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)


def write_whole_file(path: Path, data: bytes, way_out: str, *, lasting: bool = False) -> None:
    """Writes `path`, whose folder is made.

    Raises EnvironmentFault `unwritable_output`, which ends with `way_out`; then nothing is left.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path, lasting=lasting) as beside:
            beside.write_bytes(data)
    except OSError as error:
        raise EnvironmentFault(
            "unwritable_output", f"{path}: cannot write ({error.strerror}); {way_out}"
        ) from None
