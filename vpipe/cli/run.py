"""One batch: every input to a row, one bad video never stops the rest, and the exit code says how it went."""

from __future__ import annotations

import errno
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

import typer

from vpipe.cli import interrupt
from vpipe.cli.inputs import Item, failure_row_key, find_items
from vpipe.cli.options import RunOptions, note
from vpipe.cli.output import (
    CsvOutput,
    JsonlOutput,
    JsonOutput,
    Row,
    TextOutput,
    dump,
    plain,
    prepare_output_dir,
    write_stdout,
    write_whole,
)
from vpipe.errors import EnvironmentFault, InputError, UsageError, VpipeError, one_line

__all__ = ["Item", "RunOptions", "run_batch"]

_log = logging.getLogger("vpipe.run")

# The machine's fault, whichever library met it: the next input would meet it too.
_MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE}

Output = TextOutput | JsonOutput | JsonlOutput | CsvOutput


def run_batch(
    command: str,
    options: RunOptions,
    work: Callable[[Item], Mapping[str, Any]],
    *,
    text: Callable[[Row], str | None],
    model: Mapping[str, Any] | None = None,
    verdicts: bool = False,
) -> None:
    """Run `work` on every input, in input order, and print the rows; always ends in typer.Exit(code).

    `work(item)` returns the row's own keys: duration_s, frames, width, height, warnings (list[Warning_]),
    status ("partial" where not all of it could be done) and the payload (labels, segments, cache, path ...).
    It raises InputError where this input fails, EnvironmentFault where the machine does: that ends the batch.
    `text(row)` renders a row for a terminal, or returns None. With `verdicts` (the `check` command) a failed
    row is a result like any other: it is rendered, and any of them makes the exit code 1.
    """
    items = find_items(options.inputs, options.from_file, options.null)
    if options.failures is not None:
        prepare_output_dir(options.failures.parent)
    if not items:
        note(f"nothing to do: no inputs in {options.from_file}", options)
    output = _output(command, options, text, model, verdicts)
    if options.dry_run:
        _list_only(items, options)
    done, failed = 0, []
    code = None
    try:
        for item in items:
            interrupt.check()
            row, fault = _one(item, work, options)
            output.add(row)
            if row["status"] == "failed":
                failed.append({**row, **failure_row_key(item)})
            else:
                done += 1
            if isinstance(fault, (EnvironmentFault, UsageError)):
                code = fault.exit_code
                break
    finally:
        # Also when interrupted: rows that are finished are kept.
        output.close()
        if options.failures is not None:
            write_whole(options.failures, "".join(dump(row) + "\n" for row in failed))
    if len(items) > 1:
        left = len(items) - done - len(failed)
        note(f"{done} done, {len(failed)} failed" + (f", {left} not tried" if left else ""), options)
    if code is None:
        code = 0 if not failed else 1 if verdicts or not done else 3
    raise typer.Exit(code)


def _output(
    command: str,
    options: RunOptions,
    text: Callable[[Row], str | None],
    model: Mapping[str, Any] | None,
    verdicts: bool,
) -> Output:
    if options.output_format == "json":
        return JsonOutput(command, model)
    if options.output_format == "jsonl":
        return JsonlOutput()
    if options.output_format == "csv":
        return CsvOutput()
    return TextOutput(text, with_failures=verdicts)


def _list_only(items: list[Item], options: RunOptions) -> None:
    """`--dry-run`: the inputs and their ids, nothing opened and nothing written."""
    listed = [
        {"input": i.display, "video_id": i.video_id, "error": _error(i.fault) if i.fault else None}
        for i in items
    ]
    if options.output_format == "json":
        write_stdout(dump({"schema": "vpipe.dry-run/1", "inputs": listed}) + "\n")
    elif options.output_format == "jsonl":
        write_stdout("".join(dump(entry) + "\n" for entry in listed))
    else:
        write_stdout("".join(f"{one_line(item.display)}\t{one_line(item.video_id)}\n" for item in items))
    raise typer.Exit(0)


def _one(
    item: Item, work: Callable[[Item], Mapping[str, Any]], options: RunOptions
) -> tuple[Row, VpipeError | None]:
    """The row of one item, and the fault that made it fail; says both on stderr."""
    row: Row = {"input": item.display, "video_id": item.video_id, "status": "ok"}
    row |= dict.fromkeys(("duration_s", "frames", "width", "height"))
    row |= {"warnings": [], "error": None}
    _log.info("%s", item.display)
    try:
        if item.fault is not None:
            raise item.fault
        row.update(plain(work(item)))
    except Exception as error:
        interrupt.check()  # the item may have failed for nothing else
        fault = as_fault(error, item)
        row |= {"status": "failed", "error": _error(fault)}
        complain(fault)
        if options.verbose >= 2:
            traceback.print_exception(error, file=sys.stderr)
        return row, fault
    for warning in row["warnings"]:
        text = one_line(f"{item.display}: {warning['message']}")
        note(f"warning: {text} [{warning['code']}]", options)
    return row, None


def _error(fault: VpipeError) -> dict[str, str]:
    return {"code": fault.code, "message": fault.message}


def as_fault(error: Exception, item: Item) -> VpipeError:
    """Any exception as one of our faults."""
    if isinstance(error, VpipeError):
        return error
    if isinstance(error, OSError) and error.errno in _MACHINE_ERRORS:
        where = f"{error.filename}: " if error.filename else f"{item.display}: "
        return EnvironmentFault(
            "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "os_error",
            f"{where}{error.strerror}; free some room or choose another place, then run again to go on",
        )
    if isinstance(error, MemoryError):
        return InputError("out_of_memory", f"{item.display}: not enough memory; try fewer jobs (-j)")
    return InputError(
        "internal_error",
        f"{item.display}: unexpected {type(error).__name__}: {error} (a bug in vpipe; -vv for the traceback)",
    )


def complain(fault: VpipeError) -> None:
    """The one line on stderr that every fault gets, `-q` or not."""
    print(f"vpipe: error: {one_line(fault.message)} [{fault.code}]", file=sys.stderr)
