"""`vpipe features`: what a model sees of every snippet of a video, for detectors of any kind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vpipe.cli.options import RunOptions, batch_options, new_app, note
from vpipe.cli.output import prepare_output_dir
from vpipe.cli.progress import progress
from vpipe.cli.run import Item, run_batch
from vpipe.cli.scoring import DEFAULT_MODEL, Batch, Compile, DType, ModelName, model_summary

app = new_app()


@app.command(epilog="Example: vpipe features films/ -o features --model i3d.safetensors --stride 4")
@batch_options("overwrite", "dry_run", "jobs", "device", "cache_dir")
def features(
    options: RunOptions,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the features go.")],
    model: ModelName = DEFAULT_MODEL,
    window: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Frames of a snippet [default: the model's].")
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Frames from one snippet to the next [default: the model's]."),
    ] = None,
    kind: Annotated[
        Literal["npy", "h5"], typer.Option("--as", help="DIR/<id>.npy with <id>.json, or DIR/<id>.h5.")
    ] = "npy",
    batch_size: Batch = None,
    dtype: DType = "fp32",
    compile_: Compile = False,
) -> None:
    """Write snippet features of videos; prints one path for each.

    A table of snippets x channels, float32, and beside it stride, window, fps, offset, the time of each
    snippet and the model. Two streams stand side by side, RGB first. A finished result is left as it is.
    """
    if options.dry_run:
        run_batch("features", options, lambda item: {}, text=_path)
    prepare_output_dir(output)
    # Here, because they bring in torch and PyAV, and --help should not wait for them.
    from vpipe.models import load_model
    from vpipe.recognition.extract_features import extract_features
    from vpipe.recognition.features import FeatureRecognizer
    from vpipe.recognition.grid import snippet_grid

    device = options.resolve_device()
    loaded = load_model(model, device)
    recognizer = FeatureRecognizer(
        loaded,
        device=device,
        dtype=dtype,
        batch_size=batch_size,
        compile_=compile_,
        say=lambda line: note(line, options),
    )
    grid = snippet_grid(recognizer, window, stride)

    def work(item: Item) -> dict[str, Any]:
        with progress(None, "steps", item.display, options) as bar:
            done = extract_features(
                item.path,
                output / f"{item.video_id}.{kind}",
                recognizer,
                grid,
                dtype=dtype,
                video_id=item.video_id,
                overwrite=options.overwrite,
                cache_dir=options.cache_dir,
                jobs=options.jobs,
                progress=bar.to,
            )
        if done.reused:
            note(f"{item.display}: already there with these settings; --overwrite makes it again", options)
        return done.to_json()

    run_batch("features", options, work, text=_path, model=model_summary(loaded, recognizer))


def _path(row: dict[str, Any]) -> str:
    return str(row["path"])
