"""`vpipe cache export | import`."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal

import typer

from vpipe.cli import interrupt
from vpipe.cli.cache_find import ForModel, cache_root, flow_file, is_hdf5
from vpipe.cli.options import CacheDir, Json, Overwrite
from vpipe.cli.output import dump, prepare_output_dir, write_stdout
from vpipe.cli.run import complain
from vpipe.errors import InputError, UsageError, one_line
from vpipe.timeline import parse_rate


def export(
    inputs: Annotated[
        list[str], typer.Argument(metavar="VIDEO|FILE|KEY...", help="Videos, flow files, or keys.")
    ],
    kind: Annotated[
        Literal["flo", "npz", "jpg", "png", "h5-gzip"],
        typer.Option("--as", help="flo and npz: float32; jpg: denseflow's pairs; png: KITTI's; h5-gzip."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Where to write.")],
    for_model: ForModel = None,
    bound: Annotated[
        float | None, typer.Option(metavar="PX", help="What 0 and 255 of jpg mean (the file's own bound).")
    ] = None,
    native_scale: Annotated[
        bool, typer.Option("--native-scale", help="flo in the size and pixels of the video's own frames.")
    ] = False,
    overwrite: Overwrite = False,
    cache_dir: CacheDir = None,
    json: Json = False,
) -> None:
    """Write finished flow in a form that other tools read; prints one path per input."""
    if bound is not None and (kind != "jpg" or not 0.5 <= bound <= 1019):
        raise UsageError("bad_flags", "--bound is of --as jpg, 0.5 to 1019 px")
    if native_scale and kind != "flo":
        raise UsageError("bad_flags", "--native-scale is of --as flo")
    from vpipe.cache.export import export as write  # here: OpenCV, HDF5 and PyAV take half a second
    from vpipe.cache.export import export_path
    from vpipe.cache.records import DamagedFile

    root = cache_root(cache_dir)
    prepare_output_dir(output)
    rows, failed, taken = [], 0, set()
    for word in inputs:
        interrupt.check()
        try:
            with flow_file(word, root, for_model) as file:
                target = export_path(kind, output, _id(word, str(file.volatile.get("file", ""))))
                if target in taken:
                    raise InputError(
                        "output_exists", f"{target}: two inputs have this name: export them apart"
                    )
                taken.add(target)
                try:
                    write(
                        file,
                        kind,
                        target,
                        bound_px=bound,
                        native_scale=native_scale,
                        overwrite=overwrite,
                    )
                except DamagedFile as error:
                    raise InputError("damaged_flow_file", f"{error}: run `vpipe flow` on its video") from None
                rows.append({"input": word, "path": target, "flows": file.grid.pairs})
        except InputError as error:
            complain(error)
            failed += 1
            continue
        if not json:
            write_stdout(f"{one_line(str(target))}\n")
    if json:
        write_stdout(dump({"schema": "vpipe.cache.export/1", "results": rows, "failed": failed}) + "\n")
    raise typer.Exit(0 if not failed else 3 if rows else 1)


def _id(word: str, seen: str) -> str:
    """The stem of a video's name; of a flow file or a key, that of the video it was made from."""
    if Path(word).exists() and not is_hdf5(Path(word)):
        return Path(word).stem
    stem = Path(seen).stem if seen and Path(seen).name == seen else ""
    return stem or Path(word).name.removesuffix(".h5").removesuffix(".flow")


def import_(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="denseflow's flow_x_00000.jpg ..., or numbered .flo files."),
    ],
    video: Annotated[Path, typer.Option("--video", metavar="VIDEO", help="The video it is the flow of.")],
    bound: Annotated[
        float, typer.Option(metavar="PX", help="What 0 and 255 of the JPEGs mean; denseflow's -b.")
    ] = 20.0,
    fps: Annotated[
        str | None, typer.Option(metavar="FPS", help="The flow is between frames of this rate (every frame).")
    ] = None,
    step: Annotated[int, typer.Option(metavar="N", help="The flow is between every N-th frame.")] = 1,
    storage: Annotated[
        Literal["standard", "high"], typer.Option(help="8 bit, or 16 bit at 1/32 px.")
    ] = "standard",
    cache_dir: CacheDir = None,
) -> None:
    """Take flow that was computed elsewhere into the cache, marked as lossy; prints the path of its file."""
    from vpipe.cache.importing import import_flow  # here: OpenCV, HDF5 and PyAV take half a second
    from vpipe.flow.params import FlowParams
    from vpipe.flow.quantise import Storage

    stored = Storage(storage, bound) if storage == "standard" else Storage("high")
    rate: Fraction | None = None if fps in (None, "native") else parse_rate(str(fps))
    grid_of = FlowParams.preset("accurate", fps=rate, step=step)
    path = import_flow(cache_root(cache_dir), folder, video, grid_of, stored, bound_px=bound)
    write_stdout(f"{one_line(str(path))}\n")
