"""Files that are whole under their name, or not there."""

from __future__ import annotations

import os
from pathlib import Path

from vpipe.errors import EnvironmentFault


def write_whole_file(path: Path, data: bytes, way_out: str) -> None:
    """Writes beside `path`, whose folder is made, and renames.

    Raises EnvironmentFault `unwritable_output`, which ends with `way_out`; then nothing is left.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise EnvironmentFault(
            "unwritable_output", f"{path}: cannot write ({error.strerror}); {way_out}"
        ) from None
