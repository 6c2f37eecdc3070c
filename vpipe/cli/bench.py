"""`vpipe bench`: flow against flow-free, trained by one recipe and measured on this machine."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from vpipe import threads
from vpipe.cli import interrupt
from vpipe.cli.options import (
    CacheDir,
    Device,
    Jobs,
    Json,
    Quiet,
    RunOptions,
    Verbose,
    configure_logging,
    new_app,
    note,
)
from vpipe.cli.output import display_name, dump, prepare_output_dir, unwritable, write_stdout, write_whole
from vpipe.cli.progress import Progress, progress
from vpipe.errors import UsageError

app = new_app()

PICTURES = (".png", ".svg", ".pdf")
SAVE_S = 20.0  # a second signal ends it at once


@app.command()
def bench(
    quick: Annotated[
        bool,
        typer.Option("--quick", help="An eighth of the training, a sixth of the test clips."),
    ] = False,
    clips: Annotated[
        int | None,
        typer.Option(
            "--clips", metavar="N", min=32, help="Clips each network sees in training [default: 128000]."
        ),
    ] = None,
    test: Annotated[
        int | None,
        typer.Option("--test", metavar="N", min=1, help="Test clips a label [default: 60]."),
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            metavar="A,B,...",
            help="Some rows: tsn, flow, two-stream, tsm, tea, stm, tdn, tanet, tsm-diff, r2plus1d.",
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Of clips and weights.")] = None,
    train: Annotated[
        bool, typer.Option("--train", help="Train again, also what is trained in the cache folder.")
    ] = False,
    json: Json = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="The tables in Markdown.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write the JSON to FILE too."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", metavar="FILE", help="Draw it (png, svg, pdf); needs vpipe[plots]."),
    ] = None,
    cache_dir: CacheDir = None,
    jobs: Jobs = None,
    device: Device = "auto",
    quiet: Quiet = False,
    verbose: Verbose = 0,
) -> None:
    """Compare RGB, optical flow, flow-free and 3-D networks: accuracy, cost, what order and length matter.

    Networks of every kind are trained on generated clips of the motion vocabulary by one recipe, kept in the
    cache folder, and measured. Running again only measures; after an interrupt it goes on.
    """
    if json and markdown:
        raise UsageError("bad_flags", "--json and --markdown exclude each other: choose one output format")
    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise UsageError("bad_output", f"{display_name(plot)}: a plot is named *.png, *.svg or *.pdf")
    configure_logging(verbose)
    threads.set_jobs(jobs)
    # torch, OpenCV and the rest only now: `--help` stays light
    from vpipe.cache.store import default_root
    from vpipe.comparison.comparing import compare
    from vpipe.comparison.contenders import choose
    from vpipe.comparison.plan import QUICK, Plan
    from vpipe.comparison.plot import draw, need_matplotlib
    from vpipe.comparison.table import cells, length_cells
    from vpipe.comparison.table import markdown as in_markdown
    from vpipe.comparison.table import text as aligned
    from vpipe.comparison.workers import Workers, one_thread

    # A line now and then also where stderr is a file: it takes long.
    options = RunOptions(device=device, quiet=quiet, verbose=max(1, verbose))
    given: dict[str, Any] = {"seen": clips, "test": test, "seed": seed}
    plan = replace(QUICK if quick else Plan(), **{name: n for name, n in given.items() if n is not None})
    contenders, fusions = choose(only)
    if plot is not None:
        need_matplotlib()
    cache = cache_dir if cache_dir is not None else default_root()
    for folder in {cache / "comparison", *(path.parent for path in (output, plot) if path is not None)}:
        prepare_output_dir(folder)
    target = options.resolve_device()
    interrupt.be_patient(SAVE_S)  # networks under way write a checkpoint
    with _Told(options) as told, Workers(threads.jobs()) as workers, one_thread():
        document = compare(
            plan, contenders, fusions, cache, workers=workers, device=target, again=train, say=told.say
        )
    note(
        f"trained networks: {display_name(cache / 'comparison')} (see vpipe models info --temporal-kernels)",
        options,
    )
    if output is not None:
        write_whole(output, dump(document) + "\n")
    if plot is not None:
        try:
            draw(document, plot)
        except OSError as error:
            raise unwritable(plot, error) from None
    if json:
        write_stdout(dump(document) + "\n")
        return
    form = in_markdown if markdown else aligned
    write_stdout(form(cells(document)) + "\n" + form(length_cells(document)))


class _Told:
    """One progress bar for each thing that is done, one after the other."""

    def __init__(self, options: RunOptions) -> None:
        self.options = options
        self._what: str | None = None
        self._bar: Progress | None = None
        self._open = ExitStack()

    def __enter__(self) -> _Told:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def say(self, what: str, done: int, of: int) -> None:
        interrupt.check()
        if self._bar is None or what != self._what:
            self._open.close()
            self._what, self._bar = what, self._open.enter_context(progress(of, "done", what, self.options))
        self._bar.to(done)
