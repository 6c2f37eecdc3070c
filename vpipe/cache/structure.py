"""The index of a sealed file: everything in it but the flow, read only where the file is as it must be.

HDF5 lets a file claim much: links into other files, chunks of gigabytes, filters that run code of their own.
So nothing is read through HDF5 but what has exactly the expected form; tables come straight from their bytes,
whose place and length are compared with the length of the file before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from vpipe.cache.records import DamagedFile, Grid
from vpipe.flow.quantise import Storage
from vpipe.limits import MAX_PIXELS

FORMAT = "vpipe.flow/2"
# name -> (type, columns, rows more than flows)
TABLES: dict[str, tuple[str, int, int]] = {
    "valid": ("u1", 1, 0),
    "clipped": ("<f8", 1, 0),
    "fitting_bound_px": ("<f8", 1, 0),
    "flow_sha256": ("u1", 32, 0),
    "frame_index": ("<i8", 1, 1),
    "pts": ("<i8", 1, 1),
    "time_s": ("<f8", 1, 1),
}
PACKED_TABLES = TABLES | {"packet_end": ("<i8", 1, 0)}
VOLATILE_BYTES = 1024
ZSTD_FILTER = 32015  # as registered with The HDF Group
_MANIFEST_LIMIT_BYTES = 1 << 20
_FRACTION = re.compile(r"\d{1,18}(/[1-9]\d{0,17})?")
Refuse = Callable[[str], Exception]
# What a flow can take on disk at most: a coder adds a little to what it cannot compress.
_SLACK, _SLACK_BYTES = 1.25, 4096


@dataclass(frozen=True)
class Index:
    """What a sealed file says of its flows; verified against the manifest's checksums, picklable.

    places: int64 (n-1, 2), offset and length of each flow's compressed bytes in the file; -1: none.
    """

    manifest: dict[str, Any]
    volatile: dict[str, Any]
    tables: dict[str, npt.NDArray[Any]]
    places: npt.NDArray[np.int64]

    @cached_property
    def storage(self) -> Storage:
        stored = dict(self.manifest["storage"])
        del stored["codec"]
        return Storage.from_dict(stored)

    @cached_property
    def grid(self) -> Grid:
        return Grid(
            frame_index=tuple(self.tables["frame_index"].tolist()),
            pts=tuple(self.tables["pts"].tolist()),
            time_base=Fraction(self.manifest["time_base"]),
            size=(self.manifest["shape"][3], self.manifest["shape"][2]),
            source=self.manifest["source"],
        )

    @property
    def packed(self) -> bool:
        return bool(self.manifest["storage"]["codec"]["id"] == "ffv1")


def table_digest(table: npt.NDArray[Any]) -> str:
    """SHA-256 of a table's bytes, little-endian and in C order, hex."""
    return hashlib.sha256(np.ascontiguousarray(table).tobytes()).hexdigest()


def read_index(path: Path, fd: int) -> Index:
    """The index of the file at `path`, which `fd` has open. Raises DamagedFile, saying what is wrong."""
    try:
        with h5py.File(path, "r", locking=False) as h5:
            return _read(h5, path, fd)
    except DamagedFile:
        raise
    except Exception as error:  # h5py answers damage with OSError, KeyError, RuntimeError, ValueError ...
        raise DamagedFile(f"{path}: {type(error).__name__}: {error}") from None


def _read(h5: Any, path: Path, fd: int) -> Index:
    def refuse(reason: str) -> DamagedFile:
        return DamagedFile(f"{path}: {reason}")

    text = _attribute(h5, "manifest", _MANIFEST_LIMIT_BYTES, refuse)
    if _attribute(h5, "manifest_sha256", 64, refuse) != hashlib.sha256(text).hexdigest().encode():
        raise refuse("the manifest's checksum differs")
    manifest = json.loads(text)
    check_manifest(manifest, refuse)
    volatile = json.loads(_attribute(h5, "volatile", VOLATILE_BYTES, refuse).rstrip(b"\0"))
    if not isinstance(volatile, dict):
        raise refuse("its note is no table of names and values")
    packed = manifest["storage"]["codec"]["id"] == "ffv1"
    specs = table_specs(manifest)
    pairs, _, height, width = manifest["shape"]
    storage = Index(manifest, {}, {}, np.empty(0, np.int64)).storage
    if set(h5) != {*specs, "packets" if packed else "flow"}:
        raise refuse("it holds other datasets than a flow file")
    tables = {}
    for name, (dtype, shape) in specs.items():
        dataset = _dataset(h5, name, dtype, shape, refuse)
        tables[name] = _contiguous(dataset, name, fd, refuse)
        if table_digest(tables[name]) != manifest["tables"][name]:
            raise refuse(f"the checksum of the table {name} differs")
    if packed:
        places = _packet_places(h5, tables["packet_end"], fd, refuse)
    else:
        places = _chunk_places(h5, storage, (pairs, 2, height, width), refuse)
    longest = _SLACK * 2 * height * width * storage.dtype.itemsize + _SLACK_BYTES
    if places[:, 1].max() > longest or (places.sum(axis=1) > os.fstat(fd).st_size).any():
        raise refuse("a flow is longer than flow can be, or beyond the end of the file")
    return Index(manifest, volatile, tables, places)


def check_manifest(manifest: Any, refuse: Refuse) -> None:
    """Raises what `refuse` makes of the reason where a manifest cannot be that of a flow file."""
    if manifest["format"] != FORMAT:
        raise refuse(f"its format is {str(manifest['format'])[:40]!r}, not {FORMAT}")
    _, two, height, width = manifest["shape"]
    sizes = all(isinstance(n, int) and not isinstance(n, bool) and 0 < n < 1 << 40 for n in manifest["shape"])
    if not sizes or two != 2 or width * height > MAX_PIXELS:
        raise refuse(f"the shape {str(manifest['shape'])[:80]} is none of flow")
    if manifest["storage"]["codec"]["id"] not in ("zstd", "ffv1"):
        raise refuse("its codec is unknown")
    # Not any text that Fraction takes: 1e999999999 is one of them.
    if not isinstance(manifest["time_base"], str) or not _FRACTION.fullmatch(manifest["time_base"]):
        raise refuse("its time base is no fraction")
    source = manifest["source"]
    if not isinstance(source["sha256"], str) or not isinstance(manifest["key"], str):
        raise refuse("it does not say of which video it is")
    if not all({"code", "message"} <= set(warning) for warning in source["warnings"]):
        raise refuse("its warnings are none")


def table_specs(manifest: Mapping[str, Any]) -> dict[str, tuple[np.dtype[Any], tuple[int, ...]]]:
    """name -> (type, shape) of every table of a checked manifest."""
    specs = PACKED_TABLES if manifest["storage"]["codec"]["id"] == "ffv1" else TABLES
    pairs = manifest["shape"][0]
    return {
        name: (np.dtype(dtype), (pairs + more, columns) if columns > 1 else (pairs + more,))
        for name, (dtype, columns, more) in specs.items()
    }


def _attribute(h5: Any, name: str, limit: int, refuse: Refuse) -> bytes:
    attribute = h5py.h5a.open(h5.id, name.encode())
    kind = attribute.get_type()
    plain = isinstance(kind, h5py.h5t.TypeStringID) and not kind.is_variable_str()
    if not plain or attribute.get_space().get_simple_extent_type() != h5py.h5s.SCALAR:
        raise refuse(f"the attribute {name} is no plain text")
    if kind.get_size() > limit:
        raise refuse(f"the attribute {name} claims {kind.get_size()} bytes")
    value = np.empty((), f"S{kind.get_size()}")
    attribute.read(value)
    return value.tobytes()


def _dataset(h5: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], refuse: Refuse) -> Any:
    """The dataset, of exactly this type and shape, within the file. Nothing of it is read."""
    if h5.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise refuse(f"{name} is a link to another place or file")
    dataset = h5py.h5o.open(h5.id, name.encode())
    if not isinstance(dataset, h5py.h5d.DatasetID):
        raise refuse(f"{name} is no dataset")
    if dataset.get_create_plist().get_external_count():
        raise refuse(f"{name} has its data in another file")
    if dataset.dtype != dtype or dataset.shape != shape:
        raise refuse(f"{name} is {dataset.dtype} {dataset.shape}, not {dtype} {shape}")
    return dataset


def _contiguous(dataset: Any, name: str, fd: int, refuse: Refuse) -> npt.NDArray[Any]:
    """A table, read from the file's own bytes."""
    offset, length = _extent(dataset, name, fd, refuse)
    table = np.frombuffer(os.pread(fd, length, offset), dataset.dtype)
    return table.reshape(dataset.shape)


def _extent(dataset: Any, name: str, fd: int, refuse: Refuse) -> tuple[int, int]:
    """(offset, length) in the file of a dataset that lies there in one piece, as it is."""
    plist = dataset.get_create_plist()
    if plist.get_layout() != h5py.h5d.CONTIGUOUS or plist.get_nfilters():
        raise refuse(f"{name} is not stored in one plain piece")
    offset = dataset.get_offset()
    length = math.prod(dataset.shape) * dataset.dtype.itemsize
    if offset is None or offset + length > os.fstat(fd).st_size:
        raise refuse(f"{name} lies beyond the end of the file")
    return offset, length


def _chunk_places(
    h5: Any, storage: Storage, shape: tuple[int, int, int, int], refuse: Refuse
) -> npt.NDArray[np.int64]:
    dataset = _dataset(h5, "flow", storage.dtype, shape, refuse)
    plist = dataset.get_create_plist()
    if plist.get_layout() != h5py.h5d.CHUNKED or plist.get_chunk() != (1, *shape[1:]):
        raise refuse("its chunks are not one flow each")
    filters = [plist.get_filter(number)[0] for number in range(plist.get_nfilters())]
    expected = [h5py.h5z.FILTER_SHUFFLE] * (storage.dtype.itemsize > 1) + [ZSTD_FILTER]
    if filters != expected:
        raise refuse(f"its HDF5 filters are {filters}, not {expected}")
    for name in ("scale", "zero"):
        attribute = h5py.h5a.open(dataset, name.encode())
        value = np.empty((), "<f4")
        if attribute.dtype != value.dtype or attribute.shape != ():
            raise refuse(f"the attribute {name} of the flow is no number")
        attribute.read(value)
        if value != np.float32(getattr(storage, name)):
            raise refuse(f"{name} of the flow is not that of the manifest")
    places = np.full((shape[0], 2), -1, np.int64)

    def note(chunk: Any) -> None:
        places[chunk.chunk_offset[0]] = chunk.byte_offset, chunk.size

    dataset.chunk_iter(note)
    return places


def _packet_places(h5: Any, ends: npt.NDArray[np.int64], fd: int, refuse: Refuse) -> npt.NDArray[np.int64]:
    starts = np.concatenate([[0], ends[:-1]])
    if (ends < starts).any():
        raise refuse("its packets overlap")
    packets = _dataset(h5, "packets", np.dtype("u1"), (int(ends[-1]),), refuse)
    offset, _ = _extent(packets, "packets", fd, refuse)
    return np.stack([starts + offset, ends - starts], axis=1)
