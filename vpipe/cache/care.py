"""Keeping a cache folder in order: find damage and mend it, make room, pack."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from pathlib import Path

from vpipe.cache import parts
from vpipe.cache.catalogue import Cached, entries, video_of
from vpipe.cache.claims import Claim, claimed
from vpipe.cache.entry import FlowEntry
from vpipe.cache.files import cache_faults
from vpipe.cache.keys import entry_key, known_videos
from vpipe.cache.mending import mend_parts, mend_sealed, name_flows, open_sealed, tidy
from vpipe.cache.packing import write_packed
from vpipe.cache.records import DamagedFile
from vpipe.cache.slots import Slot
from vpipe.errors import InputError, UsageError, VpipeError
from vpipe.flow.params import FlowParams
from vpipe.whole_file import fsync_dir


def faults(slot: Slot) -> list[str]:
    """What is wrong with an entry, every flow looked at; each names the file, and the flow if one is."""
    found = []
    try:
        sealed = open_sealed(slot)
        if sealed is not None and (bad := sealed.damaged(range(sealed.grid.pairs))):
            found.append(f"{slot.sealed}: {name_flows(bad)} damaged")
    except DamagedFile as error:
        found.append(str(error))
    places, broken = parts.find_flows(slot.work, slot.name)
    found += [f"{path}: damaged" for path in broken]
    with contextlib.suppress(FileNotFoundError):  # sealed by another process meanwhile
        found += [f"{place.path}: flow {place.pair} damaged" for place in parts.damaged(places.values())]
    return found


def repair(slot: Slot, jobs: int) -> str:
    """Take out what is damaged, and compute it again where the video is still where it was seen.

    Returns what was done. Raises EnvironmentFault where the cache cannot be written.
    """
    with contextlib.suppress(DamagedFile):
        sealed = open_sealed(slot)
        entry = _entry_again(slot, sealed.manifest["source"]["sha256"], sealed.manifest) if sealed else None
        with _claim(slot) as claim:
            _mend(slot, claim)
        if entry is not None:
            try:
                return f"{entry.ensure(jobs=jobs).computed} flows computed again"
            except VpipeError as error:
                return f"taken out; could not be computed again: {error.message}"
        return "taken out: the next run on this video computes it again"
    with _claim(slot) as claim:
        _mend(slot, claim)
    return "removed, as it does not say what it is of: the next run on its video computes it again"


def _mend(slot: Slot, claim: Claim) -> None:
    with cache_faults(slot.root):
        tidy(slot)
        mend_sealed(slot, claim)
        mend_parts(slot, claim)


def _entry_again(slot: Slot, digest: str, manifest: dict) -> FlowEntry | None:
    """The entry for computing, where this version computes the same flow and the video can be found."""
    video = video_of(slot.root, digest)
    sealed = open_sealed(slot)
    try:
        params = FlowParams.from_dict(manifest["flow"])
    except UsageError:
        return None
    if video is None or sealed is None or entry_key(digest, params) != slot.key:
        return None
    return FlowEntry(slot.root, slot.key, digest, video, params, sealed.storage)


def _claim(slot: Slot) -> contextlib.AbstractContextManager[Claim]:
    return claimed(slot.work, faults=cache_faults(slot.root))


@dataclass(frozen=True)
class Removal:
    """An entry that may go, and why."""

    entry: Cached
    reason: str


def removable(
    root: Path, *, older_than_s: float | None, max_bytes: int | None, orphans: bool
) -> tuple[list[Removal], int]:
    """The entries that may go, and how many bytes remain. Nothing but whole entries is ever named.

    older_than_s: not used for so long. orphans: the video is known to be gone. max_bytes: then the least
    recently used, until the rest takes no more than this.
    """
    found = sorted(entries(root), key=lambda entry: (entry.used_s, entry.slot.name))
    videos, now = known_videos(root / "sources"), time.time()
    going: dict[Slot, Removal] = {}
    for entry in found:
        seen = videos.get(entry.digest or "", [])
        if older_than_s is not None and now - entry.used_s > older_than_s:
            going[entry.slot] = Removal(entry, "not used for so long")
        elif orphans and seen and not any(path.exists() for path in seen):
            going[entry.slot] = Removal(entry, "its video is gone")
    left = sum(entry.bytes for entry in found if entry.slot not in going)
    for entry in found:
        if max_bytes is None or left <= max_bytes:
            break
        if entry.slot not in going:
            going[entry.slot] = Removal(entry, "least recently used")
            left -= entry.bytes
    return [going[entry.slot] for entry in found if entry.slot in going], left


def remove(slot: Slot) -> None:
    """Delete an entry, unless somebody works on it: waits for them, and they would make it again."""
    with _claim(slot), cache_faults(slot.root):
        slot.sealed.unlink(missing_ok=True)
        for path in [*parts.list_parts(slot.work), *parts.list_leftovers(slot.work)]:
            path.unlink()


def pack(slot: Slot) -> tuple[int, int]:
    """Put the packed form in place of a sealed file; bytes before and after: equal where that saves nothing.

    Raises InputError where it is not sealed or damaged, EnvironmentFault where the cache cannot be written.
    """
    with _claim(slot) as claim, cache_faults(slot.root):
        tidy(slot)
        try:
            sealed = open_sealed(slot)
            if sealed is None:
                raise InputError(
                    "not_sealed", f"{slot.work}: not finished: run `vpipe flow` on its video first"
                )
            before = slot.sealed.stat().st_size
            if sealed.index.packed:
                return before, before
            beside = slot.work / f"pack.{claim.token}.tmp"
            try:
                write_packed(beside, sealed, slot.work / f"packets.{claim.token}.tmp")
                if beside.stat().st_size >= before:
                    return before, before
                claim.check()
                beside.rename(slot.sealed)
            finally:
                beside.unlink(missing_ok=True)
        except DamagedFile as error:
            raise InputError("cache_damaged", f"{error}: run `vpipe cache verify --repair`") from None
        fsync_dir(slot.sealed.parent)
        return before, slot.sealed.stat().st_size
