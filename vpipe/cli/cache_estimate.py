"""`vpipe flow --dry-run` and `--max-cache-size`: what a run will cost, from a probe of each video."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer

from vpipe.cli import interrupt
from vpipe.cli.inputs import Item
from vpipe.cli.options import RunOptions, note
from vpipe.cli.output import dump, write_stdout
from vpipe.cli.progress import progress
from vpipe.cli.run import complain
from vpipe.errors import EnvironmentFault, VpipeError, one_line

if TYPE_CHECKING:
    from vpipe.flow.params import FlowParams
    from vpipe.flow.quantise import Storage


def dry_run(items: Sequence[Item], params: FlowParams, storage: Storage, options: RunOptions) -> None:
    """Print pairs, hours and gigabytes per video and in total; ends in typer.Exit(code). Writes nothing."""
    rows, failed = _estimates(items, params, storage, options)
    total = _total(rows)
    if options.output_format == "json":
        write_stdout(dump({"schema": "vpipe.dry-run/1", "inputs": rows, "total": total}) + "\n")
    elif options.output_format == "jsonl":
        write_stdout("".join(dump(row) + "\n" for row in rows))
    else:
        separator = "," if options.output_format == "csv" else "\t"
        names = ("input", "video_id", "pairs", "missing", "hours", "gigabytes")
        lines = [names, *(tuple(row[name] for name in names) for row in rows if not row["error"])]
        if separator == "\t":
            lines.append(("total", "", *(total[name] for name in names[2:])))
        for line in lines:
            write_stdout(separator.join(_cell(value) for value in line) + "\n")
    raise typer.Exit(0 if not failed else 3 if failed < len(rows) else 1)


def warn_of_size(
    items: Sequence[Item], params: FlowParams, storage: Storage, options: RunOptions, limit: int
) -> None:
    """Say so on stderr where the cache and what this run adds would take more than `limit` bytes."""
    from vpipe.cache import FlowCache  # here: OpenCV, HDF5 and PyAV take half a second
    from vpipe.cache.estimate import cache_bytes
    from vpipe.cache.files import megabytes

    rows, _ = _estimates(items, params, storage, options)
    now, more = cache_bytes(FlowCache(options.cache_dir).root), _total(rows)["bytes"]
    if now + more > limit:
        note(
            f"warning: the cache holds {megabytes(now)} and this run adds about {megabytes(more)}: more than "
            f"--max-cache-size {megabytes(limit)}; make room with `vpipe cache gc` or `vpipe cache pack` "
            "[cache_size]",
            options,
        )


def _estimates(
    items: Sequence[Item], params: FlowParams, storage: Storage, options: RunOptions
) -> tuple[list[dict[str, Any]], int]:
    """A row for each item, and how many could not be read."""
    from vpipe.cache import FlowCache  # here: OpenCV, HDF5 and PyAV take half a second
    from vpipe.cache.estimate import estimate

    cache, rows, failed = FlowCache(options.cache_dir), [], 0
    with progress(len(items), "videos", "probing", options) as bar:
        for item in items:
            interrupt.check()
            row: dict[str, Any] = {"input": item.display, "video_id": item.video_id}
            row |= dict.fromkeys(("pairs", "missing", "hours", "gigabytes", "seconds", "bytes", "error"))
            try:
                if item.fault is not None:
                    raise item.fault
                found = estimate(cache.entry(item.path, params, storage, remember=False), options.jobs)
                row |= {"pairs": found.pairs, "missing": found.missing, "bytes": found.bytes}
                row["seconds"] = round(found.seconds, 3)
                row |= {"hours": round(found.seconds / 3600, 6), "gigabytes": round(found.bytes / 1e9, 6)}
            except EnvironmentFault:
                raise
            except VpipeError as error:
                complain(error)
                row["error"] = {"code": error.code, "message": error.message}
                failed += 1
            rows.append(row)
            bar.update(1)
    return rows, failed


def _total(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    names = ("pairs", "missing", "seconds", "bytes", "hours", "gigabytes")
    return {name: round(sum(row[name] or 0 for row in rows), 6) for name in names}


def _cell(value: object) -> str:
    return f"{value:.6f}" if isinstance(value, float) else one_line(str(value))
