"""`vpipe train DATA`: progress while it runs, then accuracy, confusions and the path of the weight file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from vpipe import threads
from vpipe.cli.inputs import Item, failure_row_key, find_items
from vpipe.cli.options import RunOptions, note
from vpipe.cli.output import display_name, dump, plain, write_stdout, write_whole
from vpipe.cli.progress import progress
from vpipe.cli.run import complain
from vpipe.errors import one_line

WIDEST_TABLE = 25  # labels

if TYPE_CHECKING:
    from vpipe.training.distributed import Job
    from vpipe.training.learning import Learnt
    from vpipe.training.recipe import Recipe


def train_own(
    data: Path,
    recipe: Recipe,
    output: Path,
    options: RunOptions,
    *,
    job: Job,
    device: str,
    resume: bool,
    checkpoint_every_s: float,
    store_bytes: int,
) -> None:
    """Ends in typer.Exit where not all went well: 3 with failures, 130 when interrupted."""
    # Here, because they bring in torch and PyAV, and --help should not wait for them.
    from vpipe.cache.store import default_root
    from vpipe.models import load_model
    from vpipe.training.clip_store import ClipStore
    from vpipe.training.labelled import read_labelled
    from vpipe.training.learning import learn

    labelled = read_labelled(data, _videos_below)
    init = load_model(recipe.init) if recipe.init else None
    rows: list[dict[str, Any]] = []
    with progress(None, "", display_name(output), options) as bar:

        def said(stage: str, facts: dict[str, Any]) -> None:
            if stage == "train":
                rows.append(facts)
                bar.to(facts["step"], facts["steps"])
            else:
                bar.to(facts["done"], facts["total"])

        learnt = learn(
            labelled,
            recipe,
            output,
            init=init,
            store=ClipStore(options.cache_dir or default_root(), store_bytes),
            device=device,
            jobs=threads.jobs(),
            job=job,
            resume=resume,
            checkpoint_every_s=checkpoint_every_s,
            said=said,
        )
    if job.first:
        _report(learnt, rows, output, recipe, options)
    if not learnt.finished:
        raise typer.Exit(130)
    if learnt.failures:
        raise typer.Exit(3)


def _videos_below(folder: Path) -> list[Path]:
    """The video files in a folder and below, sorted."""
    return [item.path for item in find_items([str(folder)]) if item.fault is None]


def _report(
    learnt: Learnt, rows: list[dict[str, Any]], output: Path, recipe: Recipe, options: RunOptions
) -> None:
    for _, fault in learnt.failures:
        complain(fault)
    for warning in learnt.warnings:
        note(f"warning: {one_line(warning.message)} [{warning.code}]", options)
    if rows:
        # A share of the last rows: the first ones hold the start of everything.
        speed, wait = rows[-1]["clips_per_s"], rows[-1]["data_wait"]
        note(
            f"{speed:.1f} clips/s; {100 * wait:.1f} % of the time waiting for data, the rest computing",
            options,
        )
    if options.failures is not None:
        failed = [_failure(path, fault) for path, fault in learnt.failures]
        write_whole(options.failures, "".join(dump(row) + "\n" for row in failed))
    if options.output_format == "json":
        write_stdout(
            json.dumps(plain(_document(learnt, output, recipe)), ensure_ascii=False, indent=2) + "\n"
        )
    else:
        write_stdout(_text(learnt, output))
    if not learnt.finished:
        kept = f"{output} holds what was learnt; " if learnt.written else ""
        note(f"interrupted after {learnt.clips} clips; {kept}go on with --resume", options)


def _failure(path: Path, fault: Any) -> dict[str, Any]:
    item = Item(path, display_name(path), "")
    error = {"code": fault.code, "message": fault.message}
    return {"input": item.display, "error": error, **failure_row_key(item)}


def _document(learnt: Learnt, output: Path, recipe: Recipe) -> dict[str, Any]:
    from vpipe.models import load_model  # here, because torch is heavy

    written = load_model(output) if learnt.written else None
    return {
        "schema": "vpipe.train/1",
        "model": {
            "path": output,
            "name": output.stem,
            "hash": written.hash if written else None,
            "labels": learnt.labels,
            "background": learnt.background,
        },
        "results": [
            {
                "status": "ok" if learnt.finished else "partial",
                "recipe": recipe.name,
                "init": recipe.init or None,
                "seed": recipe.seed,
                "videos": learnt.videos,
                "training_pieces": learnt.training,
                "epochs": learnt.epochs,
                "clips": learnt.clips,
                "validation": learnt.assessment.to_json() if learnt.assessment else None,
                "warnings": learnt.warnings,
            }
        ],
        "failures": [_failure(path, fault) for path, fault in learnt.failures],
    }


def _text(learnt: Learnt, output: Path) -> str:
    """Accuracy, the table of confusions, and last the path."""
    lines = []
    found = learnt.assessment
    if found is not None and found.pieces:
        facts = found.to_json()
        low, high = facts["interval_95"]
        frequent = facts["majority_class"]
        lines += [
            f"accuracy {facts['accuracy']:.1f} % [{low:.1f}, {high:.1f}] on {found.pieces} pieces of "
            f"held-out videos; always '{one_line(frequent['label'])}': {frequent['accuracy']:.1f} %",
            *(_table if len(found.labels) <= WIDEST_TABLE else _most_frequent)(found.labels, found.confusion),
        ]
    elif found is not None:
        lines.append("accuracy not known: no video was left for validation")
    if learnt.written:
        lines.append(display_name(output))
    return "".join(line + "\n" for line in lines)


def _most_frequent(labels: tuple[str, ...], confusion: Any) -> list[str]:
    """The confusions that happen most, where a table would not fit a screen."""
    wrong = [
        (int(confusion[i, j]), i, j)
        for i in range(len(labels))
        for j in range(len(labels))
        if i != j and confusion[i, j]
    ]
    worst = sorted(wrong, key=lambda entry: (-entry[0], entry[1:]))[:WIDEST_TABLE]
    return [f"  {one_line(labels[i])} called {one_line(labels[j])}: {count}" for count, i, j in worst]


def _table(labels: tuple[str, ...], confusion: Any) -> list[str]:
    """Rows: what is shown; columns, by number: what it was called."""
    names = [one_line(label) for label in labels]
    width = max(len(name) for name in names)
    numbers = [str(n) for n in range(1, len(labels) + 1)]
    cells = [[str(value) if value else "." for value in row] for row in confusion]
    columns = [max(len(numbers[j]), *(len(row[j]) for row in cells)) for j in range(len(labels))]
    head = "  ".join(number.rjust(columns[j]) for j, number in enumerate(numbers))
    lines = [f"  {'shown':<{width}}      {head}   called"]
    for number, name, row in zip(numbers, names, cells, strict=True):
        body = "  ".join(cell.rjust(columns[j]) for j, cell in enumerate(row))
        lines.append(f"  {name:<{width}}  {number:>2}  {body}")
    return lines
