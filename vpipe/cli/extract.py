"""`vpipe extract`: frames as pictures with a frames.csv, or as one HDF5 file of JPEG bytes."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vpipe.cli.inputs import Item
from vpipe.cli.options import RunOptions, batch_options, new_app, note
from vpipe.cli.output import Row, prepare_output_dir
from vpipe.cli.progress import progress
from vpipe.cli.run import run_batch
from vpipe.errors import UsageError
from vpipe.timeline import parse_rate, parse_time

if TYPE_CHECKING:
    from vpipe.media.extract import ExtractSettings

app = new_app()


class Kind(StrEnum):
    jpg = "jpg"
    png = "png"
    h5 = "h5"


class Naming(StrEnum):
    vpipe = "vpipe"
    denseflow = "denseflow"


@app.command()
@batch_options("overwrite", "dry_run", "jobs")
def extract(
    options: RunOptions,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Where the frames go.")],
    kind: Annotated[
        Kind, typer.Option("--as", help="Pictures in DIR/<id>/, or one file DIR/<id>.frames.h5.")
    ] = Kind.jpg,
    quality: Annotated[
        int | None, typer.Option(min=1, max=100, metavar="Q", help="JPEG quality (jpg, h5) [default: 95].")
    ] = None,
    fps: Annotated[
        str | None,
        typer.Option(metavar="F", help="At each k/F, the last frame with time <= k/F (8, 30000/1001)."),
    ] = None,
    every: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Only frames whose index is a multiple of N.")
    ] = None,
    short_side: Annotated[
        int | None, typer.Option(min=1, metavar="PX", help="Scale so that the shorter side has PX pixels.")
    ] = None,
    start: Annotated[
        str | None, typer.Option(metavar="TIME", help="From this time on (12.5s or 00:01:02.5).")
    ] = None,
    end: Annotated[str | None, typer.Option(metavar="TIME", help="Up to this time, left out.")] = None,
    naming: Annotated[
        Naming, typer.Option(help="frame_000000.jpg from 0, or img_00001.jpg from 1 (denseflow).")
    ] = Naming.vpipe,
) -> None:
    """Write the frames of videos as pictures or HDF5; prints the path of each result.

    With pictures comes frames.csv: index, pts, time_s, file. A finished result is left as it is.
    """
    if kind is Kind.png and quality is not None:
        raise UsageError("bad_flags", "--quality is for JPEG: PNG is lossless; leave it out or use --as jpg")
    if fps is not None and every is not None:
        raise UsageError("bad_flags", "--fps and --every exclude each other: choose one")
    if kind is Kind.h5 and naming is not Naming.vpipe:
        raise UsageError("bad_flags", "--naming is for picture files: --as h5 writes one file")
    start_s = None if start is None else parse_time(start)
    end_s = None if end is None else parse_time(end)
    if end_s is not None and end_s <= (start_s or 0):
        raise UsageError("bad_time", f"--end {end} is not after the start: nothing would be taken")
    rate = None if fps is None else parse_rate(fps)

    def settings() -> ExtractSettings:
        from vpipe.media.extract import DEFAULT_JPEG_QUALITY, ExtractSettings  # start-up: imports cv2, h5py

        return ExtractSettings(
            kind=kind.value,
            quality=DEFAULT_JPEG_QUALITY if quality is None else quality,
            fps=rate,
            every=every or 1,
            short_side_px=short_side,
            start_s=start_s,
            end_s=end_s,
            naming=naming.value,
        )

    def work(item: Item) -> dict[str, Any]:
        from vpipe.media import extract as library  # start-up: imports av, cv2, h5py

        with progress(None, "frames", item.display, options) as shown:
            done = library.extract(
                item.path,
                output,
                item.video_id,
                settings(),
                overwrite=options.overwrite,
                jobs=options.jobs,
                progress=shown.to,
            )
        if done.reused:
            note(f"{item.display}: already there with these settings; --overwrite makes it again", options)
        return {
            "duration_s": done.duration_s,
            "frames": done.frames,
            "width": done.width,
            "height": done.height,
            "warnings": done.warnings,
            "status": "partial" if done.partial else "ok",
            "path": done.path,
            "written": done.written,
        }

    if not options.dry_run:
        prepare_output_dir(output)
    run_batch("extract", options, work, text=_path)


def _path(row: Row) -> str | None:
    return row["path"]
