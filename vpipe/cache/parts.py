"""Unfinished work: a folder of small files, each written once, fsynced and renamed into place.

    magic, length of the header (8 bytes, little-endian), header (canonical JSON), its SHA-256, the blobs
    header: {"entry": ..., "flows": [[pair, offset, length, sha256, valid, clipped, bound], ...]}

A part is whole or absent, but it may rot like any file, so header and blobs carry checksums.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vpipe.cache.claims import Claim
from vpipe.cache.files import ABSENT, write_atomic
from vpipe.cache.keys import canonical_json
from vpipe.cache.records import DamagedFile, Record, verify

MAX_PAIRS = 64
_MAGIC = b"vpipe flow part 2\n"
_SUFFIX = ".part"
_HEADER_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True)
class Place:
    """Where one flow of a part lies, and what it must be."""

    path: Path
    pair: int
    offset: int
    length: int
    sha256: bytes
    valid: bool
    clipped: float
    fitting_bound_px: float

    def load(self) -> Record:
        """Read and verify it. Raises DamagedFile; FileNotFoundError where the work was sealed meanwhile."""
        with open(self.path, "rb") as part:
            blob = os.pread(part.fileno(), self.length, self.offset)
        verify(blob, self.sha256, what=f"{self.path}: flow {self.pair}")
        return Record(self.pair, blob, self.sha256, self.valid, self.clipped, self.fitting_bound_px)


def write_part(folder: Path, entry: str, records: Sequence[Record], claim: Claim) -> None:
    """Write at most MAX_PAIRS records as one part. Raises ClaimLost where the work is another's now."""
    if not 0 < len(records) <= MAX_PAIRS:
        raise ValueError(f"{len(records)} flows: a part holds 1 to {MAX_PAIRS}")
    offset, flows = 0, []
    for record in records:
        flows.append(
            [
                record.pair,
                offset,
                len(record.blob),
                record.sha256.hex(),
                record.valid,
                record.clipped,
                record.fitting_bound_px,
            ]
        )
        offset += len(record.blob)
    header = canonical_json({"entry": entry, "flows": flows}).encode()
    digest = hashlib.sha256(header).digest()
    name = f"{records[0].pair:08d}-{digest.hex()[:16]}"
    claim.check()
    pieces = [_MAGIC, len(header).to_bytes(8, "little"), header, digest, *(r.blob for r in records)]
    try:
        write_atomic(folder / f"{name}{_SUFFIX}", pieces, beside=folder / f"{name}.{claim.token}.tmp")
    except FileNotFoundError:
        claim.check()  # whoever took over has cleared the folder
        raise


def read_part(path: Path, entry: str) -> list[Place]:
    """The places of a part's flows; its header is verified. Raises DamagedFile, FileNotFoundError."""
    with open(path, "rb") as part:
        start = part.read(len(_MAGIC) + 8)
        length = int.from_bytes(start[len(_MAGIC) :], "little")
        if not start.startswith(_MAGIC) or not 0 < length <= _HEADER_LIMIT_BYTES:
            raise DamagedFile(f"{path}: not a part of a flow cache")
        header, digest = part.read(length), part.read(32)
    if hashlib.sha256(header).digest() != digest:
        raise DamagedFile(f"{path}: the header's checksum differs")
    content = json.loads(header)
    if content["entry"] != entry:
        raise DamagedFile(f"{path}: belongs to another video or recipe")
    blobs = len(start) + length + 32
    return [
        Place(path, pair, blobs + offset, size, bytes.fromhex(sha256), valid, clipped, bound)
        for pair, offset, size, sha256, valid, clipped, bound in content["flows"]
    ]


def list_parts(folder: Path) -> list[Path]:
    """The parts in a work folder, in order; none where there is no folder."""
    return _named(folder, _SUFFIX)


def list_leftovers(folder: Path) -> list[Path]:
    """Temporary files that killed processes left; only the holder of the claim may remove them."""
    return _named(folder, ".tmp")


def find_flows(folder: Path, entry: str) -> tuple[dict[int, Place], list[Path]]:
    """Which flows the parts hold (pair -> place), and the parts that cannot be read."""
    places: dict[int, Place] = {}
    broken = []
    for path in list_parts(folder):
        try:
            places |= {place.pair: place for place in read_part(path, entry)}
        except FileNotFoundError:
            continue
        except DamagedFile:
            broken.append(path)
    return places, broken


def damaged(places: Iterable[Place]) -> list[Place]:
    """Those whose bytes are not the ones that were written."""
    bad = []
    for place in places:
        try:
            place.load()
        except DamagedFile:
            bad.append(place)
    return bad


def drop_flows(bad: Sequence[Place], folder: Path, entry: str, claim: Claim) -> None:
    """Take damaged flows out: their parts are written anew without them."""
    for path in {place.path for place in bad}:
        gone = {place.pair for place in bad if place.path == path}
        keep = []
        for place in read_part(path, entry):
            if place.pair not in gone:
                try:
                    keep.append(place.load())
                except DamagedFile:
                    continue
        if keep:
            write_part(folder, entry, keep, claim)
        path.unlink()


def _named(folder: Path, suffix: str) -> list[Path]:
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(suffix))
    except ABSENT:
        return []
