"""Where extracted frames go: a folder of pictures with frames.csv, or one HDF5 file of JPEG bytes."""

from __future__ import annotations

import csv
import json
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from vpipe.errors import InputError
from vpipe.media.frame import Frame

Kind = Literal["jpg", "png", "h5"]
MANIFEST = ".vpipe-extract.json"  # in a finished folder: what it was made from
MANIFEST_ATTRIBUTE = "vpipe_extract"  # the same in a finished HDF5 file
WRITE_BYTES = 4 << 20  # JPEG bytes gathered for one write to HDF5
MAX_SIDE_PX = 65500  # of a JPEG or PNG that OpenCV writes
NO_PTS = np.iinfo(np.int64).min  # in the HDF5 file, where a frame has no PTS


def encode_image(image: NDArray[np.uint8], kind: Kind, quality: int) -> bytes:
    """uint8 (H, W, 3) RGB as the bytes of a PNG file (png) or a JPEG file (jpg, h5). Raises InputError."""
    options = [] if kind == "png" else [cv2.IMWRITE_JPEG_QUALITY, quality]
    suffix = ".png" if kind == "png" else ".jpg"
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise InputError(
            "cannot_encode", f"a {image.shape[1]}x{image.shape[0]} frame does not fit in a {suffix}"
        )
    return bytes(data)


class Sink:
    """Where encoded pictures go, in order."""

    written = 0

    def add(self, frame: Frame, data: bytes) -> None:
        """Append one encoded picture."""
        raise NotImplementedError

    def finish(self, manifest: dict[str, Any]) -> None:
        """Everything is there: write the tables and the manifest."""
        raise NotImplementedError

    def close(self) -> None:
        """Close files; may be called twice."""
        raise NotImplementedError


class FolderSink(Sink):
    """One file per picture, and frames.csv."""

    def __init__(self, folder: Path, file_name: Callable[[int], str]) -> None:
        folder.mkdir()
        self._folder, self._file_name = folder, file_name
        self._table = open(folder / "frames.csv", "w", newline="", encoding="utf-8")  # noqa: SIM115
        self._rows = csv.writer(self._table, lineterminator="\n")
        self._rows.writerow(("index", "pts", "time_s", "file"))

    def add(self, frame: Frame, data: bytes) -> None:
        name = self._file_name(self.written)
        (self._folder / name).write_bytes(data)
        pts = "" if frame.pts is None else frame.pts
        self._rows.writerow((frame.index, pts, f"{float(frame.time_s):.6f}", name))
        self.written += 1

    def finish(self, manifest: dict[str, Any]) -> None:
        self.close()
        (self._folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")

    def close(self) -> None:
        self._table.close()


class Hdf5Sink(Sink):
    """`jpeg` (all JPEG files end to end), `offsets` (n + 1), `index`, `pts`, `time_s` (n each)."""

    def __init__(self, path: Path) -> None:
        self._file = h5py.File(path, "w", libver="v110")
        self._bytes = self._file.create_dataset(
            "jpeg", shape=(0,), maxshape=(None,), dtype="u1", chunks=(1 << 20,)
        )
        self._gathered = bytearray()
        self._offsets = array("q", [0])
        self._index, self._pts, self._times = array("q"), array("q"), array("d")

    def add(self, frame: Frame, data: bytes) -> None:
        self._gathered += data
        self._offsets.append(self._offsets[-1] + len(data))
        self._index.append(frame.index)
        self._pts.append(NO_PTS if frame.pts is None else frame.pts)
        self._times.append(float(frame.time_s))
        self.written += 1
        if len(self._gathered) >= WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        start = self._bytes.shape[0]
        self._bytes.resize((start + len(self._gathered),))
        self._bytes[start:] = np.frombuffer(bytes(self._gathered), np.uint8)
        self._gathered.clear()

    def finish(self, manifest: dict[str, Any]) -> None:
        self._flush()
        tables = {"offsets": self._offsets, "index": self._index, "pts": self._pts, "time_s": self._times}
        for name, values in tables.items():
            self._file.create_dataset(name, data=np.array(values))
        self._file.attrs[MANIFEST_ATTRIBUTE] = json.dumps(manifest)
        self.close()

    def close(self) -> None:
        self._file.close()


def read_manifest(path: Path, kind: Kind) -> Any:
    """The manifest of a finished output. Raises OSError, KeyError or ValueError where it is not one."""
    if kind == "h5":
        with h5py.File(path, "r") as file:
            return json.loads(file.attrs[MANIFEST_ATTRIBUTE])
    return json.loads((path / MANIFEST).read_text(encoding="utf-8"))
