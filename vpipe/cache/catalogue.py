"""What a cache folder holds: its entries, what each is of, how much room it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpipe.cache import parts
from vpipe.cache.keys import known_videos
from vpipe.cache.mending import open_sealed
from vpipe.cache.records import DamagedFile
from vpipe.cache.sealed import FlowFile, SealedFile
from vpipe.cache.slots import Slot, find_slots


@dataclass(frozen=True)
class Cached:
    """An entry as it is found. `sealed` is None while flows are missing, or where `fault` says what is wrong.

    done: flows in parts. bytes: of all its files. used_s: when it was last used, seconds since the epoch.
    """

    slot: Slot
    sealed: SealedFile | None
    fault: str | None
    done: int
    bytes: int
    used_s: float

    @property
    def state(self) -> str:
        """sealed, packed, unfinished or damaged."""
        if self.fault is not None:
            return "damaged"
        if self.sealed is None:
            return "unfinished"
        return "packed" if self.sealed.index.packed else "sealed"

    @property
    def digest(self) -> str | None:
        """SHA-256 of the video; None where only parts are there, which do not say."""
        return self.sealed.manifest["source"]["sha256"] if self.sealed else None

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe; paths as text."""
        where = self.slot.work if self.state == "unfinished" else self.slot.sealed
        facts: dict[str, Any] = {
            "key": self.slot.key,
            "storage": self.slot.storage,
            "state": self.state,
            "bytes": self.bytes,
            "path": where,
        }
        if self.sealed is not None:
            facts |= summary(self.sealed)
        elif self.fault is None:
            facts["done"] = self.done
        return facts | ({"fault": self.fault} if self.fault else {})


def look(slot: Slot) -> Cached:
    """The entry of a slot. Its index is verified, its flow is not."""
    sealed, fault = None, None
    try:
        sealed = open_sealed(slot)
    except DamagedFile as error:
        fault = str(error)
    places, _ = parts.find_flows(slot.work, slot.name)
    size, used = 0, 0.0
    for path in _files(slot):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue  # somebody finishes it just now
        size, used = size + status.st_size, max(used, status.st_mtime)
    return Cached(slot, sealed, fault, len(places), size, used)


def entries(root: Path) -> Iterator[Cached]:
    """Every entry below `root`, by key."""
    for slot in find_slots(root)[0]:
        yield look(slot)


def entries_of(root: Path, digest: str) -> list[Cached]:
    """The finished entries of the video with this SHA-256."""
    return [entry for entry in entries(root) if entry.digest == digest]


def video_of(root: Path, digest: str) -> Path | None:
    """Where a file with this SHA-256 was last seen, and still is; None where none is known."""
    for path in known_videos(root / "sources").get(digest, []):
        if path.is_file():
            return path
    return None


def summary(file: FlowFile) -> dict[str, Any]:
    """What a flow file is of, JSON-safe."""
    manifest = file.manifest
    flow, (width, height) = manifest["flow"], file.grid.size
    return {
        "video": str(file.volatile.get("file", "")),
        "source_sha256": manifest["source"]["sha256"],
        "method": flow.get("method"),
        "preset": flow.get("preset"),
        "short_side_px": flow.get("short_side_px"),
        "fps": flow.get("fps"),
        "step": flow.get("step"),
        "bound_px": file.storage.bound_px,
        "pairs": file.grid.pairs,
        "width": width,
        "height": height,
        "clipped": manifest["clipped"],
        "invalid": manifest["invalid"],
        "provenance": manifest.get("provenance", {"from": "computed", "lossy": False}),
    }


def _files(slot: Slot) -> Iterator[Path]:
    if slot.sealed.is_file():
        yield slot.sealed
    try:
        names = os.listdir(slot.work)
    except (FileNotFoundError, NotADirectoryError):
        return
    yield from (slot.work / name for name in names)
