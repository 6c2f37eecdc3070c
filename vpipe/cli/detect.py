"""`vpipe detect`: what happens when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vpipe.cli.options import RunOptions, batch_options, new_app
from vpipe.cli.output import plain, prepare_output_dir, write_whole
from vpipe.cli.progress import progress
from vpipe.cli.run import Item, run_batch
from vpipe.cli.scoring import DEFAULT_MODEL, Batch, DType, ModelName, model_summary, video_line

app = new_app()


@app.command(epilog="Example: vpipe detect film.mp4 --min-score 0.5")
@batch_options("dry_run", "jobs", "device", "cache_dir")
def detect(
    options: RunOptions,
    model: ModelName = DEFAULT_MODEL,
    candidates: Annotated[
        Literal["windows", "grouping", "both"],
        typer.Option(help="Where segments come from: sliding windows, grouping of scores, or both."),
    ] = "grouping",
    no_refine: Annotated[
        bool, typer.Option("--no-refine", help="Leave boundaries on the snippet grid.")
    ] = False,
    nms: Annotated[
        Literal["soft", "linear", "hard"],
        typer.Option(
            help="Overlapping segments: lower the weaker one's score (Gaussian, linear) or drop it."
        ),
    ] = "soft",
    voting: Annotated[
        bool, typer.Option("--voting", help="Average each segment with those it was chosen from.")
    ] = False,
    across_labels: Annotated[
        bool, typer.Option("--across-labels", help="Let segments of different labels suppress each other.")
    ] = False,
    min_score: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Leave out segments that score less.")
    ] = 0.1,
    include_background: Annotated[
        bool, typer.Option("--include-background", help="Also report stretches where nothing happens.")
    ] = False,
    anet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the segments as ActivityNet JSON.")
    ] = None,
    batch_size: Batch = 16,
    dtype: DType = "fp32",
) -> None:
    """Find labelled moments (start, end, score) in long videos."""
    if options.dry_run:
        run_batch("detect", options, lambda item: {}, text=_text)
    if anet is not None:
        prepare_output_dir(anet.parent)
    # Here, because they bring in torch and PyAV, and --help should not wait for them.
    from vpipe.detection.detector import DetectorSettings
    from vpipe.detection.detector import detect as detect_segments
    from vpipe.evaluation.formats import results_document
    from vpipe.models import load_model
    from vpipe.recognition.recognizer import Recognizer
    from vpipe.recognition.snippets import scan

    settings = DetectorSettings(
        candidates=candidates,
        refine=not no_refine,
        nms=nms,
        voting=voting,
        across_labels=across_labels,
        min_score=min_score,
        include_background=include_background,
    )
    device = options.resolve_device()
    loaded = load_model(model, device)
    recognizer = Recognizer(loaded, device=device, dtype=dtype, batch_size=batch_size)
    done: list[dict[str, Any]] = []

    def work(item: Item) -> dict[str, Any]:
        with progress(None, "steps", item.display, options) as bar:
            found = scan(
                item.path, recognizer, cache_dir=options.cache_dir, jobs=options.jobs, progress=bar.to
            )
        row: dict[str, Any] = {
            "duration_s": round(found.duration_s, 6),
            "frames": found.frames,
            "width": found.info.width,
            "height": found.info.height,
            "warnings": found.warnings,
            "segments": [segment.to_json() for segment in detect_segments(found.scores, settings)],
        }
        done.append({"video_id": item.video_id, "segments": row["segments"]})
        return row | ({"cache": found.flow.to_json()} if found.flow else {})

    try:
        run_batch("detect", options, work, text=_text, model=model_summary(loaded, recognizer))
    finally:
        # Also when interrupted: the videos that are finished are kept. Nothing done leaves an old file alone.
        if anet is not None and done:
            document = json.dumps(
                plain(results_document(done)), ensure_ascii=False, allow_nan=False, indent=1
            )
            write_whole(anet, document + "\n")


def _text(row: dict[str, Any]) -> str:
    segments = row["segments"]
    if not segments:
        return f"{video_line(row)}: nothing found"
    width = max(len(s["label"]) for s in segments)
    lines = [f"  {'start s':>9}  {'end s':>9}  {'label':<{width}}  score"]
    lines += [
        f"  {s['start_s']:>9.2f}  {s['end_s']:>9.2f}  {s['label']:<{width}}  {s['score']:.3f}"
        for s in segments
    ]
    return "\n".join([video_line(row), *lines])
