"""The sealed file: every flow of one video under one recipe, in HDF5.

    flow         (n-1, 2, H, W) uint8 or int16, chunk (1, 2, H, W), [shuffle,] Zstd; u (right), then v (down);
                 px = (code - zero) * scale, both attributes of it
    valid        (n-1,) uint8     0 where a frame was damaged (that flow is zero)
    clipped      (n-1,) float64   fraction of the values beyond the bound
    flow_sha256  (n-1, 32) uint8  of the bytes of the chunk as stored (compressed)
    frame_index  (n,) int64       decoded frame (0-based) that each grid frame is; flow k goes from k to k+1
    pts          (n,) int64       in units of the manifest's time_base
    time_s       (n,) float64     since the first frame
    @manifest         canonical JSON: source, recipe, versions, storage, and the SHA-256 of every table above
    @manifest_sha256  of the bytes of the manifest, hex
    @volatile         JSON padded with NUL to 1024 bytes: when, where and from which file name it was made

Equal work gives equal bytes but for @volatile (and HDF5's own checksum of the header it sits in).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import weakref
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt
import zstandard

from vpipe.cache.keys import canonical_json
from vpipe.cache.records import ZSTD_LEVEL, DamagedFile, Grid, Record, decode, verify
from vpipe.flow.quantise import Storage

FORMAT = "vpipe.flow/1"
_LIBVER = ("v110", "v110")  # readable by every HDF5 since 1.10 (2016); its index and headers carry checksums
_VOLATILE_BYTES = 1024
_TABLES = ("valid", "clipped", "flow_sha256", "frame_index", "pts", "time_s")


def write_sealed(
    path: Path,
    records: Iterable[Record],
    grid: Grid,
    storage: Storage,
    recipe: Mapping[str, Any],
    volatile: Mapping[str, str],
) -> None:
    """Write all n-1 records, which come in pair order, to a new file and fsync it. Memory stays flat.

    recipe: {"key", "decode", "flow", "engine"}, JSON-safe.
    """
    width, height = grid.size
    shape = (grid.pairs, 2, height, width)
    flow_tables: dict[str, npt.NDArray[Any]] = {
        "valid": np.zeros(grid.pairs, np.uint8),
        "clipped": np.zeros(grid.pairs, "<f8"),
        "flow_sha256": np.zeros((grid.pairs, 32), np.uint8),
    }
    with h5py.File(path, "w", libver=_LIBVER, locking=False) as h5:
        flow = h5.create_dataset(
            "flow",
            shape=shape,
            dtype=storage.dtype,
            chunks=(1, *shape[1:]),
            shuffle=storage.dtype.itemsize > 1,
            compression=hdf5plugin.Zstd(clevel=ZSTD_LEVEL[storage.kind]),
        )
        # float32, so that codes in float32 stay that when a reader applies them.
        flow.attrs["scale"] = np.float32(storage.scale)
        flow.attrs["zero"] = np.float32(storage.zero)
        count = 0
        for count, record in enumerate(records, 1):
            if record.pair != count - 1:
                raise ValueError(f"flow {record.pair} came in place of {count - 1}")
            flow.id.write_direct_chunk((record.pair, 0, 0, 0), record.blob)
            flow_tables["valid"][record.pair] = record.valid
            flow_tables["clipped"][record.pair] = record.clipped
            flow_tables["flow_sha256"][record.pair] = np.frombuffer(record.sha256, np.uint8)
        if count != grid.pairs:
            raise ValueError(f"{count} flows came of {grid.pairs}")
        tables = flow_tables | _grid_tables(grid)
        for name in _TABLES:
            h5.create_dataset(name, data=tables[name])
        manifest = canonical_json(_manifest(grid, storage, recipe, tables)).encode()
        h5.attrs["manifest"] = np.bytes_(manifest)
        h5.attrs["manifest_sha256"] = np.bytes_(hashlib.sha256(manifest).hexdigest())
        note = canonical_json(dict(volatile)).encode()
        note = note if len(note) <= _VOLATILE_BYTES else b"{}"
        h5.attrs["volatile"] = np.array(note, f"S{_VOLATILE_BYTES}")  # of one length: nothing moves with it
    with open(path, "rb") as written:
        os.fsync(written.fileno())


def _grid_tables(grid: Grid) -> dict[str, npt.NDArray[Any]]:
    return {
        "frame_index": np.array(grid.frame_index, "<i8"),
        "pts": np.array(grid.pts, "<i8"),
        "time_s": np.array([float(time) for time in grid.times], "<f8"),
    }


def _manifest(
    grid: Grid, storage: Storage, recipe: Mapping[str, Any], tables: Mapping[str, npt.NDArray[Any]]
) -> dict[str, Any]:
    width, height = grid.size
    codec = {"id": "zstd", "level": ZSTD_LEVEL[storage.kind], "shuffle": storage.dtype.itemsize > 1}
    return {
        "format": FORMAT,
        **recipe,
        "source": dict(grid.source),
        "storage": storage.to_dict() | {"codec": codec | {"version": _zstd_version()}},
        "shape": [grid.pairs, 2, height, width],
        "time_base": str(grid.time_base),
        "clipped": float(tables["clipped"].mean()),
        "invalid": int(grid.pairs - tables["valid"].sum()),
        "tables": {name: _digest(tables[name]) for name in _TABLES},
    }


def _zstd_version() -> str:
    return ".".join(map(str, zstandard.ZSTD_VERSION))


def _digest(table: npt.NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()


class SealedFile:
    """An open sealed file; everything but the flow itself is verified on opening.

    Flow is read with the file's own offsets, past h5py and its global lock: threads may share one object.
    """

    def __init__(self, path: Path, key: str) -> None:
        """Raises DamagedFile where it is not the sealed file of `key`, FileNotFoundError, PermissionError."""
        self.path = path
        self._fd = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._fd)
        try:
            self._load(key)
        except DamagedFile:
            raise
        except Exception as error:  # h5py answers damage with OSError, KeyError, RuntimeError, ValueError ...
            raise DamagedFile(f"{path}: {type(error).__name__}: {error}") from None

    def _load(self, key: str) -> None:
        with h5py.File(self.path, "r", locking=False) as h5:
            text = bytes(h5.attrs["manifest"])
            if hashlib.sha256(text).hexdigest().encode() != bytes(h5.attrs["manifest_sha256"]):
                raise DamagedFile(f"{self.path}: the manifest's checksum differs")
            self.manifest: dict[str, Any] = json.loads(text)
            if self.manifest["format"] != FORMAT or self.manifest["key"] != key:
                raise DamagedFile(f"{self.path}: another format or another video's flow")
            storage = dict(self.manifest["storage"])
            storage.pop("codec")
            self.storage = Storage.from_dict(storage)
            pairs, _, height, width = self.manifest["shape"]
            tables = {name: self._table(h5, name, pairs) for name in _TABLES}
            self.grid = Grid(
                frame_index=tuple(tables["frame_index"].tolist()),
                pts=tuple(tables["pts"].tolist()),
                time_base=Fraction(self.manifest["time_base"]),
                size=(width, height),
                source=self.manifest["source"],
            )
            self.valid = tables["valid"].astype(bool)
            self.clipped = tables["clipped"]
            self._sha256 = tables["flow_sha256"]
            flow = h5["flow"]
            described = (flow.shape, flow.chunks, flow.dtype, flow.attrs["scale"], flow.attrs["zero"])
            shape = (pairs, 2, height, width)
            if described != (shape, (1, *shape[1:]), *self._meaning()):
                raise DamagedFile(f"{self.path}: the flow is not as the manifest says")
            self._place: dict[int, tuple[int, int]] = {}
            flow.id.chunk_iter(lambda c: self._place.__setitem__(c.chunk_offset[0], (c.byte_offset, c.size)))

    def _meaning(self) -> tuple[np.dtype[Any], np.float32, np.float32]:
        return self.storage.dtype, np.float32(self.storage.scale), np.float32(self.storage.zero)

    def _table(self, h5: Any, name: str, pairs: int) -> npt.NDArray[Any]:
        rows = pairs if name in ("valid", "clipped", "flow_sha256") else pairs + 1
        if len(h5[name]) != rows:  # before it is read: nothing is allocated from what a file claims
            raise DamagedFile(f"{self.path}: the table {name} has not {rows} rows")
        table: npt.NDArray[Any] = h5[name][()]
        if _digest(table) != self.manifest["tables"][name]:
            raise DamagedFile(f"{self.path}: the checksum of the table {name} differs")
        return table

    def damaged(self, pairs: Iterable[int]) -> list[int]:
        """Those of `pairs` whose bytes are not the ones that were written."""
        bad = []
        for pair in pairs:
            try:
                verify(self._blob(pair), bytes(self._sha256[pair]), what=str(self.path))
            except DamagedFile:
                bad.append(pair)
        return bad

    def records(self, pairs: Iterable[int]) -> Iterator[Record]:
        """The records of `pairs`, verified; damaged ones are left out."""
        for pair in pairs:
            with contextlib.suppress(DamagedFile):
                blob, sha256 = self._blob(pair), bytes(self._sha256[pair])
                verify(blob, sha256, what=str(self.path))
                yield Record(pair, blob, sha256, bool(self.valid[pair]), float(self.clipped[pair]))

    def codes(self, pair: int) -> npt.NDArray[Any]:
        """The codes (2, H, W) of one flow. Raises DamagedFile, naming file and flow."""
        what = f"{self.path}: flow {pair}"
        return decode(self._blob(pair), bytes(self._sha256[pair]), self.storage, self.grid.size, what=what)

    def _blob(self, pair: int) -> bytes:
        if pair not in self._place:
            raise DamagedFile(f"{self.path}: flow {pair}: not there")
        offset, length = self._place[pair]
        width, height = self.grid.size
        # Zstd adds at most 1/256 and a header to what it cannot compress: more is a lie.
        if length > 2 * height * width * self.storage.dtype.itemsize * 1.01 + 1024:
            raise DamagedFile(f"{self.path}: flow {pair}: too long")
        return os.pread(self._fd, length, offset)
