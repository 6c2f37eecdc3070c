"""`vpipe eval`: what predictions are worth against annotations, by the official rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vpipe.cli.eval_tables import classification_table, detection_table, frames_table, proposals_table
from vpipe.cli.options import Json, new_app
from vpipe.cli.output import dump, write_stdout
from vpipe.errors import UsageError, Warning_, one_line

# Imports within the commands: numpy is heavy for --help.

app = new_app(help="Score predictions against annotations.")

GroundTruth = Annotated[
    Path, typer.Option("--ground-truth", metavar="GT", help="Annotations: ActivityNet JSON, or vpipe's rows.")
]
Found = Annotated[
    Path,
    typer.Option("--predictions", metavar="P", help="ActivityNet results, or vpipe's JSON or JSONL."),
]
Subset = Annotated[
    str | None, typer.Option(metavar="S", help="Only this subset of the annotations [default: all].")
]
Blocked = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Leave these videos out: a JSON list of ids, or one id a line."),
]
Tiou = Annotated[
    str | None,
    typer.Option(metavar="T", help="Thresholds: start:end:step with both ends, or a list 0.5,0.75."),
]
Dedup = Annotated[
    bool,
    typer.Option("--dedup-gt", help="Drop repeated and zero-length annotations, as OpenTAD does."),
]


@app.callback()
def evaluate() -> None:
    """Score predictions against annotations."""


@app.command(epilog="Example: vpipe eval detection --ground-truth truth.json --predictions found.json")
def detection(
    ground_truth: GroundTruth,
    predictions: Found,
    subset: Subset = None,
    blocked: Blocked = None,
    tiou: Tiou = None,
    protocol: Annotated[
        Literal["activitynet", "thumos14", "thumos14-kit"],
        typer.Option(help="Whose rules: ActivityNet's, the same for THUMOS14, or the THUMOS14 kit's own."),
    ] = "activitynet",
    dedup_gt: Dedup = False,
    json: Json = False,
) -> None:
    """Mean average precision of detected segments [default tIoU: .5:.95:.05; THUMOS14: .3:.7:.1]."""
    usual = "0.5:0.95:0.05" if protocol == "activitynet" else "0.3:0.7:0.1"
    tious = parse_tious(usual if tiou is None else tiou)
    from vpipe.evaluation.annotations import read_blocked, read_truth
    from vpipe.evaluation.predictions import read_predictions
    from vpipe.evaluation.protocols import score_detection

    truth = read_truth(ground_truth, subset=subset, blocked=read_blocked(blocked) if blocked else ())
    found = read_predictions(predictions, truth)
    scores, warnings = score_detection(truth, found, tious, protocol=protocol, dedup=dedup_gt)
    document = {"protocol": protocol, "subset": subset, **scores.to_json()}
    _report("detection", document, warnings, json, detection_table)


@app.command(epilog="Example: vpipe eval proposals --ground-truth truth.json --predictions found.json")
def proposals(
    ground_truth: GroundTruth,
    predictions: Found,
    subset: Subset = None,
    blocked: Blocked = None,
    tiou: Tiou = None,
    max_proposals: Annotated[
        str,
        typer.Option(metavar="N", help="Proposals a video, on average: a number, or 'all' there are."),
    ] = "100",
    dedup_gt: Dedup = False,
    json: Json = False,
) -> None:
    """Average recall at 1 to N proposals a video, and its AUC [default tIoU: .5:.95:.05]."""
    tious = None if tiou is None else parse_tious(tiou)
    most = parse_most(max_proposals)
    from vpipe.evaluation.annotations import read_blocked, read_truth
    from vpipe.evaluation.predictions import read_predictions
    from vpipe.evaluation.protocols import score_proposals

    truth = read_truth(ground_truth, subset=subset, blocked=read_blocked(blocked) if blocked else ())
    found = read_predictions(predictions, truth, wants=("segment", "score"))
    scores, warnings = score_proposals(truth, found, tious, max_proposals=most, dedup=dedup_gt)
    _report("proposals", {"subset": subset, **scores.to_json()}, warnings, json, proposals_table)


@app.command(epilog="Example: vpipe eval classification --ground-truth truth.json --predictions found.json")
def classification(
    ground_truth: GroundTruth,
    predictions: Found,
    subset: Subset = None,
    blocked: Blocked = None,
    top: Annotated[str, typer.Option(metavar="K", help="Numbers of labels to look at.")] = "1,3,5",
    json: Json = False,
) -> None:
    """Top-k and mean class accuracy of whole videos, and ActivityNet's mAP of them."""
    numbers = parse_top(top)
    from vpipe.evaluation.annotations import read_blocked, read_truth
    from vpipe.evaluation.checks import prediction_warnings
    from vpipe.evaluation.classification import classification_scores
    from vpipe.evaluation.predictions import read_predictions

    out = read_blocked(blocked) if blocked else ()
    truth = read_truth(ground_truth, subset=subset, blocked=out, wants=("label",))
    found = read_predictions(predictions, truth, wants=("label", "score"))
    scores = classification_scores(truth.segments, found.segments, numbers)
    warnings = truth.warnings + found.warnings + prediction_warnings(truth, found.segments)
    _report("classification", {"subset": subset, **scores.to_json()}, warnings, json, classification_table)


@app.command(epilog="Example: vpipe eval frames --ground-truth groundTruth/ --predictions results/")
def frames(
    ground_truth: Annotated[
        Path,
        typer.Option(
            "--ground-truth",
            metavar="GT",
            help="Frame labels: a folder of text files, or JSON; or segments as in `eval detection`.",
        ),
    ],
    predictions: Annotated[
        Path, typer.Option("--predictions", metavar="P", help="The same, of what was predicted.")
    ],
    subset: Subset = None,
    blocked: Blocked = None,
    background: Annotated[
        str,
        typer.Option(metavar="LABEL", help="The label that is no segment; '' if all labels are segments."),
    ] = "background",
    fps: Annotated[
        float, typer.Option(metavar="F", help="Frames a second, where segments in seconds become frames.")
    ] = 25.0,
    json: Json = False,
) -> None:
    """Accuracy and IoU of frame labels, edit score and F1 of the segments they make."""
    if not (math.isfinite(fps) and 0 < fps <= 1000):
        raise UsageError("bad_fps", f"--fps {fps}: write a rate above 0 and up to 1000")
    from vpipe.evaluation.annotations import read_blocked
    from vpipe.evaluation.frame_labels import read_frame_predictions, read_frame_truth
    from vpipe.evaluation.frames import frame_scores

    out = read_blocked(blocked) if blocked else ()
    fill = background or "background"
    truth = read_frame_truth(ground_truth, fps=fps, background=fill, subset=subset, blocked=out)
    found, warnings = read_frame_predictions(predictions, truth, fps=fps, background=fill)
    scores = frame_scores(truth.runs, found, [background] if background else [])
    document = {"subset": subset, "background": background or None, **scores.to_json()}
    _report("frames", document, truth.warnings + warnings, json, frames_table)


def _report(
    kind: str,
    scores: dict[str, Any],
    warnings: Sequence[Warning_],
    json: bool,
    table: Callable[[dict[str, Any]], list[str]],
) -> None:
    """Prints scores, with what was said on the way to them before what was said by them."""
    scores["warnings"] = [w.to_json() for w in warnings] + scores["warnings"]
    if json:
        write_stdout(dump({"schema": f"vpipe.eval-{kind}/1", **scores}) + "\n")
        return
    for warning in scores["warnings"]:
        typer.echo(f"vpipe: warning: {one_line(warning['message'])} [{warning['code']}]", err=True)
    write_stdout("".join(line + "\n" for line in table(scores)))


def parse_tious(text: str) -> list[float]:
    """Thresholds from `0.5:0.95:0.05` (both ends) or `0.5,0.75`. Raises UsageError `bad_tiou`."""
    try:
        if ":" in text:
            first, last, step = (float(part) for part in text.split(":"))
            count = round((last - first) / step) + 1
            if not 1 <= count <= 1000:
                raise ValueError
            # By counting and not by adding, so that the thresholds are those of the decimal literals.
            values = [round(first + i * step, 10) for i in range(count)]
        else:
            values = [float(part) for part in text.split(",")]
        if not values or not all(0 < value <= 1 for value in values):
            raise ValueError
    except (ValueError, ZeroDivisionError, OverflowError):
        raise UsageError(
            "bad_tiou", f"--tiou {text}: write thresholds in (0, 1] as 0.5:0.95:0.05 or 0.5,0.75,0.95"
        ) from None
    if len({f"{value:.2f}" for value in values}) < len(values):
        raise UsageError("bad_tiou", f"--tiou {text}: two thresholds are the same to two decimals")
    return values


def parse_most(text: str) -> int | None:
    """A number of proposals of at least 1, or None for `all`. Raises UsageError `bad_max_proposals`."""
    if text == "all":
        return None
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise UsageError(
            "bad_max_proposals", f"--max-proposals {text}: write a number from 1 to 10000, or 'all'"
        )
    return int(text)


def parse_top(text: str) -> list[int]:
    """Different numbers of labels from 1 on. Raises UsageError `bad_top`."""
    parts = text.split(",")
    if not all(part.isascii() and part.isdigit() and int(part) >= 1 for part in parts):
        raise UsageError("bad_top", f"--top {text}: write numbers from 1 on, such as 1,5")
    return sorted({int(part) for part in parts})
