"""From arguments to items: files, folders, globs, lists and failures files, and an id for each video."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vpipe.cli.output import display_name
from vpipe.documents import LARGE_BYTES, read_document
from vpipe.errors import InputError, UsageError, VpipeError

VIDEO_EXTENSIONS = frozenset(
    f".{name}"
    for name in (
        *("3gp", "asf", "avi", "flv", "m2ts", "m4v", "mkv", "mov", "mp4", "mpeg", "mpg", "mts"),
        *("mxf", "ogv", "ts", "vob", "webm", "wmv", "y4m"),
    )
)

MAX_ID_BYTES = 200  # of one part of an id


@dataclass(frozen=True)
class Item:
    """One input. `display` and `video_id` are valid UTF-8; `fault` is set where there is nothing to open."""

    path: Path
    display: str
    video_id: str
    fault: VpipeError | None = None


def find_items(inputs: Sequence[str], from_file: str | None = None, null: bool = False) -> list[Item]:
    """Every video named by the arguments and by the list, in the order given, each once.

    Folders are searched recursively for video extensions, in sorted order. A folder or a glob without
    videos becomes an item with a `fault`. Raises UsageError where nothing was given or the list cannot be
    read.
    """
    if not inputs and from_file is None:
        raise UsageError(
            "no_inputs", "no input given: name video files, folders or quoted globs, or use --from-file LIST"
        )
    if "-" in inputs:
        raise UsageError(
            "bad_input_name", "'-' is no video file: --from-file - reads a list of names from stdin"
        )
    named = [item for name in inputs for item in _expand(name)]
    if from_file is not None:
        named += [item for name in read_list(from_file, null) for item in _listed(name)]
    found: dict[str, Item] = {}
    for item in named:
        # The same file named twice is one input.
        found.setdefault(os.path.abspath(item.path), item)
    items = list(found.values())
    return [replace(item, video_id=name) for item, name in zip(items, video_ids(items), strict=True)]


def _expand(name: str) -> Iterable[Item]:
    """The items behind one argument: a name, or a pattern where there is no such file."""
    if name and not os.path.lexists(name) and glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True), key=os.fsencode)
        if not matches:
            yield _item(name, InputError("not_found", f"{display_name(name)}: no file matches this pattern"))
        for match in matches:
            if match != name:
                yield from _listed(match)
        return
    yield from _listed(name)


def _listed(name: str) -> Iterable[Item]:
    """The items behind a name that is no pattern: a file, or the videos of a folder."""
    if not os.path.isdir(name):
        yield _item(name)
        return
    try:
        videos = _videos_below(name)
    except OSError as error:
        reason = error.strerror or str(error)
        yield _item(name, InputError("permission", f"{display_name(name)}: cannot be listed: {reason}"))
        return
    if not videos:
        kinds = "mp4, mkv, avi, webm, mov ..."
        message = f"{display_name(name)}: no videos in this folder ({kinds}); name other files one by one"
        yield _item(name, InputError("no_videos", message))
    for video in videos:
        yield _item(video)


def _videos_below(folder: str) -> list[str]:
    """Files with a video extension below `folder`, sorted; hidden ones left out. Raises OSError."""

    def fail(error: OSError) -> None:
        # Only the folder that was named must be readable; a closed one inside it is skipped.
        if error.filename == folder:
            raise error

    videos = []
    for place, folders, files in os.walk(folder, onerror=fail):
        folders[:] = [f for f in folders if not f.startswith(".")]
        for file in files:
            if not file.startswith(".") and os.path.splitext(file)[1].lower() in VIDEO_EXTENSIONS:
                videos.append(os.path.join(place, file))
    return sorted(videos, key=os.fsencode)


def _item(name: str, fault: VpipeError | None = None) -> Item:
    return Item(path=Path(name), display=display_name(name), video_id="", fault=fault)


def read_list(source: str, null: bool) -> list[str]:
    """Names from a list file or stdin (`-`): one a line (or NUL-ended), or the rows of a failures file."""
    try:
        data = read_document(sys.stdin.buffer if source == "-" else Path(source), LARGE_BYTES)
    except OSError as error:
        raise UsageError(
            "bad_list", f"--from-file {display_name(source)}: cannot be read: {error.strerror or error}"
        ) from None
    if not null and data.lstrip()[:1] == b"{":
        return [_name_in_row(line, source) for line in data.splitlines() if line.strip()]
    pieces = data.split(b"\0") if null else data.splitlines()
    return [os.fsdecode(piece) for piece in pieces if piece]


def _name_in_row(line: bytes, source: str) -> str:
    """The input's name in one row of a failures file (`input_hex` where the name is not UTF-8)."""
    try:
        row = json.loads(line)
        if "input_hex" in row:
            return os.fsdecode(bytes.fromhex(row["input_hex"]))
        name = row["input"]
        if not isinstance(name, str):
            raise TypeError
        return name
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UsageError(
            "bad_list",
            f"--from-file {display_name(source)}: starts like a failures file, but a line is no JSON row "
            'with "input"; give one name a line, or the file that --failures wrote',
        ) from None


def refuse_inputs(items: Sequence[Item], outputs: Mapping[str, Path | None]) -> None:
    """Raise UsageError output_is_input where a file to be written, by the name of its flag, is an input."""
    for flag, path in outputs.items():
        if path is None or not path.is_file():
            continue
        for item in items:
            if item.path.exists() and os.path.samefile(item.path, path):
                raise UsageError(
                    "output_is_input", f"{flag} {display_name(path)}: is an input: choose another name"
                )


def failure_row_key(item: Item) -> dict[str, str]:
    """What a failures file adds to a row, so that a name that is not UTF-8 can be found again."""
    raw = os.fsencode(item.path)
    try:
        raw.decode()
    except UnicodeDecodeError:
        return {"input_hex": raw.hex()}
    return {}


def video_ids(items: Sequence[Item]) -> list[str]:
    """One distinct id per item: the stem; where stems clash, the path below the clashing ones' common folder
    (without the extension, then with it). Parts that are too long to add anything to are shortened."""
    paths = [os.path.abspath(item.path) for item in items]
    ids = [display_name(os.path.splitext(os.path.basename(p))[0] or p) for p in paths]
    for longer in (_below_common_folder_without_extension, _below_common_folder):
        for group in _clashes(ids):
            for index, name in zip(group, longer([paths[i] for i in group]), strict=True):
                ids[index] = name
    ids = [_short_enough(name) for name in ids]
    # Left over: an id that looks like another's longer form, or names that only differ in invalid bytes.
    while groups := _clashes(ids):
        for group in groups:
            for count, index in enumerate(group[1:], start=2):
                ids[index] = f"{ids[index]}~{count}"
    return ids


def _short_enough(name: str) -> str:
    """`name` with room for what outputs add to it: a file system allows 255 bytes."""
    return "/".join(
        part
        if len(part.encode()) <= MAX_ID_BYTES
        else part.encode()[: MAX_ID_BYTES - 13].decode("utf-8", "ignore")
        + f"~{hashlib.sha256(part.encode()).hexdigest()[:12]}"
        for part in name.split("/")
    )


def _clashes(ids: Sequence[str]) -> list[list[int]]:
    groups = defaultdict(list)
    for index, name in enumerate(ids):
        groups[name].append(index)
    return [group for group in groups.values() if len(group) > 1]


def _below_common_folder(paths: Sequence[str]) -> list[str]:
    common = os.path.commonpath([os.path.dirname(p) for p in paths])
    return [display_name(os.path.relpath(p, common)) for p in paths]


def _below_common_folder_without_extension(paths: Sequence[str]) -> list[str]:
    common = os.path.commonpath([os.path.dirname(p) for p in paths])
    return [display_name(os.path.splitext(os.path.relpath(p, common))[0]) for p in paths]
