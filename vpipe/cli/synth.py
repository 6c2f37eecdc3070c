"""`vpipe synth clips|untrimmed`: generated videos of the motion vocabulary, with exact truth."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vpipe import threads
from vpipe.cli.options import Jobs, Overwrite, Quiet, RunOptions, Verbose, configure_logging, new_app
from vpipe.cli.output import display_name, prepare_output_dir, write_stdout
from vpipe.cli.progress import progress
from vpipe.errors import UsageError
from vpipe.timeline import parse_rate

if TYPE_CHECKING:
    from vpipe.synth.write import SynthOptions

app = new_app(help="Generate videos with exact truth.")

Output = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Where videos and truth.json go.")
]
Labels = Annotated[
    str | None, typer.Option("--labels", metavar="A,B,...", help="Only these labels [default: all 13].")
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Equal seeds give equal videos.")]
Fps = Annotated[
    str | None,
    typer.Option("--fps", metavar="F", help="Frames per second, 30 or 30000/1001 [default: varied]."),
]
Vfr = Annotated[bool, typer.Option("--vfr", help="Variable frame rate: jittered and dropped frames.")]
Size = Annotated[
    str | None, typer.Option("--size", metavar="WxH", help="Picture size in pixels [default: varied].")
]
BackgroundFrom = Annotated[
    Path | None,
    typer.Option("--background-from", metavar="DIR", help="Take textures from the videos in DIR."),
]


@app.command()
def clips(
    output: Output,
    count: Annotated[int, typer.Option("--count", min=1, help="How many clips; labels in turn.")] = 13,
    labels: Labels = None,
    seed: Seed = 0,
    fps: Fps = None,
    vfr: Vfr = False,
    size: Size = None,
    background_from: BackgroundFrom = None,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Short clips of one label each; prints the path of truth.json."""
    from vpipe.synth.write import write_clips  # here: OpenCV and PyAV are heavy

    options = _options(labels, seed, fps, vfr, size, background_from)
    shown = _start(output, jobs, quiet, verbose)
    with progress(count, "clips", display_name(output), shown) as bar:
        write_clips(output, count, options, jobs=shown.jobs, overwrite=overwrite, done=bar.to)
    write_stdout(display_name(output / "truth.json") + "\n")


@app.command()
def untrimmed(
    output: Output,
    count: Annotated[int, typer.Option("--count", min=1, help="How many videos.")] = 1,
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="Length of each.")] = 1.0,
    labels: Labels = None,
    seed: Seed = 0,
    fps: Fps = None,
    vfr: Vfr = False,
    size: Size = None,
    background_from: BackgroundFrom = None,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Long videos of timed segments between stretches of background; truth.json as ActivityNet has it."""
    from vpipe.synth.write import write_untrimmed  # here: OpenCV and PyAV are heavy

    options = _options(labels, seed, fps, vfr, size, background_from)
    shown = _start(output, jobs, quiet, verbose)
    with progress(count, "videos", display_name(output), shown) as bar:
        write_untrimmed(output, count, minutes, options, jobs=shown.jobs, overwrite=overwrite, done=bar.to)
    write_stdout(display_name(output / "truth.json") + "\n")


def _start(output: Path, jobs: int | None, quiet: bool, verbose: int) -> RunOptions:
    """Threads, log and the output folder; each video is one process's work, so `jobs` are processes."""
    configure_logging(verbose)
    threads.set_jobs(jobs)
    prepare_output_dir(output)
    return RunOptions(jobs=threads.jobs(), quiet=quiet, verbose=verbose)


def _options(
    labels: str | None, seed: int, fps: str | None, vfr: bool, size: str | None, background_from: Path | None
) -> SynthOptions:
    from vpipe.synth.write import SynthOptions

    given: dict[str, Any] = {}
    if labels is not None:
        given["labels"] = tuple(label.strip() for label in labels.split(","))
    return SynthOptions(
        seed=seed,
        fps=parse_rate(fps) if fps is not None else None,
        vfr=vfr,
        size=_parse_size(size) if size is not None else None,
        background_from=background_from,
        **given,
    )


def _parse_size(text: str) -> tuple[int, int]:
    """(width, height) from `320x240`. Raises UsageError."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not all(16 <= int(side) <= 4096 for side in match.groups()):
        raise UsageError(
            "bad_size", f"--size {text}: write width x height in pixels, 16 to 4096, like 320x240"
        )
    return int(match[1]), int(match[2])
