"""`vpipe classify`: labels for whole videos."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vpipe.cli.options import RunOptions, batch_options, new_app, note
from vpipe.cli.output import prepare_output_dir
from vpipe.cli.progress import progress
from vpipe.cli.run import Item, run_batch
from vpipe.cli.scoring import DEFAULT_MODEL, Batch, Compile, DType, ModelName, model_summary, video_line

app = new_app()


@app.command(epilog="Example: vpipe classify a.mp4 --top 3")
@batch_options("dry_run", "jobs", "device", "cache_dir")
def classify(
    options: RunOptions,
    model: ModelName = DEFAULT_MODEL,
    modality: Annotated[
        Literal["rgb", "flow", "both"] | None,
        typer.Option(help="Which streams of the model to use (all that it has)."),
    ] = None,
    top: Annotated[int, typer.Option(min=1, help="How many labels to show.")] = 5,
    clips: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default=False,
            help="Clips, spread evenly over the video (10; an imported model: as its reference takes).",
        ),
    ] = None,
    crops: Annotated[
        Literal["1", "3", "10"],
        typer.Option(help="Windows of each clip: whole frame, 3 along it, 5 and their mirror images."),
    ] = "1",
    twice_sample: Annotated[
        bool, typer.Option("--twice-sample", help="Twice the clips, the second half shifted.")
    ] = False,
    batch_size: Batch = None,
    dtype: DType = "fp32",
    compile_: Compile = False,
    explain: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write DIR/<id>.png and .mp4: where the clips show the label."),
    ] = None,
) -> None:
    """Label whole videos: one list of labels with scores for each."""
    if options.dry_run:
        run_batch("classify", options, lambda item: {}, text=_text)
    # Here, because they bring in torch and PyAV, and --help should not wait for them.
    from vpipe.models import load_model
    from vpipe.recognition.classify import classify as classify_video
    from vpipe.recognition.recognizer import Recognizer

    device = options.resolve_device()
    loaded = load_model(model, device)
    recognizer = Recognizer(
        loaded,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        modality=modality,
        compile_=compile_,
        say=lambda line: note(line, options),
    )

    if explain is not None:
        prepare_output_dir(explain)

    def work(item: Item) -> dict[str, Any]:
        explanation = None
        if explain is not None:
            from vpipe.recognition.explain import Explanation  # here, because it brings in OpenCV

            explanation = Explanation()
        with progress(None, "pairs", item.display, options) as bar:
            found = classify_video(
                item.path,
                recognizer,
                clips=clips,
                crops=int(crops),  # type: ignore[arg-type]
                twice=twice_sample,
                cache_dir=options.cache_dir,
                jobs=options.jobs,
                progress=bar.to,
                explanation=explanation,
            )
        if explain is not None and explanation is not None:
            explanation.write(explain, item.video_id, found.labels, found.top(1)[0][0])
        row: dict[str, Any] = {
            "duration_s": round(found.duration_s, 6),
            "frames": found.frames,
            "width": found.info.width,
            "height": found.info.height,
            "warnings": found.warnings,
            "labels": [{"label": label, "score": round(score, 6)} for label, score in found.top(top)],
        }
        return row | ({"cache": found.flow.to_json()} if found.flow else {})

    run_batch("classify", options, work, text=_text, model=model_summary(loaded, recognizer))


def _text(row: dict[str, Any]) -> str:
    width = max((len(entry["label"]) for entry in row["labels"]), default=0)
    lines = [f"  {entry['label']:<{width}}  {entry['score']:.3f}" for entry in row["labels"]]
    return "\n".join([video_line(row), *lines])
