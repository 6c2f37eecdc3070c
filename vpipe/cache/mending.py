"""Taking what is damaged out of an entry, so that only that is computed again. Both hold its claim."""

from __future__ import annotations

from collections.abc import Sequence

from vpipe.cache import parts
from vpipe.cache.claims import Claim
from vpipe.cache.files import ABSENT
from vpipe.cache.records import DamagedFile
from vpipe.cache.sealed import SealedFile
from vpipe.cache.slots import Slot
from vpipe.errors import Warning_


def open_sealed(slot: Slot) -> SealedFile | None:
    """The slot's sealed file; None where there is none. Raises DamagedFile, OSError."""
    try:
        sealed = SealedFile(slot.sealed, slot.key)
    except ABSENT:
        return None
    if sealed.storage.name != slot.storage:
        raise DamagedFile(f"{slot.sealed}: it is of another storage than its name says")
    return sealed


def mend_sealed(slot: Slot, claim: Claim) -> tuple[SealedFile | None, list[Warning_]]:
    """The sealed file if it is whole. A damaged one is taken apart: what is good of it becomes parts."""
    try:
        sealed = open_sealed(slot)
    except DamagedFile as error:
        slot.sealed.unlink()
        return None, [_note(f"{error}: all of it is computed again")]
    if sealed is None:
        return None, []
    bad = sealed.damaged(range(sealed.grid.pairs))
    if not bad:
        return sealed, []
    good = sealed.records(sorted(set(range(sealed.grid.pairs)) - set(bad)))
    while batch := [record for record, _ in zip(good, range(parts.MAX_PAIRS), strict=False)]:
        parts.write_part(slot.work, slot.name, batch, claim)
    slot.sealed.unlink()
    return None, [_note(f"{slot.sealed}: {name_flows(bad)} damaged: computed again", len(bad))]


def mend_parts(slot: Slot, claim: Claim) -> list[Warning_]:
    """Drop what is damaged from the parts."""
    places, broken = parts.find_flows(slot.work, slot.name)
    notes = []
    for path in broken:
        notes.append(_note(f"{path}: damaged, its flows are computed again"))
        path.unlink()
    bad = parts.damaged(places.values())
    if bad:
        flows = name_flows([place.pair for place in bad])
        notes.append(_note(f"{slot.work}: {flows} damaged: computed again", len(bad)))
        parts.drop_flows(bad, slot.work, slot.name, claim)
    return notes


def tidy(slot: Slot) -> None:
    """Remove what killed processes left half written."""
    for path in parts.list_leftovers(slot.work):
        path.unlink()


def name_flows(pairs: Sequence[int]) -> str:
    """For messages: "flow (7)", "9 flows (1, 2, 3, 4, 5 ...)"."""
    shown = ", ".join(str(pair) for pair in pairs[:5]) + (" ..." if len(pairs) > 5 else "")
    return f"{'flow' if len(pairs) == 1 else f'{len(pairs)} flows'} ({shown})"


def _note(message: str, flows: int | None = None) -> Warning_:
    return Warning_("cache_damaged", message, {} if flows is None else {"flows": flows})
