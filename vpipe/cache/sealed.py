"""Reading a sealed file, packed or not; see docs/cache-format.md. Nothing unverified is handed out."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpipe.cache.records import GROUP, DamagedFile, Record, decode, encode_codes, verify
from vpipe.cache.structure import Index, read_index


class FlowFile:
    """A flow file whose index is known: what does not depend on where it is opened."""

    def __init__(self, path: Path, index: Index) -> None:
        self.path, self.index = path, index
        self.manifest, self.volatile = index.manifest, index.volatile
        self.storage, self.grid = index.storage, index.grid

    def facts(self, pair: int) -> tuple[bool, float, float]:
        """Of one flow: whether it is valid, the fraction that was clipped, the bound (px) that would fit."""
        tables = self.index.tables
        valid, clipped, bound = (tables[name][pair] for name in ("valid", "clipped", "fitting_bound_px"))
        return bool(valid), float(clipped), float(bound)

    def damaged(self, pairs: Iterable[int]) -> list[int]:
        """Those of `pairs` that cannot be read as they were written."""
        raise NotImplementedError

    def codes(self, pair: int) -> npt.NDArray[Any]:
        """The codes (2, H, W) of one flow, valid until the next call. Raises DamagedFile, naming it."""
        raise NotImplementedError

    def read(self, pairs: Sequence[int]) -> npt.NDArray[np.float32]:
        """Flows in px, float32 (len(pairs), 2, H, W). Raises DamagedFile."""
        width, height = self.grid.size
        flows = np.empty((len(pairs), 2, height, width), np.float32)
        for row, pair in enumerate(pairs):
            self.storage.dequantise(self.codes(pair), out=flows[row])
        return flows


class SealedFile(FlowFile):
    """An open sealed file; everything but the flow itself is verified on opening.

    Flow is read with the file's own offsets, past h5py and its global lock: threads may share one object.
    """

    def __init__(self, path: Path, key: str | None = None) -> None:
        """Raises DamagedFile where it is not the sealed file of `key` (None: of any), OSError."""
        self._fd, index = _open(path)
        weakref.finalize(self, os.close, self._fd)
        if key is not None and index.manifest["key"] != key:
            raise DamagedFile(f"{path}: it is another video's flow, or of another recipe")
        super().__init__(path, index)
        self._mine = threading.local()

    def damaged(self, pairs: Iterable[int]) -> list[int]:
        """Those of `pairs` that cannot be read as they were written."""
        whole: dict[int, bool] = {}
        return [pair for pair in pairs if not all(self._whole(k, whole) for k in self._needed(pair))]

    def records(self, pairs: Iterable[int]) -> Iterator[Record]:
        """The records of `pairs`, verified, unpacked; damaged ones are left out."""
        for pair in pairs:
            valid, clipped, bound = self.facts(pair)
            try:
                if self.index.packed:
                    yield encode_codes(
                        pair,
                        self.codes(pair),
                        self.storage,
                        valid=valid,
                        clipped=clipped,
                        fitting_bound_px=bound,
                    )
                else:
                    yield Record(pair, self.blob(pair), self._sha256(pair), valid, clipped, bound)
            except DamagedFile:
                continue

    def codes(self, pair: int) -> npt.NDArray[Any]:
        """The codes (2, H, W) of one flow, valid until the next call. Raises DamagedFile, naming it."""
        if not self.index.packed:
            what = f"{self.path}: flow {pair}"
            return decode(self._bytes(pair), self._sha256(pair), self.storage, self.grid.size, what=what)
        if "reader" not in self._mine.__dict__:
            codec = self.manifest["storage"]["codec"]
            from vpipe.cache.packing import PacketReader  # start-up: PyAV, only for packed flow

            self._mine.reader = PacketReader(codec, self.storage, self.grid.size, self.blob)
        try:
            codes: npt.NDArray[Any] = self._mine.reader.codes(pair)
        except DamagedFile:
            del self._mine.reader
            raise
        return codes

    def blob(self, pair: int) -> bytes:
        """The compressed bytes of one flow, verified. Raises DamagedFile."""
        blob = self._bytes(pair)
        verify(blob, self._sha256(pair), what=f"{self.path}: flow {pair}")
        return blob

    def _bytes(self, pair: int) -> bytes:
        offset, length = self.index.places[pair].tolist()
        if offset < 0:
            raise DamagedFile(f"{self.path}: flow {pair}: not there")
        return os.pread(self._fd, length, offset)

    def _sha256(self, pair: int) -> bytes:
        return self.index.tables["flow_sha256"][pair].tobytes()

    def _needed(self, pair: int) -> Iterable[int]:
        """The flows whose bytes it takes to read one: in a packed file, all before it in its group."""
        return range(pair - pair % GROUP, pair + 1) if self.index.packed else (pair,)

    def _whole(self, pair: int, known: dict[int, bool]) -> bool:
        if pair not in known:
            try:
                self.blob(pair)
                known[pair] = True
            except DamagedFile:
                known[pair] = False
        return known[pair]


def _open(path: Path) -> tuple[int, Index]:
    """The file and its index, which are of one file even where it is replaced just now."""
    while True:
        fd = os.open(path, os.O_RDONLY)
        try:
            index = read_index(path, fd)
            if os.path.samestat(os.stat(path), os.fstat(fd)):
                return fd, index
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
