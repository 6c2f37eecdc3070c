"""What the words after `vpipe cache ...` mean: a video, a flow file or a key; and tables for the terminal."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vpipe.cli.options import RunOptions, configure_logging
from vpipe.cli.output import display_name, write_stdout
from vpipe.errors import InputError, UsageError, one_line

if TYPE_CHECKING:
    from vpipe.cache.catalogue import Cached
    from vpipe.cache.sealed import FlowFile

ForModel = Annotated[
    str | None, typer.Option("--for", metavar="MODEL", help="The flow this flow model wants.")
]
_KEY = re.compile(r"[0-9a-f]{8,64}")
_HDF5 = b"\x89HDF\r\n\x1a\n"


def cache_root(cache_dir: Path | None) -> Path:
    """The folder of `--cache-dir`; also sets up what every cache command needs."""
    from vpipe.cache import FlowCache  # here: OpenCV, HDF5 and PyAV take half a second

    configure_logging(0)
    return FlowCache(cache_dir).root


def plain_options(quiet: bool = False, jobs: int = 1) -> RunOptions:
    """For `note` and `progress`, in commands that are no batch."""
    return RunOptions(quiet=quiet, jobs=jobs)


def entries_named(word: str, root: Path) -> list[Cached]:
    """The finished entries that `word` (a video, a flow file in the cache, a key or its beginning) means.

    Raises InputError not_cached where there is none.
    """
    from vpipe.cache.catalogue import entries, entries_of, look  # here: see cache_root
    from vpipe.cache.keys import source_digest
    from vpipe.cache.slots import slot_of

    path = Path(word)
    if (slot := slot_of(root, path.name)) is not None and _same(path, slot.sealed):
        return [look(slot)]
    if _KEY.fullmatch(word) and not path.exists():
        found = [entry for entry in entries(root) if entry.slot.key.startswith(word)]
    else:
        found = entries_of(root, source_digest(path, root / "sources", remember=False))
    if not found:
        way = "see `vpipe cache list`" if not path.exists() else "run `vpipe flow` on it first"
        raise InputError("not_cached", f"{display_name(word)}: the cache holds no finished flow of it: {way}")
    return found


def one_entry(word: str, root: Path, model: str | None) -> Cached:
    """The one finished entry that `word` means; with `model`, that with the model's recipe.

    Of several recipes the packaged one, of several storages the finest. Raises InputError not_cached,
    several.
    """
    found = entries_named(word, root)
    if model is not None:
        slot = recipe_slot(word, root, model)
        found = [entry for entry in found if entry.slot == slot]
        if not found:
            raise InputError(
                "not_cached",
                f"{display_name(word)}: its flow for {model} is not in the cache: "
                f"run `vpipe flow {display_name(word)} --for {model}`",
            )
    if len(found) > 1 and os.path.exists(word):
        slot = recipe_slot(word, root, None)
        found = [entry for entry in found if entry.slot == slot] or found
    if len({entry.slot.key for entry in found}) == 1:
        return min(found, key=lambda entry: entry.slot.storage)  # the finest: high sorts before standard
    keys = ", ".join(f"{entry.slot.key[:12]} ({entry.slot.storage})" for entry in found)
    raise InputError(
        "several",
        f"{display_name(word)}: {len(found)} recipes are in the cache: name one by its key: {keys}",
    )


def recipe_slot(video: str, root: Path, model: str | None) -> object:
    """The slot of a video's flow for a model; None: for the packaged two-stream model."""
    from vpipe.cache import FlowCache  # here: see cache_root
    from vpipe.cli.flow import recipe_for_model
    from vpipe.flow.params import PACKAGED
    from vpipe.flow.quantise import Storage

    params, storage = recipe_for_model(model, "standard") if model else (PACKAGED, Storage())
    return FlowCache(root).entry(video, params, storage).slot


@contextlib.contextmanager
def flow_file(word: str, root: Path, model: str | None = None) -> Iterator[FlowFile]:
    """The flow file that `word` means. One that is not in the cache is opened in a process of its own.

    Raises InputError: those of `one_entry`, damaged_flow_file.
    """
    from vpipe.cache.foreign import ForeignFile  # here: see cache_root
    from vpipe.cache.records import DamagedFile
    from vpipe.cache.slots import slot_of

    path = Path(word)
    slot = slot_of(root, path.name)
    try:
        if (slot is None or not _same(path, slot.sealed)) and is_hdf5(path):
            if model is not None:
                raise UsageError("bad_flags", f"--for {model}: {display_name(path)} is a flow file, no video")
            with ForeignFile(path) as foreign:
                yield foreign
            return
        entry = one_entry(word, root, model)
        if entry.sealed is None:
            raise DamagedFile(entry.fault or f"{entry.slot.work}: not finished")
        yield entry.sealed
    except DamagedFile as error:
        way = "for files in the cache: `vpipe cache verify --repair`"
        raise InputError("damaged_flow_file", f"{error}; {way}") from None


def is_hdf5(path: Path) -> bool:
    """Whether a file looks like HDF5, or is named like a flow file."""
    if not path.is_file():  # to open a fifo would wait for its writer
        return False
    try:
        with open(path, "rb") as file:
            return file.read(8) == _HDF5 or path.name.endswith(".flow.h5")
    except OSError:
        return False


def print_table(rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> None:
    """Aligned columns on stdout; those of `numbers` to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = [
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        write_stdout(one_line("  ".join(cells).rstrip()) + "\n")


def _same(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False
