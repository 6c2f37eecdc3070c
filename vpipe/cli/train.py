"""`vpipe train --recipe NAME`: train a network by a recipe and write a weight file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vpipe import threads
from vpipe.cli.options import Device, Jobs, Overwrite, Quiet, RunOptions, Verbose, configure_logging, new_app
from vpipe.cli.output import prepare_output_dir, write_stdout
from vpipe.cli.progress import progress
from vpipe.errors import UsageError

app = new_app()

RecipeName = Annotated[
    str,
    typer.Option(
        "--recipe",
        metavar="TOML",
        help="A recipe file, or the name of a packaged recipe: motion-rgb, motion-flow, motion-tsn.",
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
Data = Annotated[
    str | None,
    typer.Option(
        "--data",
        metavar="DIR",
        help="Train on the videos of `vpipe synth clips -o DIR` instead of clips made on the fly.",
    ),
]


@app.command()
def train(
    recipe: RecipeName,
    output: Output,
    clips: Annotated[
        int | None, typer.Option(min=1, help="Clips to see in all, instead of the recipe's number.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the recipe's seed.")] = None,
    data: Data = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")] = False,
    overwrite: Overwrite = False,
    jobs: Jobs = None,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Train a model by a recipe. Ctrl-C writes what there is; --resume goes on."""
    from dataclasses import replace

    from vpipe.training.recipe import load_recipe

    plan = load_recipe(recipe)
    changes: dict[str, Any] = {"clips": clips, "seed": seed, "data": data}
    plan = replace(plan, **{name: value for name, value in changes.items() if value is not None})
    if output.suffix != ".safetensors":
        raise UsageError("bad_output", f"{output}: a weight file is named *.safetensors")
    if output.exists() and not (overwrite or resume):
        raise UsageError("output_exists", f"{output}: exists already; give --overwrite, or --resume to go on")
    configure_logging(verbose)
    threads.set_jobs(jobs)
    # A progress line now and then also where stderr is a file: training takes long.
    options = RunOptions(device=device, quiet=quiet, verbose=max(1, verbose))
    target = options.resolve_device()
    prepare_output_dir(output.parent)
    # torch and the rest only now: `--help` stays light
    from vpipe.synth.vocabulary import LABELS
    from vpipe.training.export import export
    from vpipe.training.loop import train as run
    from vpipe.training.sources import open_data

    dataset = open_data(plan)
    with progress(len(dataset), "steps", plan.name, options) as bar:
        network, steps, finished = run(
            plan,
            dataset,
            len(LABELS),
            Path(f"{output}.run"),
            device=target,
            workers=threads.jobs(),
            resume=resume,
            report=lambda row: bar.to(row["step"]),
        )
    export(plan, network, steps, output)
    write_stdout(f"{output}\n")
    if not finished:
        typer.echo(
            f"vpipe: interrupted after {steps} of {len(dataset)} steps; {output} holds what was learnt; "
            "go on with --resume",
            err=True,
        )
        raise typer.Exit(130)
