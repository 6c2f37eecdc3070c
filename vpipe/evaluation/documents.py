"""JSON and JSONL documents of results and annotations, read one entry at a time.

A file of a million predictions is hundreds of MB as Python objects. `entries` therefore never holds more than
the text and one entry: one video's list of an ActivityNet document, one row of vpipe's, one line of JSONL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpipe.documents import LARGE_BYTES, read_document
from vpipe.errors import InputError

SECTIONS = ("database", "results", "videos")  # whose members are entries of their own
LONGEST_ROW = 1_000_000  # characters of a line that is decoded at once

_decoder = json.JSONDecoder()
_space = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True)
class Entry:
    """One member of a document: `name` is its key, None in a list and on a line of JSONL."""

    section: str  # one of SECTIONS; "rows" for the items of a list and the lines of JSONL; "" for other keys
    name: str | None
    value: Any  # None where an entry without name only says that the section is there, if perhaps empty


def read_text(path: Path) -> str:
    """Text of a UTF-8 file. Raises InputError `not_found`, `is_directory`, `os_error` or `not_json`."""
    try:
        return read_document(path, LARGE_BYTES).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError("not_found", f"{path}: no such file; check the name") from None
    except IsADirectoryError:
        raise InputError("is_directory", f"{path}: is a folder; name the file in it") from None
    except OSError as fault:
        raise InputError("os_error", f"{path}: cannot be read ({fault.strerror})") from fault
    except UnicodeDecodeError:
        raise InputError("not_json", f"{path}: is not JSON text in UTF-8") from None


def read_entries(path: Path) -> Iterator[Entry]:
    """Entries of the JSON or JSONL document in `path`. Raises InputError as `read_text`, and `not_json`."""
    return entries_of_text(read_text(path), str(path))


def entries_of_text(text: str, name: str) -> Iterator[Entry]:
    """Entries of a document as text; `name` is for messages. Raises InputError `not_json`."""
    try:
        yield from _document(text)
    except json.JSONDecodeError as fault:
        raise InputError("not_json", f"{name}: is not JSON (line {fault.lineno}: {fault.msg})") from None
    except (RecursionError, ValueError):
        text = "is nested too deeply, or has a number too long, to be a document of results"
        raise InputError("not_json", f"{name}: {text}") from None


def entries_of(document: Any) -> Iterator[Entry]:
    """Entries of a document that is in memory already."""
    if isinstance(document, Mapping):
        if "video_id" in document:  # a line of JSONL, or a file of one row
            yield Entry("rows", None, document)
            return
        for key, value in document.items():
            if key in SECTIONS and isinstance(value, Mapping):
                yield Entry(key, None, None)
                yield from (Entry(key, str(name), item) for name, item in value.items())
            elif key in SECTIONS and isinstance(value, list):
                yield Entry(key, None, None)
                yield from (Entry("rows", None, item) for item in value)
            else:
                yield Entry("", str(key), value)
        if not document:
            yield Entry("", None, document)
    elif isinstance(document, Sequence) and not isinstance(document, str):
        yield from (Entry("rows", None, item) for item in document)
    else:
        yield Entry("", None, document)


def _document(text: str) -> Iterator[Entry]:
    """A JSON document, or several one after the other: JSONL."""
    cursor = _Cursor(text)
    while not cursor.ended():
        row = cursor.row()
        if row is not None:
            yield Entry("rows", None, row)
        elif cursor.sees("{"):
            yield from _object(cursor)
        else:
            yield from entries_of(cursor.value())


def _object(cursor: _Cursor) -> Iterator[Entry]:
    """Entries of the sections one by one; what else the object has comes after them."""
    rest: dict[str, Any] = {}
    has_section = False
    for key in cursor.members():
        if key in SECTIONS and cursor.sees("{"):
            has_section = True
            yield Entry(key, None, None)
            for name in cursor.members():
                yield Entry(key, name, cursor.value())
        elif key in SECTIONS and cursor.sees("["):
            has_section = True
            yield Entry(key, None, None)
            for _ in cursor.items():
                yield Entry("rows", None, cursor.value())
        else:
            rest[key] = cursor.value()
    if rest or not has_section:
        yield from entries_of(rest)


class _Cursor:
    """A place in JSON text, moved on by whole values. Raises JSONDecodeError where the text is not JSON."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip(self) -> None:
        match = _space.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def ended(self) -> bool:
        self.skip()
        return self.at == len(self.text)

    def sees(self, mark: str) -> bool:
        self.skip()
        return self.text.startswith(mark, self.at)

    def take(self, mark: str) -> None:
        if not self.sees(mark):
            raise json.JSONDecodeError(f"Expecting '{mark}'", self.text, self.at)
        self.at += 1

    def value(self) -> Any:
        self.skip()
        found, self.at = _decoder.raw_decode(self.text, self.at)
        return found

    def row(self) -> dict[str, Any] | None:
        """The row that begins the line here, taken whole: member by member takes ten times as long."""
        end = self.text.find("\n", self.at, self.at + LONGEST_ROW)
        if end < 0 or not self.text.startswith("{", self.at):
            return None
        try:
            row, length = _decoder.raw_decode(self.text[self.at : end])
        except json.JSONDecodeError:
            return None  # the document is not one line, or its fault is to be named by its place in the text
        if "video_id" not in row or not row.keys().isdisjoint(SECTIONS):
            return None
        self.at += length
        return row

    def members(self) -> Iterator[str]:
        """Keys of the object here, the cursor at the value of each: the caller takes it before the next."""
        for _ in self._between("{", "}"):
            if not self.sees('"'):
                raise json.JSONDecodeError("Expecting a name in double quotes", self.text, self.at)
            key = self.value()
            self.take(":")
            yield key

    def items(self) -> Iterator[None]:
        """Stops at each item of the list here, which the caller takes before the next."""
        return self._between("[", "]")

    def _between(self, opening: str, closing: str) -> Iterator[None]:
        self.take(opening)
        if not self.sees(closing):
            yield None
            while self.sees(","):
                self.take(",")
                yield None
        self.take(closing)
