"""`vpipe eval detection`: what predictions are worth against annotations, by the official rules."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vpipe.cli.options import Json, new_app
from vpipe.cli.output import dump, write_stdout
from vpipe.errors import UsageError, one_line

app = new_app(help="Score predictions against annotations.")


@app.callback()
def evaluate() -> None:
    """Score predictions against annotations."""


@app.command(epilog="Example: vpipe eval detection --ground-truth truth.json --predictions found.json")
def detection(
    ground_truth: Annotated[
        Path, typer.Option("--ground-truth", metavar="GT.json", help="Annotations as ActivityNet JSON.")
    ],
    predictions: Annotated[
        Path,
        typer.Option(
            "--predictions",
            metavar="P.json",
            help="ActivityNet results, or what `vpipe detect --json` printed.",
        ),
    ],
    subset: Annotated[str | None, typer.Option(help="Only this subset of the annotations.")] = None,
    tiou: Annotated[
        str, typer.Option(metavar="T", help="Thresholds: start:end:step with both ends, or a list 0.5,0.75.")
    ] = "0.5:0.95:0.05",
    json: Json = False,
) -> None:
    """Mean average precision of detected segments by ActivityNet's rules."""
    thresholds = parse_tious(tiou)
    from vpipe.evaluation.anet import detection_map  # here: numpy is heavy for --help
    from vpipe.evaluation.formats import read_json, results_table, truth_table

    truth = truth_table(read_json(ground_truth), subset=subset, name=str(ground_truth))
    found = results_table(read_json(predictions), name=str(predictions))
    scores = detection_map(truth, found, thresholds).to_json()
    if json:
        write_stdout(dump({"schema": "vpipe.eval-detection/1", **scores}) + "\n")
        return
    for warning in scores["warnings"]:
        typer.echo(f"vpipe: warning: {one_line(warning['message'])} [{warning['code']}]", err=True)
    write_stdout("".join(line + "\n" for line in _table(scores)))


def parse_tious(text: str) -> list[float]:
    """Thresholds from `0.5:0.95:0.05` (both ends) or `0.5,0.75`. Raises UsageError `bad_tiou`."""
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            # By counting and not by adding, so that the thresholds are those of the decimal literals.
            values = [round(first + i * step, 10) for i in range(round((last - first) / step) + 1)]
        else:
            values = [float(part) for part in text.split(",")]
        if not values or not all(0 < value <= 1 for value in values):
            raise ValueError
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(
            "bad_tiou", f"--tiou {text}: write thresholds in (0, 1] as 0.5:0.95:0.05 or 0.5,0.75,0.95"
        ) from None
    return values


def _table(scores: dict[str, Any]) -> list[str]:
    """One line a label and the mean below, in percent, one column a threshold."""
    names = list(scores["map"])
    width = max(len("average"), *(len(one_line(label)) for label in scores["ap"]))
    lines = [" ".join(["tIoU".ljust(width), *(name.rjust(6) for name in names)])]
    for label, values in [*scores["ap"].items(), ("mAP", scores["map"])]:
        cells = (f"{100 * values[name]:6.2f}" for name in names)
        lines.append(" ".join([one_line(label).ljust(width), *cells]))
    return [*lines, f"{'average'.ljust(width)} {100 * scores['average_map']:6.2f}"]
