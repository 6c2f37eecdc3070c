"""`vpipe train --head KIND --features DIR --ground-truth FILE`: a detector's head from cached features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vpipe import threads
from vpipe.cli.options import RunOptions, configure_logging, note
from vpipe.cli.output import display_name, prepare_output_dir, write_stdout
from vpipe.cli.progress import progress
from vpipe.errors import InputError, UsageError


@dataclass(frozen=True)
class HeadOptions:
    """What `vpipe train` was told of a head."""

    kind: str
    features: Path | None
    ground_truth: Path | None
    subset: str | None
    epochs: int | None
    seed: int | None
    stride: float | None
    window: float | None
    fps: float | None
    offset: float | None


def train_head_command(output: Path, asked: HeadOptions, options: RunOptions, jobs: int | None) -> None:
    """Trains and writes the head, prints its path, and the next command on stderr."""
    if asked.features is None or asked.ground_truth is None:
        raise UsageError("bad_flags", "--head needs --features DIR and --ground-truth FILE")
    if output.suffix != ".safetensors":
        raise UsageError("bad_output", f"{output}: a weight file is named *.safetensors")
    if output.exists() and not options.overwrite:
        raise UsageError("output_exists", f"{output}: exists already; give --overwrite")
    configure_logging(options.verbose)
    threads.set_jobs(jobs)
    device = options.resolve_device()
    prepare_output_dir(output.parent)
    # torch only now: `--help` stays light
    from vpipe.recognition.features_file import spacing_of
    from vpipe.training.heads import EPOCHS, train_head

    try:
        spacing = spacing_of(asked.window, asked.stride, asked.fps, asked.offset)
    except InputError as fault:
        raise UsageError(fault.code, fault.message) from None
    with progress(asked.epochs or EPOCHS, "epochs", display_name(output), options) as bar:
        done = train_head(
            asked.kind,
            asked.features,
            asked.ground_truth,
            output,
            subset=asked.subset,
            spacing=spacing,
            epochs=asked.epochs,
            seed=asked.seed,
            device=device,
            report=bar.to,
        )
    for warning in done.warnings:
        note(f"warning: {warning.message} [{warning.code}]", options)
    note(
        f"{done.videos} videos, {done.segments} segments, {done.labels} labels: loss {done.loss:.3f}", options
    )
    note(f"next: vpipe detect --features DIR --head {display_name(output)}", options)
    write_stdout(f"{display_name(output)}\n")
