"""The options that commands share, written once: `@batch_options(...)` adds them to a command.

    app = new_app()

    @app.command()
    @batch_options("overwrite", "cache_dir")
    def flow(options: RunOptions, step: Annotated[int, typer.Option(help="...")] = 1) -> None:
        ...

The command sees one `options: RunOptions`; Typer sees `INPUT...`, `--from-file`, `--json` and the rest.
"""

from __future__ import annotations

import functools
import inspect
import logging
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from vpipe import threads
from vpipe.errors import UsageError
from vpipe.limits import Limits, set_limits

OUTPUT_FORMATS = ("json", "jsonl", "csv")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)


@dataclass(frozen=True)
class RunOptions:
    """What the shared options said. `output_format` is text, json, jsonl or csv; `verbose` is 0, 1 or 2."""

    inputs: tuple[str, ...] = ()
    from_file: str | None = None
    null: bool = False
    failures: Path | None = None
    overwrite: bool = False
    dry_run: bool = False
    jobs: int = 1
    device: str = "auto"
    cache_dir: Path | None = None
    output_format: str = "text"
    quiet: bool = False
    verbose: int = 0

    def resolve_device(self) -> str:
        """The torch device of `--device`; says on stderr what `auto` chose. Raises UsageError if missing."""
        from vpipe.devices import resolve_device

        device = resolve_device(self.device)
        if self.device == "auto":
            note(f"device: {device} (--device auto)", self)
        return device


def note(message: str, options: RunOptions) -> None:
    """One line on stderr that `-q` silences."""
    if not options.quiet:
        print(f"vpipe: {message}", file=sys.stderr)


Inputs = Annotated[
    list[str] | None, typer.Argument(metavar="INPUT", help="Video files, folders or quoted globs.")
]
FromFile = Annotated[
    str | None,
    typer.Option(
        "--from-file", metavar="LIST", help="Read inputs from a list or a failures file; '-' is stdin."
    ),
]
Null = Annotated[bool, typer.Option("--null", "-0", help="Names in LIST end in NUL, not newline.")]
Failures = Annotated[
    Path | None,
    typer.Option("--failures", metavar="FILE", help="Write failed inputs to FILE, for --from-file."),
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Jsonl = Annotated[bool, typer.Option("--jsonl", help="One JSON row per line, as each input finishes.")]
Csv = Annotated[bool, typer.Option("--csv", help="CSV on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no notes; errors remain.")]
Verbose = Annotated[
    int,
    typer.Option(
        "--verbose", "-v", count=True, show_default=False, help="Log to stderr; -vv adds tracebacks."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Make outputs again that exist already.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List the inputs and do nothing.")]
Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs", "-j", metavar="N", min=1, envvar="VPIPE_JOBS", help="Threads [default: all cores]."
    ),
]
Device = Annotated[
    str,
    typer.Option("--device", metavar="DEVICE", envvar="VPIPE_DEVICE", help="auto, cpu, cuda or cuda:N."),
]
CacheDir = Annotated[
    Path | None,
    typer.Option("--cache-dir", metavar="DIR", envvar="VPIPE_CACHE_DIR", help="Where optical flow is kept."),
]

# Limits on what a file may ask for; None: the default of `Limits`.
_DEFAULT = Limits()
MaxPixels = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, envvar="VPIPE_MAX_PIXELS", help=f"Refuse larger frames [{_DEFAULT.pixels}]."
    ),
]
MaxFrames = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, envvar="VPIPE_MAX_FRAMES", help=f"Refuse longer videos [{_DEFAULT.frames}]."
    ),
]
MaxStreams = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, envvar="VPIPE_MAX_STREAMS", help=f"Refuse more streams [{_DEFAULT.streams}]."
    ),
]
MaxMetadata = Annotated[
    str | None,
    typer.Option(metavar="SIZE", envvar="VPIPE_MAX_METADATA", help="Refuse more metadata [16 MB]."),
]
MaxStall = Annotated[
    float | None,
    typer.Option(
        metavar="S",
        min=0.1,
        envvar="VPIPE_MAX_STALL",
        help=f"Give up a decoder that does nothing for S seconds [{_DEFAULT.stall_s:g}].",
    ),
]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        envvar="VPIPE_MAX_MEMORY",
        help="Memory of a decoder [4 GB, or half of the machine's].",
    ),
]

# parameter -> (type, default); the first group is on every batch command, the second where it means something
_ALWAYS: dict[str, tuple[Any, Any]] = {
    "inputs": (Inputs, None),
    "from_file": (FromFile, None),
    "null": (Null, False),
    "failures": (Failures, None),
    "json": (Json, False),
    "jsonl": (Jsonl, False),
    "csv": (Csv, False),
    "quiet": (Quiet, False),
    "verbose": (Verbose, 0),
}
_LIMITS: dict[str, tuple[Any, Any]] = {
    "max_pixels": (MaxPixels, None),
    "max_frames": (MaxFrames, None),
    "max_streams": (MaxStreams, None),
    "max_metadata": (MaxMetadata, None),
    "max_stall": (MaxStall, None),
    "max_memory": (MaxMemory, None),
}
_CHOSEN: dict[str, tuple[Any, Any]] = {
    "overwrite": (Overwrite, False),
    "dry_run": (DryRun, False),
    "jobs": (Jobs, None),
    "device": (Device, "auto"),
    "cache_dir": (CacheDir, None),
}
# Settings that the TOML file may give once for all commands.
SHARED_SETTINGS = (
    *("quiet", "verbose", "overwrite", "jobs", "device", "cache_dir"), *OUTPUT_FORMATS, *_LIMITS
)  # fmt: skip


def new_app(**settings: Any) -> typer.Typer:
    """The Typer object of a command file: plain help, no completion options of its own."""
    return typer.Typer(
        add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False, **settings
    )


def batch_options(*chosen: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command with an `options: RunOptions` parameter the shared options.

    `chosen` names those beyond the ones every batch command has: overwrite, dry_run, jobs, device, cache_dir.
    """
    shared = _ALWAYS | {name: _CHOSEN[name] for name in chosen} | _LIMITS

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        hints = get_type_hints(command, include_extras=True)
        own = [p for name, p in inspect.signature(command).parameters.items() if name != "options"]

        @functools.wraps(command)
        def run(ctx: typer.Context, **values: Any) -> None:
            mine = {p.name: values.pop(p.name) for p in own}
            command(options=_gather(ctx, values), **mine)

        def keyword(name: str, kind: Any, default: Any) -> inspect.Parameter:
            return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)

        # Typer reads the signature and the annotations; the inputs come first, then the command's own.
        parameters = [keyword("ctx", typer.Context, inspect.Parameter.empty)]
        parameters += [keyword("inputs", *shared["inputs"])]
        parameters += [keyword(p.name, hints[p.name], p.default) for p in own]
        parameters += [keyword(name, *shared[name]) for name in shared if name != "inputs"]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        del run.__wrapped__
        return run

    return decorate


def _gather(ctx: typer.Context, values: dict[str, Any]) -> RunOptions:
    """RunOptions from the parsed values; sets up logging and threads."""
    output_format = _output_format(ctx, {name: values.pop(name) for name in OUTPUT_FORMATS})
    configure_logging(values["verbose"])
    set_limits(_limits({name: values.pop(name) for name in _LIMITS}))
    if "jobs" in values:
        threads.set_jobs(values["jobs"])
        values["jobs"] = threads.jobs()
    values["inputs"] = tuple(values["inputs"] or ())
    if values["null"] and values["from_file"] is None:
        raise UsageError("bad_flags", "-0 says how a list is split: it needs --from-file LIST")
    if not values.get("dry_run"):
        from vpipe.workers import begin_early  # here: help does not need it

        begin_early("vpipe.media.worker")  # a decoder gets ready while the libraries are imported
    return RunOptions(output_format=output_format, **values)


def _limits(given: dict[str, Any]) -> Limits:
    """The limits that the options ask for. Raises UsageError for a size that is none."""
    asked = {
        "pixels": given["max_pixels"],
        "frames": given["max_frames"],
        "streams": given["max_streams"],
        "metadata_bytes": given["max_metadata"] and parse_size(given["max_metadata"]),
        "stall_s": given["max_stall"],
        "memory_bytes": given["max_memory"] and parse_size(given["max_memory"]),
    }
    return Limits(**{name: value for name, value in asked.items() if value is not None})


def parse_size(text: str) -> int:
    """Bytes of "50GB", "512 MB", "1.5T"; powers of 1000. Raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError("bad_size", f"{text}: give a size such as 50GB or 512MB")
    return int(float(match[1]) * 1000 ** " kmgt".index(match[2].lower() or " "))


def configure_logging(verbose: int) -> None:
    """Log to stderr: warnings by default, INFO with -v, DEBUG with -vv."""
    level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    logging.basicConfig(stream=sys.stderr, format="vpipe: %(name)s: %(message)s", force=True)
    logging.getLogger("vpipe").setLevel(level)


def _output_format(ctx: typer.Context, flags: dict[str, bool]) -> str:
    """The one format asked for. A flag beats VPIPE_*, which beats the TOML file; two at one level clash."""
    ranking = ("COMMANDLINE", "ENVIRONMENT", "DEFAULT_MAP")
    for source in ranking:
        asked = []
        for name, value in flags.items():
            origin = ctx.get_parameter_source(name)
            if value and origin is not None and origin.name == source:
                asked.append(name)
        if len(asked) > 1:
            names = " and ".join(f"--{name}" for name in asked)
            raise UsageError("bad_flags", f"{names} exclude each other: choose one output format")
        if asked:
            return asked[0]
    return "text"
