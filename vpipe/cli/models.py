"""`vpipe models`: which models there are, what is in a file, two as one, published checkpoints as ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from vpipe.cli.options import Json, new_app
from vpipe.cli.output import dump, write_stdout
from vpipe.errors import UsageError, one_line

app = new_app(help="List models and show what is in a weight file.")


@app.command("list")
def list_models(json: Json = False) -> None:
    """Packaged models, architectures as they were published, and checkpoints that `download` knows."""
    from vpipe.models.listing import listing  # here: torch takes a second

    found = listing()
    if json:
        write_stdout(dump({"schema": "vpipe.models/2", **found}) + "\n")
        return
    for title, head, rows in (
        (
            "Packaged models (--model NAME)",
            ("name", "streams", "labels", "parameters", "GMACs", "licence", "accuracy"),
            [
                (
                    one["name"] + (" (default)" if one["name"] == found["default"] else ""),
                    " + ".join(f"{s['modality']} {s['architecture']} {s['input']}" for s in one["streams"]),
                    str(len(one["labels"])),
                    f"{one['parameters'] / 1e6:.2f} M",
                    f"{one['gmacs']:.2f}",
                    one["licence"],
                    one["accuracy_source"],
                )
                for one in found["models"]
            ],
        ),
        (
            "Architectures (vpipe models import, --arch NAME)",
            ("name", "input", "parameters", "GMACs", "published accuracy, top-1", "source"),
            [
                (
                    one["name"],
                    one["input"] or "",
                    f"{one['parameters'] / 1e6:.1f} M" if one["parameters"] else "",
                    f"{one['gmacs']:.1f}" if one["gmacs"] else "",
                    one["accuracy"],
                    one["source"],
                )
                for one in found["architectures"]
            ],
        ),
        (
            "Published checkpoints (vpipe models download NAME)",
            ("name", "architecture", "modality", "licence", "published accuracy", "source"),
            [
                tuple(
                    one[key] for key in ("name", "architecture", "modality", "licence", "accuracy", "source")
                )
                for one in found["checkpoints"]
            ],
        ),
    ):
        write_stdout(f"{title}\n")
        table = [head, *rows]
        widths = [max(len(row[column]) for row in table) for column in range(len(head))]
        for row in table:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            write_stdout(f"  {'  '.join(cells).rstrip()}\n")


@app.command()
def info(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A packaged model's name or a weight file.")],
    temporal_kernels: Annotated[
        bool,
        typer.Option(
            "--temporal-kernels",
            help="What its learned temporal kernels do: correlation of taps and frequency response by layer.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """What a model is: source, licence, labels, and what each of its streams expects."""
    from vpipe.models import load_model  # here: torch takes a second

    loaded = load_model(model)
    found = loaded.info()
    kernels: list[list[str]] = [[] for _ in loaded.streams]
    if temporal_kernels:
        from vpipe.comparison.temporal_kernels import describe, lines

        described = [describe(stream.network, stream.hyper.get("stack", 1)) for stream in loaded.streams]
        kernels = [["  temporal kernels:", *(f"  {line}" for line in lines(one))] for one in described]
        if json:
            for stream, one in zip(found["streams"], described, strict=True):
                stream["temporal_kernels"] = one
    if json:
        write_stdout(dump({"schema": "vpipe.model/1", **found}) + "\n")
        return
    text = [f"{key}: {_plainly(value)}" for key, value in found.items() if key != "streams"]
    for number, (stream, more) in enumerate(zip(found["streams"], kernels, strict=True), start=1):
        text.append(f"stream {number}:")
        text += [f"  {key}: {_plainly(value)}" for key, value in stream.items()] + more
    write_stdout("".join(one_line(line) + "\n" for line in text))


@app.command()
def fuse(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help="Models of one label list.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The weight file to write.")],
    weights: Annotated[
        str | None, typer.Option(metavar="A,B,...", help="One weight above 0 for each model (all 1).")
    ] = None,
    on: Annotated[
        Literal["softmax", "logits"],
        typer.Option(help="Average probabilities, or add up logits as I3D does."),
    ] = "softmax",
    name: Annotated[str | None, typer.Option(help="Of the fused model (the file's name).")] = None,
) -> None:
    """Put several models into one file that adds up their scores, as two-stream networks do."""
    from vpipe.models import load_model  # here: torch takes a second
    from vpipe.models.fuse import fuse as fuse_models

    try:
        numbers = [float(number) for number in weights.split(",")] if weights else [1.0] * len(models)
    except ValueError:
        raise UsageError("bad_fusion", f"--weights {weights}: write numbers, for example 1,1.5") from None
    if output.suffix != ".safetensors":
        raise UsageError("bad_output", f"{output}: a weight file is named *.safetensors")
    fuse_models([load_model(model) for model in models], numbers, name or output.stem, output, on=on)
    write_stdout(f"{output}\n")


@app.command()
def download(
    name: Annotated[str, typer.Argument(metavar="NAME", help="One that `vpipe models list` names.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="Where the checkpoint goes.")] = Path("."),
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="The weight file (DIR/NAME.safetensors)."),
    ] = None,
    url: Annotated[str | None, typer.Option(metavar="URL", help="Another address of the same file.")] = None,
) -> None:
    """Fetch a published checkpoint, going on where an earlier try stopped, check its hash and import it."""
    from vpipe.models.catalogue import find  # here: torch takes a second
    from vpipe.models.download import fetch, import_entry

    entry = find(name)
    path = output or to / f"{name}.safetensors"
    if path.suffix != ".safetensors":
        raise UsageError("bad_output", f"{path}: a weight file is named *.safetensors")
    got = fetch(entry, to, url=url)
    said = [
        f"{entry.name}: {url or entry.url}; {entry.licence}; {entry.source}",
        f"{got.path}: {'fetched' if got.fetched else 'was there'}, SHA-256 {got.sha256}",
        f"checked against {got.checked}",
    ]
    if entry.labels is None:
        said.append(f"next: vpipe models import {got.path} --as-init tsm -o {path}")
    else:
        done = import_entry(entry, got, path)
        said += [f"{done.layout}: {done.architecture}, {done.classes} classes", *done.notes]
        said.append(f"next: vpipe classify VIDEO --model {path}")
    for line in said:
        typer.echo(f"vpipe: {one_line(line)}", err=True)
    write_stdout(f"{got.path if entry.labels is None else path}\n")


@app.command()
def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A packaged model's name or a weight file.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The file to write.")],
    onnx: Annotated[bool, typer.Option("--onnx", help="As ONNX, the only format so far.")] = False,
) -> None:
    """Write a model for other programs, after comparing what the file gives with what the model gives."""
    from vpipe.models import load_model  # here: torch takes a second
    from vpipe.models.onnx_file import export_onnx

    if not onnx:
        raise UsageError("bad_format", "--onnx: say which format to write; ONNX is the only one")
    if output.suffix != ".onnx":
        raise UsageError("bad_output", f"{output}: an ONNX file is named *.onnx")
    difference = export_onnx(load_model(model), output)
    typer.echo(f"vpipe: onnxruntime's outputs differ from ours by at most {difference:.1e}", err=True)
    write_stdout(f"{output}\n")


@app.command("import")
def import_(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", help="A published .pth, .pt, .tar or .safetensors file.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="FILE", help="The weight file to write.")],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|TXT",
            help="A packaged list (kinetics400, ucf101, hmdb51, something, activitynet, thumos14) or a file "
            "with one label a line, in the order of the classes (told by layout and class count).",
        ),
    ] = None,
    arch: Annotated[str | None, typer.Option(help="The architecture (told by the keys).")] = None,
    segments: Annotated[
        int | None, typer.Option(min=1, max=256, help="Of TSN, TSM, TEA, STM and TDN.")
    ] = None,
    sampling: Annotated[
        Literal["uniform", "dense"] | None, typer.Option(help="Of models over segments (uniform).")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, max=256, help="Of a clip, for 3-D models (the repository's).")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(min=1, max=64, help="Frames from one of a clip to the next.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="TDN's share of the frame (0.5; 0.75 for 16).")] = None,
    beta: Annotated[float | None, typer.Option(help="TDN's share of differences (0.5; 0.25 for 16).")] = None,
    temporal_pool: Annotated[
        bool, typer.Option("--temporal-pool", help="TSM built with temporal_pool, its layer2 unwrapped.")
    ] = False,
    non_local: Annotated[
        Literal["embedded-gaussian", "dot-product"] | None,
        typer.Option(help="Of networks with non-local blocks, where the weights are alike."),
    ] = None,
    as_init: Annotated[
        str | None,
        typer.Option(
            metavar="ARCH",
            help="From ImageNet weights of a torchvision ResNet, for `vpipe train --init`: tsn-resnet, tsm, "
            "stm, tanet, tdn, resnet3d or slowfast.",
        ),
    ] = None,
    modality: Annotated[
        Literal["rgb", "flow"], typer.Option(help="With --as-init: what the network will see.")
    ] = "rgb",
    licence: Annotated[str, typer.Option(help="Of the weights, for the record.")] = "as its source says",
) -> None:
    """Turn a published checkpoint into a weight file; nothing that is in the file is run."""
    from vpipe.models.importer.importing import import_checkpoint  # here: torch takes a second
    from vpipe.models.importer.layout import Choices

    if output.suffix != ".safetensors":
        raise UsageError("bad_output", f"{output}: a weight file is named *.safetensors")
    if as_init is not None:
        from vpipe.models.importer.initial import import_initial

        begun = import_initial(checkpoint, output, as_init, modality=modality, segments=segments)
        typer.echo(
            f"vpipe: {as_init}: {begun.taken} tensors from the image network, {begun.fresh} start afresh\n"
            f"vpipe: next: vpipe train DATA --init {output}",
            err=True,
        )
        write_stdout(f"{output}\n")
        return
    choices = Choices(
        segments=segments,
        sampling=sampling,
        frames=frames,
        stride=stride,
        alpha=alpha,
        beta=beta,
        temporal_pool=temporal_pool,
        non_local=non_local,
    )
    done = import_checkpoint(checkpoint, output, labels, choices=choices, architecture=arch, licence=licence)
    notes = [f"{done.layout}: {done.architecture}, {done.classes} classes", *done.notes]
    notes.append(f"next: vpipe classify VIDEO --model {output}")
    for line in notes:
        typer.echo(f"vpipe: {one_line(line)}", err=True)
    write_stdout(f"{output}\n")


@app.command()
def verify(
    fixtures: Annotated[
        list[Path], typer.Option("--fixture", metavar="JSON", help="A parity fixture; may be given again.")
    ],
) -> None:
    """Compare the importer and our networks with the reference's logits: exit 0 where they agree to 1e-4."""
    from vpipe.models.importer.parity import TOLERANCE, check_fixture  # here: torch takes a second

    good = True
    for path in fixtures:
        found = check_fixture(path)
        good = good and found.holds
        verdict = "ok" if found.holds else f"FAILED, above {TOLERANCE:g}"
        write_stdout(f"{found.name}  max |difference| {found.difference:.2e}  {verdict}  ({found.layout})\n")
    raise typer.Exit(0 if good else 1)


def _plainly(value: Any) -> str:
    """A value as people read it: lists by commas, tables as key=value."""
    if isinstance(value, dict):
        return ", ".join(f"{key}={_plainly(item)}" for key, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plainly(item) for item in value) or "none"
    return "none" if value is None else str(value)
