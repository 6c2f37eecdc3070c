"""One batch: every input to a row, one bad video never stops the rest, and the exit code says how it went."""

from __future__ import annotations

import contextlib
import errno
import logging
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import typer

from vpipe.cli import interrupt
from vpipe.cli.inputs import Item, failure_row_key, find_items, refuse_inputs
from vpipe.cli.options import RunOptions, note
from vpipe.cli.output import (
    ClosedPipe,
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
from vpipe.errors import LOSSES, EnvironmentFault, InputError, UsageError, VpipeError, one_line

__all__ = ["Item", "RunOptions", "run_batch"]

_log = logging.getLogger("vpipe.run")

# The machine's fault, whichever library met it: the next input would meet it too.
_MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.EAGAIN}

AHEAD = 4  # items for each thread that may be done before their turn to be printed

Output = TextOutput | JsonOutput | JsonlOutput | CsvOutput


def run_batch(
    command: str,
    options: RunOptions,
    work: Callable[[Item], Mapping[str, Any]],
    *,
    text: Callable[[Row], str | None],
    model: Mapping[str, Any] | None = None,
    verdicts: bool = False,
    at_once: int = 1,
    writes: Mapping[str, Path | None] | None = None,
) -> None:
    """Run `work` on every input, in input order, and print the rows; always ends in typer.Exit(code).

    `work(item)` returns the row's own keys: duration_s, frames, width, height, warnings (list[Warning_]),
    status ("partial" where not all of it could be done; so is every row with a warning of `LOSSES`) and the
    payload (labels, segments, cache, path ...).
    It raises InputError where this input fails, EnvironmentFault where the machine does: that ends the batch.
    `text(row)` renders a row for a terminal, or returns None. With `verdicts` (the `check` command) a failed
    row is a result like any other: it is rendered, any of them makes the exit code 1, and those with `ok`
    false are in the failures file too. `at_once` items are worked on side by side, in threads. `writes`:
    files that the command writes, by flag, which must be no inputs.
    """
    items = find_items(options.inputs, options.from_file, options.null)
    refuse_inputs(items, {"--failures": options.failures, **(writes or {})})
    if options.failures is not None:
        prepare_output_dir(options.failures.parent)
    if not items:
        note(f"nothing to do: no inputs in {options.from_file}", options)
    output = _output(command, options, text, model, verdicts)
    if options.dry_run:
        _list_only(items, options)
    batch = _Batch(items, output, options, verdicts)
    interrupt.before_the_end(batch.interrupted)
    try:
        with contextlib.closing(_rows(items, work, options, at_once)) as rows:
            for item, row, fault in rows:
                batch.add(item, row)
                if isinstance(fault, (EnvironmentFault, UsageError)):
                    batch.code = fault.exit_code
                    break
    except KeyboardInterrupt:
        batch.interrupted()
        raise
    except BaseException:
        with contextlib.suppress(ClosedPipe):
            batch.close(say=False)
        raise
    batch.close()
    raise typer.Exit(batch.exit_code())


class _Batch:
    """The rows so far, and the end of the batch, which comes once, from whichever thread is first."""

    def __init__(self, items: Sequence[Item], output: Output, options: RunOptions, verdicts: bool) -> None:
        self.items, self.output, self.options, self.verdicts = items, output, options, verdicts
        self.done = 0
        self.failed: list[Row] = []
        self.faulty: list[Row] = []  # done, and found wanting
        self.code: int | None = None
        self._lock = threading.Lock()
        self._closed = False

    def add(self, item: Item, row: Row) -> None:
        with self._lock:
            self.output.add(row)
            if row["status"] == "failed":
                self.failed.append({**row, **failure_row_key(item)})
            else:
                self.done += 1
                if self.verdicts and not row.get("ok", True):
                    self.faulty.append({**row, **failure_row_key(item)})

    def close(self, *, say: bool = True) -> None:
        """Print what is to come at the end, and write the failures file; `say` how it went."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self.output.close()
            if self.options.failures is not None:
                listed = "".join(dump(row) + "\n" for row in [*self.failed, *self.faulty])
                write_whole(self.options.failures, listed)
        if say and len(self.items) > 1:
            note(self._summary(), self.options)

    def interrupted(self) -> None:
        """Close, and say how it stands: the rows that are finished are kept."""
        self.close(say=False)
        note(f"interrupted: {self._summary()}; run the same again to go on", self.options)

    def exit_code(self) -> int:
        if self.code is not None:
            return self.code
        return 0 if not self.failed else 1 if self.verdicts or not self.done else 3

    def _summary(self) -> str:
        left = len(self.items) - self.done - len(self.failed)
        return f"{self.done} done, {len(self.failed)} failed" + (f", {left} not tried" if left else "")


Result = tuple[Item, Row, VpipeError | None]


def _rows(
    items: Sequence[Item], work: Callable[[Item], Mapping[str, Any]], options: RunOptions, at_once: int
) -> Generator[Result]:
    """Each item with its row and its fault, in order; `at_once` of them are worked on side by side."""
    if at_once == 1 or len(items) == 1:
        for item in items:
            interrupt.check()
            yield item, *_one(item, work, options)
        return
    pool = ThreadPoolExecutor(at_once)
    try:
        waiting: deque[tuple[Item, Future[tuple[Row, VpipeError | None]]]] = deque()
        for item in items:
            waiting.append((item, pool.submit(_one, item, work, options)))
            while len(waiting) > AHEAD * at_once or (waiting and waiting[0][1].done()):
                first, result = waiting.popleft()
                yield first, *result.result()
        while waiting:
            first, result = waiting.popleft()
            yield first, *result.result()
    finally:
        # Also when interrupted: what runs is not waited for.
        pool.shutdown(wait=False, cancel_futures=True)


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
    if row["status"] == "ok" and any(warning["code"] in LOSSES for warning in row["warnings"]):
        row["status"] = "partial"
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
