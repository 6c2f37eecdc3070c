"""`vpipe detect`: what happens when."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vpipe.cli.detect_features import GivenFeatures, detect_from_features, head_rows
from vpipe.cli.options import RunOptions, batch_options, new_app, note
from vpipe.cli.output import dump, plain, prepare_output_dir, write_stdout, write_whole
from vpipe.cli.plain_features import PlainFps, PlainOffset, PlainStride, PlainWindow
from vpipe.cli.progress import progress
from vpipe.cli.run import Item, run_batch
from vpipe.cli.scoring import DEFAULT_MODEL, Compile, ModelName, model_summary, video_line
from vpipe.errors import UsageError

if TYPE_CHECKING:
    from vpipe.detection.detector import DetectorSettings
    from vpipe.detection.heads.head import Head
    from vpipe.recognition.recognizer import Recognizer

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
    shots: Annotated[
        bool, typer.Option("--shots", help="Also report the shots between the cuts of the video.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option(
            metavar="HEAD", help="A learned head: a packaged one or a file of `vpipe train --head`."
        ),
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Detect from feature files alone, with --head; no INPUT."),
    ] = None,
    stride: PlainStride = None,
    window: PlainWindow = None,
    fps: PlainFps = None,
    offset: PlainOffset = None,
    stall_timeout: Annotated[
        float,
        typer.Option(metavar="S", min=0.1, help="With '-': end where no data comes for S seconds."),
    ] = 30.0,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=False,
            help="Clips that go through the network together (8; on a GPU as many as fill it).",
        ),
    ] = None,
    dtype: Annotated[
        Literal["auto", "fp32", "bf16", "fp16"],
        typer.Option(help="Precision; auto: bf16 where the CPU multiplies it, else fp32."),
    ] = "auto",
    compile_: Compile = False,
) -> None:
    """Find labelled moments (start, end, score) in long videos.

    INPUT '-' is a video on stdin: one line of JSON for each moment, as soon as nothing later can change it.
    """
    live = "-" in options.inputs
    if live:
        _check_live(options, anet)
    given = GivenFeatures(features, stride, window, fps, offset)
    given.check(options, head, shots=shots)
    if options.dry_run:
        run_batch("detect", options, lambda item: {}, text=_text)
    if anet is not None:
        prepare_output_dir(anet.parent)
    # Here, because they bring in torch and PyAV, and --help should not wait for them.
    from vpipe.detection.detector import DetectorSettings
    from vpipe.detection.detector import detect as detect_segments
    from vpipe.detection.heads.head import load_head
    from vpipe.detection.heads.run import detect_with_head
    from vpipe.media.shots import shots as shots_between
    from vpipe.models import load_model
    from vpipe.recognition.features import FeatureRecognizer, split_features
    from vpipe.recognition.precision import resolve_dtype
    from vpipe.recognition.recognizer import Recognizer
    from vpipe.recognition.snippets import detection_grid, scan

    settings = DetectorSettings(
        candidates=candidates,
        refine=not no_refine,
        nms=nms,
        voting=voting,
        across_labels=across_labels,
        min_score=min_score,
        include_background=include_background,
    )
    learnt = None if head is None else load_head(head)
    done: list[dict[str, Any]] = []
    if learnt is not None and features is not None:
        with _anet_file(anet, done):
            detect_from_features(options, given, learnt, settings, text=_text, done=done)
    device = options.resolve_device()
    loaded = load_model(model, device)
    precision = resolve_dtype(dtype, device)
    kind = Recognizer if learnt is None else FeatureRecognizer
    if batch_size is None and (live or device == "cpu"):
        batch_size = 8  # a larger one is no faster here, and answers later
    recognizer = kind(
        loaded,
        device=device,
        dtype=precision,
        batch_size=batch_size,
        compile_=compile_,
        say=lambda line: note(line, options),
    )
    if live:
        return _detect_live(options, recognizer, settings, learnt, stall_timeout, shots)
    grid = detection_grid(recognizer) if learnt is None else learnt.grid(recognizer)

    def work(item: Item) -> dict[str, Any]:
        with progress(None, "steps", item.display, options) as bar:
            found = scan(
                item.path,
                recognizer,
                grid=grid,
                cache_dir=options.cache_dir,
                jobs=options.jobs,
                progress=bar.to,
            )
        row: dict[str, Any] = {
            "duration_s": round(found.duration_s, 6),
            "frames": found.frames,
            "width": found.info.width,
            "height": found.info.height,
            "warnings": found.warnings,
        }
        if learnt is None or not isinstance(recognizer, FeatureRecognizer):
            row["segments"] = [segment.to_json() for segment in detect_segments(found.scores, settings)]
        else:
            scores, table = split_features(found.scores, item.path, recognizer, grid, found.info.rate)
            row |= head_rows(detect_with_head(learnt, table, settings, scores))
        if shots:
            found_shots = shots_between(found.scores.cuts, found.frames, found.duration_s)
            row["shots"] = [shot.to_json() for shot in found_shots]
        done.append({"video_id": item.video_id, "segments": row["segments"]})
        return row | ({"cache": found.flow.to_json()} if found.flow else {})

    summary = model_summary(loaded, recognizer) | {"dtype": precision}
    if learnt is not None:
        summary |= {key: value for key, value in learnt.summary().items() if key in ("labels", "background")}
        summary["head"] = {"name": learnt.header.name, "kind": learnt.header.kind, "hash": learnt.hash}
    with _anet_file(anet, done):
        run_batch("detect", options, work, text=_text, model=summary, writes={"--anet": anet})


@contextmanager
def _anet_file(anet: Path | None, done: list[dict[str, Any]]) -> Iterator[None]:
    """Writes what is in `done` at the end, also when interrupted: the videos that are finished are kept.
    Nothing done leaves an old file alone."""
    from vpipe.evaluation.formats import results_document

    try:
        yield
    finally:
        if anet is not None and done:
            document = json.dumps(
                plain(results_document(done)), ensure_ascii=False, allow_nan=False, indent=1
            )
            write_whole(anet, document + "\n")


def _check_live(options: RunOptions, anet: Path | None) -> None:
    """Raise UsageError for what does not go with a video on stdin."""
    if options.inputs != ("-",) or options.from_file is not None:
        raise UsageError("bad_input_name", "'-' is a video on stdin and stands alone: name no other input")
    if options.output_format not in ("text", "jsonl") or anet is not None or options.failures is not None:
        raise UsageError(
            "bad_flags",
            "'-' writes one line of JSON for each event: leave --json, --csv, --anet, --failures out",
        )


def _detect_live(
    options: RunOptions,
    recognizer: Recognizer,
    settings: DetectorSettings,
    head: Head | None,
    stall_s: float,
    shots: bool,
) -> None:
    from vpipe.detection.detector import Segment
    from vpipe.detection.live import LiveDetection

    live = LiveDetection(0, recognizer, settings, head=head, stall_s=stall_s, jobs=options.jobs)
    count = 0
    for event in live.events():
        if isinstance(event.what, Segment):
            count += 1
        elif not shots:
            continue
        write_stdout(dump({"video_id": live.source.path, **event.to_json()}) + "\n")
    for warning in live.warnings:
        note(f"warning: {live.source.path}: {warning.message} [{warning.code}]", options)
    info = live.source.info
    seen = f"{live.duration_s:.2f} s, {live.frames} frames, {info.width}x{info.height}"
    note(f"{live.source.path}: {seen}: {count} segments", options)


def _text(row: dict[str, Any]) -> str:
    segments = row["segments"]
    shots = [
        f"  {s['start_s']:>9.2f}  {s['end_s']:>9.2f}  shot, frames {s['start_frame']} to {s['end_frame'] - 1}"
        for s in row.get("shots", [])
    ]
    if not segments:
        return "\n".join([f"{video_line(row)}: nothing found", *shots])
    width = max(len(s["label"]) for s in segments)
    lines = [f"  {'start s':>9}  {'end s':>9}  {'label':<{width}}  score"]
    lines += [
        f"  {s['start_s']:>9.2f}  {s['end_s']:>9.2f}  {s['label']:<{width}}  {s['score']:.3f}"
        for s in segments
    ]
    return "\n".join([video_line(row), *lines, *shots])
