"""`vpipe cache verify | gc | pack`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vpipe.cli import interrupt
from vpipe.cli.cache_find import cache_root, entries_named, flow_file, is_hdf5, plain_options
from vpipe.cli.options import CacheDir, Jobs, Json, Quiet, note, parse_size
from vpipe.cli.output import display_name, dump, write_stdout
from vpipe.cli.progress import progress
from vpipe.cli.run import complain
from vpipe.errors import InputError, UsageError, one_line

if TYPE_CHECKING:
    from vpipe.cache.slots import Slot

Some = Annotated[
    list[str] | None,
    typer.Argument(metavar="VIDEO|FILE|KEY...", help="Only these; without them the whole cache."),
]
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def verify(
    inputs: Some = None,
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Take out what is damaged; compute it again if the video is there."),
    ] = False,
    cache_dir: CacheDir = None,
    jobs: Jobs = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Check every byte of the cache against its checksums; exit code 1 where something is wrong."""
    from vpipe import threads
    from vpipe.cache import care  # here: OpenCV, HDF5 and PyAV take half a second
    from vpipe.cache.slots import find_slots

    root = cache_root(cache_dir)
    threads.set_jobs(jobs)
    slots, foreign = _named(inputs, root) if inputs else (find_slots(root)[0], [])
    faults: list[dict[str, str | None]] = []
    with progress(len(slots) + len(foreign), "entries", "verify", plain_options(quiet)) as bar:
        for slot in slots:
            interrupt.check()
            found = care.faults(slot)
            done = care.repair(slot, threads.jobs()) if found and repair else None
            faults += [{"fault": fault, "repaired": done} for fault in found]
            bar.update(1)
        for word in foreign:
            interrupt.check()
            try:
                with flow_file(word, root) as file:
                    bad = file.damaged(range(file.grid.pairs))
                faults += [
                    {"fault": f"{display_name(word)}: flow {pair} damaged", "repaired": None} for pair in bad
                ]
            except InputError as error:
                faults.append({"fault": error.message, "repaired": None})
            bar.update(1)
    checked = len(slots) + len(foreign)
    if json:
        write_stdout(dump({"schema": "vpipe.cache.verify/1", "checked": checked, "faults": faults}) + "\n")
    else:
        for fault in faults:
            after = f"\n  {fault['repaired']}" if fault["repaired"] else ""
            write_stdout("\n".join(one_line(line) for line in f"{fault['fault']}{after}".split("\n")) + "\n")
        write_stdout(f"{checked} entries checked, {len(faults)} faults\n")
    raise typer.Exit(1 if faults else 0)


def _named(inputs: list[str], root: Path) -> tuple[list[Slot], list[str]]:
    """Slots of the cache, and flow files from elsewhere."""
    from vpipe.cache.slots import slot_of  # here: see verify

    slots, foreign = [], []
    for word in inputs:
        inside = (slot := slot_of(root, Path(word).name)) is not None and slot.sealed.exists()
        if inside and slot is not None and slot.sealed.resolve() == Path(word).resolve():
            slots.append(slot)
        elif is_hdf5(Path(word)):
            foreign.append(word)
        else:
            slots += [entry.slot for entry in entries_named(word, root)]
    return slots, foreign


def gc(
    older_than: Annotated[
        str | None, typer.Option(metavar="AGE", help="Delete what was not used for this long: 30d, 12h, 2w.")
    ] = None,
    max_size: Annotated[
        str | None, typer.Option(metavar="SIZE", help="Delete the least recently used beyond this: 50GB.")
    ] = None,
    orphans: Annotated[
        bool, typer.Option("--orphans", help="Delete flow whose video is known to be gone.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    cache_dir: CacheDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Make room: delete whole entries by age, size or lost videos. What is not vpipe's stays."""
    if older_than is None and max_size is None and not orphans:
        raise UsageError("bad_flags", "say what to delete: --older-than AGE, --max-size SIZE or --orphans")
    age = None if older_than is None else parse_age(older_than)
    limit = None if max_size is None else parse_size(max_size)
    from vpipe.cache import care  # here: OpenCV, HDF5 and PyAV take half a second
    from vpipe.cache.files import megabytes

    root = cache_root(cache_dir)
    going, left = care.removable(root, older_than_s=age, max_bytes=limit, orphans=orphans)
    rows = []
    for removal in going:
        interrupt.check()
        if not dry_run:
            care.remove(removal.entry.slot)
        rows.append({**removal.entry.to_dict(), "reason": removal.reason})
        if not json:
            where, size = removal.entry.to_dict()["path"], megabytes(removal.entry.bytes)
            write_stdout(one_line(f"{where}  {size}  {removal.reason}") + "\n")
    freed = sum(removal.entry.bytes for removal in going)
    if json:
        document = {"schema": "vpipe.cache.gc/1", "dry_run": dry_run, "removed": rows}
        write_stdout(dump(document | {"freed_bytes": freed, "left_bytes": left}) + "\n")
    would = "would free" if dry_run else "freed"
    note(f"{would} {megabytes(freed)} in {len(going)} entries, {megabytes(left)} left", plain_options(quiet))


def pack(
    inputs: Some = None,
    cache_dir: CacheDir = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn finished flow into lossless FFV1, the smallest form; vpipe reads it as before, though slower."""
    from vpipe.cache import care  # here: OpenCV, HDF5 and PyAV take half a second
    from vpipe.cache.catalogue import entries
    from vpipe.cache.files import megabytes

    root = cache_root(cache_dir)
    if inputs:
        slots, foreign = _named(inputs, root)
        if foreign:
            raise InputError("not_cached", f"{display_name(foreign[0])}: not in this cache: {root}")
    else:
        slots = [entry.slot for entry in entries(root) if entry.state == "sealed"]
    rows, failed, before, after = [], 0, 0, 0
    with progress(len(slots), "files", "pack", plain_options(quiet)) as bar:
        for slot in slots:
            interrupt.check()
            try:
                was, now = care.pack(slot)
            except InputError as error:
                complain(error)
                failed += 1
                continue
            before, after = before + was, after + now
            rows.append({"path": slot.sealed, "bytes_before": was, "bytes": now})
            if not json:
                write_stdout(f"{one_line(str(slot.sealed))}\n")
            bar.update(1)
    if json:
        write_stdout(dump({"schema": "vpipe.cache.pack/1", "packed": rows, "failed": failed}) + "\n")
    note(f"{megabytes(before)} are now {megabytes(after)}", plain_options(quiet))
    raise typer.Exit(0 if not failed else 3 if rows else 1)


def parse_age(text: str) -> float:
    """Seconds of "30d", "12h", "2w". Raises UsageError."""
    match = _AGE.fullmatch(text.strip())
    if match is None:
        raise UsageError("bad_age", f"{text}: give an age such as 30d, 12h or 2w")
    return float(match[1]) * _SECONDS[match[2].lower()]
