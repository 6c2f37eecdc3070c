"""Writing a sealed file: every flow of one video under one recipe, in HDF5. See docs/cache-format.md.

Equal work gives equal bytes but for @volatile (and HDF5's own checksum of the header it sits in).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import numpy.typing as npt
import zstandard

from vpipe.cache.keys import canonical_json
from vpipe.cache.records import ZSTD_LEVEL, Grid, Record
from vpipe.cache.structure import FORMAT, VOLATILE_BYTES, table_digest
from vpipe.flow.quantise import Storage

_LIBVER = ("v110", "v110")  # readable by every HDF5 since 1.10 (2016); its index and headers carry checksums


def write_sealed(
    path: Path,
    records: Iterable[Record],
    grid: Grid,
    storage: Storage,
    recipe: Mapping[str, Any],
    volatile: Mapping[str, Any],
) -> None:
    """Write all n-1 records, which come in pair order, to a new file and fsync it. Memory stays flat.

    recipe: {"key", "decode", "flow", "engine"}, JSON-safe.
    """
    width, height = grid.size
    shape = (grid.pairs, 2, height, width)
    tables: dict[str, npt.NDArray[Any]] = {
        "valid": np.zeros(grid.pairs, np.uint8),
        "clipped": np.zeros(grid.pairs, "<f8"),
        "fitting_bound_px": np.zeros(grid.pairs, "<f8"),
        "flow_sha256": np.zeros((grid.pairs, 32), np.uint8),
    }
    with new_file(path) as h5:
        flow = h5.create_dataset(
            "flow",
            shape=shape,
            dtype=storage.dtype,
            chunks=(1, *shape[1:]),
            shuffle=storage.dtype.itemsize > 1,
            compression=hdf5plugin.Zstd(clevel=ZSTD_LEVEL),
        )
        # float32, so that codes in float32 stay that when a reader applies them.
        flow.attrs["scale"] = np.float32(storage.scale)
        flow.attrs["zero"] = np.float32(storage.zero)
        count = 0
        for count, record in enumerate(records, 1):
            if record.pair != count - 1:
                raise ValueError(f"flow {record.pair} came in place of {count - 1}")
            flow.id.write_direct_chunk((record.pair, 0, 0, 0), record.blob)
            tables["valid"][record.pair] = record.valid
            tables["clipped"][record.pair] = record.clipped
            tables["fitting_bound_px"][record.pair] = record.fitting_bound_px
            tables["flow_sha256"][record.pair] = np.frombuffer(record.sha256, np.uint8)
        if count != grid.pairs:
            raise ValueError(f"{count} flows came of {grid.pairs}")
        tables |= {
            "frame_index": np.array(grid.frame_index, "<i8"),
            "pts": np.array(grid.pts, "<i8"),
            "time_s": np.array([float(time) for time in grid.times], "<f8"),
        }
        codec = {
            "id": "zstd",
            "level": ZSTD_LEVEL,
            "shuffle": storage.dtype.itemsize > 1,
            "version": ".".join(map(str, zstandard.ZSTD_VERSION)),
        }
        manifest = {
            "format": FORMAT,
            **recipe,
            "source": dict(grid.source),
            "storage": storage.to_dict() | {"codec": codec},
            "shape": list(shape),
            "time_base": str(grid.time_base),
            "clipped": float(tables["clipped"].mean()),
            "invalid": int(grid.pairs - tables["valid"].sum()),
        }
        write_index(h5, manifest, tables, volatile)


@contextmanager
def new_file(path: Path) -> Iterator[Any]:
    """A new HDF5 file at `path`, fsynced at the end."""
    with h5py.File(path, "w", libver=_LIBVER, locking=False) as h5:
        yield h5
    with open(path, "rb") as written:
        os.fsync(written.fileno())


def write_index(
    h5: Any, facts: Mapping[str, Any], tables: Mapping[str, npt.NDArray[Any]], volatile: Mapping[str, Any]
) -> None:
    """The tables, and the manifest: `facts` and the checksums of the tables."""
    for name, table in tables.items():
        h5.create_dataset(name, data=table)
    digests = {name: table_digest(table) for name, table in tables.items()}
    manifest = canonical_json({**facts, "tables": digests}).encode()
    h5.attrs["manifest"] = np.bytes_(manifest)
    h5.attrs["manifest_sha256"] = np.bytes_(hashlib.sha256(manifest).hexdigest())
    note = canonical_json(dict(volatile)).encode()
    note = note if len(note) <= VOLATILE_BYTES else b"{}"
    h5.attrs["volatile"] = np.array(note, f"S{VOLATILE_BYTES}")  # of one length: nothing moves with it
