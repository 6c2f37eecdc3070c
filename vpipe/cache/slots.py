"""Where an entry's files lie: one place for the names of the cache folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vpipe.cache.files import ABSENT

SEALED_SUFFIX = ".flow.h5"
WORK_SUFFIX = ".work"
_NAME = re.compile(r"(?P<key>[0-9a-f]{64})\.(?P<storage>high|standard-[0-9.e+]{1,16})(?:\.flow\.h5|\.work)")


@dataclass(frozen=True)
class Slot:
    """The place of one video's flow under one recipe in one storage (`Storage.name`)."""

    root: Path
    key: str
    storage: str

    @property
    def name(self) -> str:
        """What its parts call the entry they belong to."""
        return f"{self.key}.{self.storage}"

    @property
    def sealed(self) -> Path:
        """The file with every flow, where there is one."""
        return self.root / "flow" / self.key[:2] / f"{self.name}{SEALED_SUFFIX}"

    @property
    def work(self) -> Path:
        """The folder of unfinished work, where there is some."""
        return self.root / "flow" / self.key[:2] / f"{self.name}{WORK_SUFFIX}"


def slot_of(root: Path, name: str) -> Slot | None:
    """The slot whose sealed file or work folder has this name; None where no entry is called so."""
    match = _NAME.fullmatch(name)
    return Slot(root, match["key"], match["storage"]) if match else None


def find_slots(root: Path) -> tuple[list[Slot], list[Path]]:
    """The slots in use below `root` (ascending), and the paths in its flow folder that are no entry's."""
    slots: set[Slot] = set()
    unknown: list[Path] = []
    for folder in _children(root / "flow"):
        if not folder.is_dir() or folder.is_symlink() or not re.fullmatch(r"[0-9a-f]{2}", folder.name):
            unknown.append(folder)
            continue
        for path in _children(folder):
            slot = slot_of(root, path.name)
            if slot is not None and path in (slot.sealed, slot.work) and not path.is_symlink():
                slots.add(slot)
            else:
                unknown.append(path)
    return sorted(slots, key=lambda slot: slot.name), unknown


def _children(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(os.listdir(folder))
    except ABSENT:
        return
    yield from (folder / name for name in names)
