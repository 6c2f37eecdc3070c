"""Feature files as they are written: whole, or not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vpipe.errors import EnvironmentFault
from vpipe.recognition.features_file import write_features

PAGE = 4096
TABLE = np.ones((3, PAGE // 4), dtype=np.float32)
TIMES = {name: [0.0, 1.0, 2.0] for name in ("start_s", "centre_s", "end_s")}


def test_a_table_is_what_numpy_writes(tmp_path: Path) -> None:
    write_features(tmp_path / "v.npy", TABLE, TIMES)
    np.save(tmp_path / "numpy.npy", TABLE)
    assert (tmp_path / "v.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


@pytest.mark.parametrize(
    ("suffix", "pages", "frames"), [(".npy", 2, 0), (".npy", 5, PAGE), (".h5", 2, 0), (".h5", 5, PAGE)]
)
def test_a_full_disk_leaves_nothing(
    tmpfs: Callable[[int], Path], suffix: str, pages: int, frames: int
) -> None:
    """No room for the table, or none for the JSON beside it."""
    folder = tmpfs(pages * PAGE)
    with pytest.raises(EnvironmentFault) as caught:
        write_features(folder / f"v{suffix}", TABLE, {**TIMES, "frame_pts": list(range(frames))})
    assert list(folder.iterdir()) == []
    assert f"v{suffix}: cannot be written: " in caught.value.message
    assert "o space left" in caught.value.message
