"""Generated videos whose motion is known, frame by frame, and small recipes to compute it with."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import h5py
import hdf5plugin  # noqa: F401  (makes HDF5 read Zstd)
import numpy as np

from vpipe.flow.params import FlowParams
from vpipe.media.writer import VideoWriter

DIS = FlowParams.preset("accurate", method="dis")
SIZE = (128, 96)  # width, height


def write_moving(
    path: Path,
    shifts_px: Sequence[float],
    *,
    times: Sequence[Fraction] | None = None,
    fps: Fraction = Fraction(10),
    size: tuple[int, int] = SIZE,
) -> Path:
    """A video of one frame more than shifts: between frames i and i+1 content moves right by shifts_px[i]."""
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (48, 160), np.uint8).astype(np.float32)
    canvas = cv2.resize(noise, (size[0] * 4, size[1] * 2), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    positions = np.cumsum([0.0, *shifts_px])
    with VideoWriter(path, *size, fps=fps, crf=6) as video:
        for k, position in enumerate(positions):
            matrix = np.array([[1, 0, size[0] * 1.5 - position], [0, 1, size[1] / 2]])
            gray = cv2.warpAffine(canvas, matrix, size, flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
            rgb = np.repeat(np.rint(gray).astype(np.uint8)[..., None], 3, 2)
            video.write(rgb, None if times is None else times[k])
    return path


def contents(path: Path) -> dict[str, bytes]:
    """Everything in a sealed file but @volatile: what must be equal after equal work."""
    with h5py.File(path) as h5:
        found = {name: h5[name][()].tobytes() for name in h5}
        found |= {f"@{name}": bytes(h5.attrs[name]) for name in h5.attrs if name != "volatile"}
        offsets: list[tuple[int, ...]] = []
        h5["flow"].id.chunk_iter(lambda c: offsets.append((*c.chunk_offset, c.byte_offset, c.size)))
        found["offsets"] = repr(offsets).encode()
    return found


def strays(root: Path) -> list[Path]:
    """Files in a cache that are neither sealed flow nor remembered digests."""
    return [
        path
        for path in root.rglob("*")
        if path.is_file() and not path.name.endswith(".flow.h5") and path.parent.name != "sources"
    ] + list(root.rglob("*.work"))
