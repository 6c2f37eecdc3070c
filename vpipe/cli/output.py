"""What goes to stdout: text, JSON, JSONL or CSV, one small class each, and where outputs may be written."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from vpipe.errors import EnvironmentFault, Warning_, plain_text
from vpipe.whole_file import whole

Row = dict[str, Any]

ROW_KEYS = (
    "input", "video_id", "status", "duration_s", "frames", "width", "height", "warnings", "error"
)  # fmt: skip
# One CSV line per element of these lists; the columns are there even when every input failed.
CSV_LISTS: dict[str, tuple[str, ...]] = {
    "labels": ("label", "score"),
    "segments": ("label", "score", "start_s", "end_s", "start_frame", "end_frame"),
}


class ClosedPipe(Exception):
    """The reader of stdout has gone: stop quietly."""


def write_stdout(text: str) -> None:
    """Write and flush. Raises ClosedPipe, or EnvironmentFault where stdout cannot be written."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()
        raise ClosedPipe from None
    except OSError as error:
        silence_stdout()
        raise EnvironmentFault(
            "unwritable_output", f"standard output: cannot be written: {error.strerror or error}"
        ) from None


def fill_standard_streams() -> None:
    """Open something in place of standard streams that are closed (`>&-`).

    The next files that are opened would get their numbers, and what native libraries print would be written
    over them. To read or write fails as before; only what is said on a closed stderr is lost quietly.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            wrong_way = os.O_WRONLY if mode == "r" else os.O_RDONLY
            os.open(os.devnull, os.O_WRONLY if number == 2 else wrong_way)
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def silence_stdout() -> None:
    """Point stdout at nothing, so that the interpreter's last flush cannot fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def plain(value: Any) -> Any:
    """`value` as JSON knows it: no NaN, fractions as seconds, paths and warnings as text and objects."""
    if isinstance(value, Warning_):
        return plain(value.to_json())
    if isinstance(value, Mapping):
        return {plain_text(str(key)): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return display_name(value)
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, bool) or value is None or isinstance(value, int):
        return value
    if isinstance(value, Fraction):
        return round(float(value), 6)
    if hasattr(value, "item"):  # a numpy or torch number
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    raise TypeError(f"{type(value).__name__} has no JSON form")


def display_name(path: str | Path) -> str:
    """A path as valid UTF-8: bytes that are not are written as `\\xff`."""
    return plain_text(os.fsdecode(path))


def dump(value: Any) -> str:
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False)


class TextOutput:
    """A line or a table per input, written as each finishes."""

    def __init__(self, text: Callable[[Row], str | None], with_failures: bool) -> None:
        self.text, self.with_failures = text, with_failures

    def add(self, row: Row) -> None:
        if row["status"] != "failed" or self.with_failures:
            rendered = self.text(row)
            if rendered is not None:
                write_stdout(rendered + "\n")

    def close(self) -> None:
        pass


class JsonOutput:
    """One document at the end: schema, model, results, failures."""

    def __init__(self, command: str, model: Mapping[str, Any] | None) -> None:
        self.head = {"schema": f"vpipe.{command}/1", "model": model}
        self.rows: list[Row] = []

    def add(self, row: Row) -> None:
        self.rows.append(row)

    def close(self) -> None:
        results = [row for row in self.rows if row["status"] != "failed"]
        failures = [row for row in self.rows if row["status"] == "failed"]
        document = plain({**self.head, "results": results, "failures": failures})
        write_stdout(json.dumps(document, ensure_ascii=False, allow_nan=False, indent=2) + "\n")


class JsonlOutput:
    """One row a line, as each input finishes."""

    def add(self, row: Row) -> None:
        write_stdout(dump(row) + "\n")

    def close(self) -> None:
        pass


class CsvOutput:
    """One line per label or segment (or per input where a row has no list), with a header, at the end."""

    def __init__(self) -> None:
        self.lines: list[dict[str, Any]] = []

    def add(self, row: Row) -> None:
        row = plain(row)
        line: dict[str, Any] = {key: row.get(key) for key in ROW_KEYS[:-2]}
        line["warnings"] = " ".join(w["code"] for w in row.get("warnings", ()))
        error = row.get("error") or {}
        line["error_code"], line["error_message"] = error.get("code"), error.get("message")
        parts: list[dict[str, Any]] = []
        for key, value in row.items():
            if key in ROW_KEYS:
                continue
            if key in CSV_LISTS:
                parts = [{name: part.get(name) for name in CSV_LISTS[key]} for part in value]
                line.update(dict.fromkeys(CSV_LISTS[key]))
            elif isinstance(value, dict):
                line.update({f"{key}_{name}": _cell(part) for name, part in value.items()})
            else:
                line[key] = _cell(value)
        self.lines += [{**line, **part} for part in parts] or [line]

    def close(self) -> None:
        columns = list(dict.fromkeys(key for line in self.lines for key in line))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns or list(ROW_KEYS), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.lines)
        write_stdout(text.getvalue())


def _cell(value: Any) -> Any:
    return dump(value) if isinstance(value, (dict, list)) else value


def prepare_output_dir(folder: Path) -> None:
    """Make `folder` and try a write in it. Raises EnvironmentFault `unwritable_output`; leaves no trace."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise unwritable(folder, error) from None


def write_whole(path: Path, text: str) -> None:
    """Write a file that is never half-written under its name. Raises EnvironmentFault."""
    try:
        with whole(path) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from None


def unwritable(path: Path, error: OSError) -> EnvironmentFault:
    reason = error.strerror or str(error)
    return EnvironmentFault(
        "unwritable_output", f"{display_name(path)}: cannot be written: {reason}; choose another place"
    )
