"""`vpipe flow INPUT...`: optical flow into the cache; prints the path of each video's sealed file."""

from __future__ import annotations

import filecmp
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vpipe.cli.cache_estimate import dry_run, warn_of_size
from vpipe.cli.inputs import Item, find_items
from vpipe.cli.options import RunOptions, batch_options, new_app, note, parse_size
from vpipe.cli.output import display_name, prepare_output_dir, unwritable
from vpipe.cli.progress import progress
from vpipe.cli.run import run_batch
from vpipe.errors import EnvironmentFault, InputError, UsageError
from vpipe.timeline import parse_rate
from vpipe.whole_file import whole

if TYPE_CHECKING:
    from vpipe.cache import FlowEntry
    from vpipe.flow.params import FlowParams
    from vpipe.flow.quantise import Storage

app = new_app()
_PICTURE = re.compile(r"flow_\d{6,}\.png")
_SINGLE_VIDEO = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts")

ForModel = Annotated[
    str | None, typer.Option("--for", metavar="MODEL", help="Exactly the flow this flow model wants.")
]
Method = Annotated[
    Literal["tvl1", "opencv-tvl1", "dis", "farneback"] | None, typer.Option(help="Flow method (tvl1).")
]
Preset = Annotated[
    Literal["parity", "accurate", "fast"] | None,
    typer.Option(help="Settings: parity is OpenCV's defaults (accurate)."),
]
ShortSide = Annotated[
    str | None, typer.Option(metavar="PX|native", help="Scale frames to this short side (128).")
]
Fps = Annotated[
    str | None,
    typer.Option(metavar="FPS|native", help="Frame pairs of this rate; native: every frame (8)."),
]
Step = Annotated[int | None, typer.Option(metavar="N", help="Take every N-th of those frames (1).")]
Bound = Annotated[
    float | None, typer.Option(metavar="PX", help="Largest motion that --storage standard keeps (20).")
]
Kind = Annotated[Literal["standard", "high"], typer.Option("--storage", help="8 bit, or 16 bit at 1/32 px.")]
VerifySource = Annotated[
    bool, typer.Option("--verify-source", help="Read videos again to see whether they changed.")
]
Render = Annotated[
    Path | None, typer.Option(metavar="MP4", help="Draw the flow as a video; a folder for several inputs.")
]
RenderFrames = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Draw the flow as DIR/<id>/flow_000000.png.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="DIR", help="Also link or copy to DIR/<id>.flow.h5."),
]


MaxCacheSize = Annotated[
    str | None,
    typer.Option(metavar="SIZE", help="Warn before the run where the cache would outgrow this: 500GB."),
]


@app.command()
@batch_options("overwrite", "dry_run", "jobs", "device", "cache_dir")
def flow(
    options: RunOptions,
    for_model: ForModel = None,
    method: Method = None,
    preset: Preset = None,
    short_side: ShortSide = None,
    fps: Fps = None,
    step: Step = None,
    bound: Bound = None,
    storage: Kind = "standard",
    verify_source: VerifySource = False,
    render: Render = None,
    render_frames: RenderFrames = None,
    output: Output = None,
    max_cache_size: MaxCacheSize = None,
) -> None:
    """Compute optical flow into the cache and print the path of each video's HDF5 file.

    Without options the recipe is that of the packaged two-stream model: TV-L1 (accurate), short side 128 px,
    between frames 1/8 s apart. `--fps native` takes every pair of neighbouring frames. `--dry-run` probes
    each video and prints pairs, hours and gigabytes.
    """
    given = {
        "method": method,
        "preset": preset,
        "short_side_px": short_side,
        "fps": fps,
        "step": step,
        "bound": bound,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if for_model:
        _refuse_beside_model(given)
    params, stored = recipe_for_model(for_model, storage) if for_model else _recipe(given, storage)
    limit = None if max_cache_size is None else parse_size(max_cache_size)
    _check_render(render, options)
    if not for_model and not given:
        note("flow for the packaged two-stream model: every 1/8 s, short side 128 px (see --fps)", options)
    if options.dry_run:
        dry_run(find_items(options.inputs, options.from_file, options.null), params, stored, options)
    from vpipe.flow.batch import flow_device  # here: numpy

    device = flow_device(params, options.resolve_device())
    for folder in (output, render_frames, render and (render.parent if _is_video(render) else render)):
        if folder is not None:
            prepare_output_dir(folder)
    if limit is not None:
        if options.from_file == "-":
            raise UsageError(
                "bad_flags", "--max-cache-size looks at the inputs before the run: not with stdin"
            )
        items = find_items(options.inputs, options.from_file, options.null)
        warn_of_size(items, params, stored, options, limit)

    def work(item: Item) -> dict[str, Any]:
        from vpipe.cache import FlowCache  # here: OpenCV, HDF5 and PyAV take half a second

        entry = FlowCache(options.cache_dir).entry(
            item.path, params, stored, device=device, verify_source=verify_source
        )
        with progress(None, "pairs", item.video_id, options) as bar:
            counts = entry.ensure(jobs=options.jobs, progress=bar.to)
        row: dict[str, Any] = {
            **{key: entry.source[key] for key in ("duration_s", "frames", "width", "height")},
            "warnings": entry.warnings,
            "cache": {
                "path": entry.path,
                "pairs": counts.pairs,
                "computed": counts.computed,
                "reused": counts.reused,
            },
        }
        row |= _outputs(entry, item, options, output, render, render_frames)
        return row

    run_batch("flow", options, work, text=_text)


def _text(row: Mapping[str, Any]) -> str:
    return str(row.get("path") or row["cache"]["path"])


def _recipe(given: Mapping[str, Any], kind: str) -> tuple[FlowParams, Storage]:
    """The recipe of the options, and the packaged two-stream model's where they say nothing."""
    from vpipe.flow.params import PACKAGED, FlowParams
    from vpipe.flow.quantise import DEFAULT_BOUND_PX, Storage  # here: numpy

    params = FlowParams.preset(
        given.get("preset", "accurate"),
        method=given.get("method", PACKAGED.method),
        short_side_px=_pixels(given["short_side_px"]) if "short_side_px" in given else PACKAGED.short_side_px,
        fps=_rate(given["fps"]) if "fps" in given else PACKAGED.fps,
        step=given.get("step", PACKAGED.step),
    )
    if "bound" in given and kind == "high":
        raise UsageError("bad_flags", "--bound is of --storage standard: high keeps up to 1019 px")
    return params, Storage(kind, given.get("bound", DEFAULT_BOUND_PX))


def _refuse_beside_model(given: Mapping[str, Any]) -> None:
    if given:
        flags = ", ".join("--" + name.removesuffix("_px").replace("_", "-") for name in given)
        raise UsageError("bad_flags", f"--for MODEL fixes the whole recipe: leave out {flags}")


def recipe_for_model(name: str, kind: str) -> tuple[FlowParams, Storage]:
    """The recipe that a model's weight file carries. Raises UsageError for a model without flow."""
    from vpipe.flow.quantise import Storage
    from vpipe.models import load_model  # here: torch takes a second

    for stream in load_model(name).streams:
        if stream.flow_params is not None:
            return stream.flow_params, Storage(kind, stream.bound)
    raise UsageError("no_flow_stream", f"--for {name}: this model uses no flow: name one with a flow stream")


def _pixels(text: str) -> int | None:
    if text == "native":
        return None
    try:
        return int(text)
    except ValueError:
        raise UsageError("bad_short_side", f"--short-side {text}: give pixels, or native") from None


def _rate(text: str) -> Fraction | None:
    return None if text == "native" else parse_rate(text)


def _is_video(path: Path) -> bool:
    return path.suffix.lower() in _SINGLE_VIDEO


def _check_render(render: Path | None, options: RunOptions) -> None:
    """One video file cannot hold the flow of several inputs."""
    if render is None or not _is_video(render):
        return
    items = find_items(options.inputs) if options.from_file is None else []
    if options.from_file is not None or len(items) > 1:
        raise UsageError("bad_flags", f"--render {display_name(render)}: for several inputs give a folder")
    if any(_same_file(render, item.path) for item in items):
        where = display_name(render)
        raise UsageError("output_is_input", f"--render {where}: is the input: choose another name")


def _outputs(
    entry: FlowEntry,
    item: Item,
    options: RunOptions,
    output: Path | None,
    render: Path | None,
    render_frames: Path | None,
) -> dict[str, Any]:
    """Write what was asked for beside the cache; the row's keys for it."""
    row: dict[str, Any] = {}
    if output is not None:
        row["path"] = output / f"{item.video_id}.flow.h5"
        assert entry.path is not None  # ensured
        _place(entry.path, row["path"], options.overwrite)
    if render is not None:
        row["render"] = render if _is_video(render) else render / f"{item.video_id}.flow.mp4"
        if _same_file(row["render"], item.path):
            where = display_name(row["render"])
            raise InputError("output_is_input", f"{where}: is the input: choose another --render folder")
        _render_video(entry, row["render"], options.overwrite)
    if render_frames is not None:
        row["render_frames"] = render_frames / item.video_id
        _render_frames(entry, row["render_frames"], options.overwrite)
    return row


def _same_file(a: Path, b: Path) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:
        return False


@contextmanager
def _for(target: Path, beside: Path) -> Iterator[None]:
    """A fault of writing `beside` names `target`, which is what the user knows."""
    try:
        yield
    except EnvironmentFault as fault:
        raise EnvironmentFault(fault.code, fault.message.replace(str(beside), str(target))) from fault


def _render_video(entry: FlowEntry, target: Path, overwrite: bool) -> None:
    """Draw beside and put in place; an equal picture stays, another file only gives way to --overwrite."""
    from vpipe.cache.render import render_video

    beside = target.with_name(f".{target.stem[:40]}.{os.getpid()}.drawn{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _for(target, beside):
            render_video(entry, beside)
        _place(beside, target, overwrite)
    except OSError as error:
        raise unwritable(target, error) from None
    finally:
        beside.unlink(missing_ok=True)


def _render_frames(entry: FlowEntry, target: Path, overwrite: bool) -> None:
    """Draw into a folder beside and put it in place; only our own pictures give way to --overwrite."""
    from vpipe.cache.render import render_frames

    beside = target.with_name(f".{target.name[:40]}.{os.getpid()}.drawn")
    try:
        shutil.rmtree(beside, ignore_errors=True)
        with _for(target, beside):
            render_frames(entry, beside)
        if os.path.lexists(target):
            drawn = sorted(path.name for path in beside.iterdir())
            there = sorted(os.listdir(target)) if target.is_dir() else None
            if there == drawn and not filecmp.cmpfiles(beside, target, drawn, shallow=False)[1]:
                return
            ours = there is not None and all(_PICTURE.fullmatch(name) for name in there)
            if there != [] and not (overwrite and ours):
                way = "--overwrite replaces it" if ours else "choose another --render-frames"
                raise InputError("output_exists", f"{display_name(target)}: holds something else: {way}")
            shutil.rmtree(target)
        os.replace(beside, target)
    except OSError as error:
        raise unwritable(target, error) from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _place(sealed: Path, target: Path, overwrite: bool) -> None:
    """Link `sealed` to `target`, or copy it where the file system cannot link; equal files stay."""
    if os.path.lexists(target) and not overwrite:
        if target.is_file() and filecmp.cmp(sealed, target, shallow=False):
            return
        raise InputError(
            "output_exists", f"{display_name(target)}: another file is there: --overwrite replaces it"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)  # an id may hold folders, where stems clash
        with whole(target) as beside:
            try:
                os.link(sealed, beside)
            except OSError:
                shutil.copyfile(sealed, beside)
        beside.unlink(missing_ok=True)  # replacing a file by its own link leaves both names
    except OSError as error:
        raise unwritable(target, error) from None
