"""`vpipe train`: a model learns a user's labels, or is trained by a recipe; writes a weight file."""

from __future__ import annotations

import copy
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vpipe import threads
from vpipe.cli import interrupt
from vpipe.cli.options import (
    CacheDir,
    Device,
    Failures,
    Jobs,
    Json,
    Overwrite,
    Quiet,
    RunOptions,
    Verbose,
    configure_logging,
    new_app,
    note,
)
from vpipe.cli.output import prepare_output_dir, write_stdout
from vpipe.cli.plain_features import PlainFps, PlainOffset, PlainStride, PlainWindow
from vpipe.cli.progress import progress
from vpipe.cli.train_head import HeadOptions, train_head_command
from vpipe.errors import UsageError

if TYPE_CHECKING:
    from vpipe.training.distributed import Job
    from vpipe.training.recipe import Recipe

app = new_app()
GRACE_S, SAVE_S = 0.6, 1.2  # after Ctrl-C, for training to end by itself, then for another thread to save
STEP_S = 60.0  # for the step under way, where other processes wait for this one's part of it
SPEAK_FIRST_S = 5.0

Data = Annotated[
    Path | None,
    typer.Argument(
        help="A folder with a subfolder for each label, a CSV file path,label[,start_s,end_s], or "
        "ActivityNet JSON beside its videos."
    ),
]
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        metavar="TOML",
        help="A recipe file or the name of a packaged one [default with DATA: own-labels].",
    ),
]
Output = Annotated[
    Path,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="The weight file to write (.safetensors); checkpoint and log go to FILE.run/.",
    ),
]
Init = Annotated[
    str | None,
    typer.Option("--init", metavar="MODEL", help="Start from this model or weight file [motion-rgb]."),
]
Synthetic = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Without DATA: the videos of `vpipe synth clips -o DIR`, not clips made on the fly.",
    ),
]
Store = Annotated[
    float,
    typer.Option("--clip-store", metavar="GB", min=0.0, help="Room for decoded frames in the cache folder."),
]


@app.command(epilog="Example: vpipe train clips/ -o my.safetensors")
def train(
    output: Output,
    data: Data = None,
    recipe: RecipeName = None,
    init: Init = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Times over DATA, instead of the recipe's length.")
    ] = None,
    clips: Annotated[
        int | None, typer.Option(min=1, help="Clips to see in all, instead of the recipe's length.")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Clips of a process at a time, instead of the recipe's.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's seed.")] = None,
    synthetic: Synthetic = None,
    head: Annotated[
        str | None,
        typer.Option(metavar="KIND", help="Train a head on --features instead: stpp, mstcn or mstcn++."),
    ] = None,
    features: Annotated[
        Path | None, typer.Option(metavar="DIR", help="With --head: what `vpipe features` wrote.")
    ] = None,
    ground_truth: Annotated[
        Path | None, typer.Option(metavar="FILE", help="With --head: annotated segments, ActivityNet JSON.")
    ] = None,
    subset: Annotated[
        str | None, typer.Option(metavar="NAME", help="With --head: only this part of --ground-truth.")
    ] = None,
    stride: PlainStride = None,
    window: PlainWindow = None,
    fps: PlainFps = None,
    offset: PlainOffset = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    checkpoint_every: Annotated[
        float, typer.Option(metavar="S", min=0.0, help="Seconds between checkpoints.")
    ] = 60.0,
    clip_store: Store = 20.0,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    device: Device = "auto",
    cache_dir: CacheDir = None,
    failures: Failures = None,
    json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Teach a model your own labels, or train one by a recipe. Ctrl-C keeps what is learnt; see --resume."""
    from vpipe.training.names import DEFAULT_RECIPE, check_output

    if head is not None:
        if data is not None or recipe is not None or resume:
            raise UsageError("bad_flags", "--head learns from --features: leave DATA, --recipe, --resume out")
        return train_head_command(
            output,
            HeadOptions(head, features, ground_truth, subset, epochs, seed, stride, window, fps, offset),
            RunOptions(overwrite=overwrite, device=device, quiet=quiet, verbose=verbose),
            jobs,
        )
    if features is not None or ground_truth is not None or subset is not None:
        raise UsageError("bad_flags", "--features, --ground-truth and --subset are for --head: name one")
    if data is None and recipe is None:
        raise UsageError("no_inputs", "give DATA with your labelled videos, or --recipe NAME")
    first = os.environ.get("RANK", "0") == "0"
    _end_in_time()
    with _said_once(first):
        elastic = int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0
        resume = resume or elastic  # torchrun started the whole run again
        check_output(output, overwrite or resume)
        configure_logging(verbose)
        # A progress line now and then also where stderr is a file: training takes long.
        options = RunOptions(
            device=device,
            quiet=quiet or not first,
            verbose=max(1, verbose),
            cache_dir=cache_dir,
            failures=failures,
            output_format="json" if json else "text",
        )
        shared = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        threads.set_jobs(jobs or max(1, threads.available_cores() // shared))
        # torch and the rest only now: `--help` stays light
        from vpipe.training.distributed import Job, joined
        from vpipe.training.recipe import load_recipe

        plan = load_recipe(recipe or DEFAULT_RECIPE)
        changes: dict[str, Any] = {"clips": clips, "epochs": epochs, "batch": batch, "seed": seed}
        changes |= {"data": synthetic, "init": init}
        plan = replace(plan, **{name: value for name, value in changes.items() if value is not None})
        if clips is not None and epochs is None:
            plan = replace(plan, epochs=0)
        job = Job.from_environment()
        target = job.device(device, options.resolve_device())
        prepare_output_dir(output.parent)
        with joined(job, target):
            if data is not None:
                from vpipe.cli.train_own import train_own

                train_own(
                    data,
                    plan,
                    output,
                    options,
                    job=job,
                    device=target,
                    resume=resume,
                    checkpoint_every_s=checkpoint_every,
                    store_bytes=int(clip_store * 1e9),
                )
            else:
                _by_recipe(plan, output, options, job, target, resume, checkpoint_every)


def _end_in_time() -> None:
    """What Ctrl-C does: in two seconds what is learnt is on disk, or the checkpoint before it is."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        interrupt.be_patient(STEP_S, interrupt.SPEAK_S)
        return

    def save() -> None:
        from vpipe.training.signals import save_for_it  # here: torch, which is there by then

        save_for_it()
        print("vpipe: the state of the last step is saved; go on with --resume", file=sys.stderr)

    interrupt.be_patient(GRACE_S, SAVE_S)
    interrupt.before_the_end(save)


@contextmanager
def _said_once(first: bool) -> Iterator[None]:
    """What is wrong with flags and files is the same for all processes of a run: one says it."""
    try:
        yield
    except UsageError as fault:
        if first:
            raise
        time.sleep(SPEAK_FIRST_S)  # torchrun ends the others as soon as one has failed
        raise typer.Exit(fault.exit_code) from None


def _by_recipe(
    plan: Recipe, output: Path, options: RunOptions, job: Job, device: str, resume: bool, checkpoint_s: float
) -> None:
    """On generated clips, or on those of `vpipe synth clips`."""
    from vpipe.synth.vocabulary import LABELS
    from vpipe.training.export import export
    from vpipe.training.going_on import network_to_go_on, with_start
    from vpipe.training.loop import train as run
    from vpipe.training.sources import open_data

    if not plan.architecture or not plan.clips:
        raise UsageError("no_inputs", f"recipe {plan.name} is for your own videos: give DATA")
    network, start = network_to_go_on(plan) if plan.init else (None, "")
    before = copy.deepcopy(network)
    dataset = open_data(plan)
    with progress(len(dataset), "steps", plan.name, options) as bar:
        network, steps, finished = run(
            plan,
            dataset,
            len(LABELS),
            Path(f"{output}.run"),
            network=network,
            device=device,
            workers=threads.jobs(),
            job=job,
            identity={"init": start},
            resume=resume,
            report=lambda row: bar.to(row["step"], row["steps"]),
            checkpoint_every_s=checkpoint_s,
        )
    if job.first:
        if before is not None and plan.start_share:
            network = with_start(network, before, plan.start_share)
        export(plan, network, steps, output)
        write_stdout(f"{output}\n")
    if not finished:
        note(f"interrupted after {steps} steps; {output} holds what was learnt; go on with --resume", options)
        raise typer.Exit(130)
