"""`vpipe cache ...`: what is in the flow cache, whether it is sound, and in and out of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from vpipe.cli import cache_care, cache_exchange
from vpipe.cli.cache_find import (
    ForModel,
    cache_root,
    entries_named,
    flow_file,
    is_hdf5,
    one_entry,
    print_table,
)
from vpipe.cli.options import CacheDir, Json, new_app
from vpipe.cli.output import dump, write_stdout
from vpipe.errors import InputError, one_line

app = new_app(help="Look into the flow cache, check it, make room, pack, export and import.")
app.command("verify")(cache_care.verify)
app.command("gc")(cache_care.gc)
app.command("pack")(cache_care.pack)
app.command("export")(cache_exchange.export)
app.command("import")(cache_exchange.import_)

Video = Annotated[str, typer.Argument(metavar="VIDEO", help="A video whose flow is in the cache.")]
Named = Annotated[
    list[str], typer.Argument(metavar="VIDEO|FILE|KEY...", help="Videos, flow files, or keys (8 digits do).")
]


@app.command("list")
def list_entries(cache_dir: CacheDir = None, json: Json = False) -> None:
    """Every entry, one a line: video, recipe, flows, size, bytes, state, key."""
    root = cache_root(cache_dir)
    from vpipe.cache.catalogue import entries  # here: OpenCV, HDF5 and PyAV take half a second
    from vpipe.cache.files import megabytes

    found = [entry.to_dict() for entry in entries(root)]
    if json:
        write_stdout(dump({"schema": "vpipe.cache.list/1", "cache": root, "entries": found}) + "\n")
        return
    rows = []
    for entry in found:
        if "pairs" in entry:
            what = [
                entry["video"],
                _recipe(entry),
                str(entry["pairs"]),
                f"{entry['width']}x{entry['height']}",
            ]
        else:
            what = ["?", "", str(entry.get("done", "")), ""]
        rows.append([*what, megabytes(entry["bytes"]), entry["state"], entry["key"][:12], entry["storage"]])
    print_table(rows, numbers=(2, 4))


@app.command()
def stats(cache_dir: CacheDir = None, json: Json = False) -> None:
    """Totals: entries, flows, bytes, and what is unfinished, damaged or not vpipe's."""
    root = cache_root(cache_dir)
    from vpipe.cache.catalogue import entries  # here: see list
    from vpipe.cache.files import megabytes
    from vpipe.cache.slots import find_slots

    found = list(entries(root))
    totals: dict[str, Any] = {"cache": root, "entries": len(found)}
    for state in ("sealed", "packed", "unfinished", "damaged"):
        mine = [entry for entry in found if entry.state == state]
        totals[state] = {"entries": len(mine), "bytes": sum(entry.bytes for entry in mine)}
    finished = [entry.sealed for entry in found if entry.sealed is not None]
    totals["flows"] = sum(sealed.grid.pairs for sealed in finished)
    totals["videos"] = len({sealed.manifest["source"]["sha256"] for sealed in finished})
    totals["bytes"] = sum(entry.bytes for entry in found)
    totals["float32_bytes"] = sum(s.grid.pairs * 8 * s.grid.size[0] * s.grid.size[1] for s in finished)
    totals["unknown"] = find_slots(root)[1]
    if json:
        write_stdout(dump({"schema": "vpipe.cache.stats/1", **totals}) + "\n")
        return
    times = f" ({megabytes(totals['float32_bytes'])} as float32)" if finished else ""
    lines = [
        f"{root}",
        f"{totals['flows']} flows of {totals['videos']} videos in {megabytes(totals['bytes'])}{times}",
    ]
    for state in ("sealed", "packed", "unfinished", "damaged"):
        if totals[state]["entries"]:
            lines.append(f"{state}: {totals[state]['entries']} entries, {megabytes(totals[state]['bytes'])}")
    lines += [f"not vpipe's, never touched: {path}" for path in totals["unknown"]]
    write_stdout("".join(one_line(line) + "\n" for line in lines))


@app.command()
def info(inputs: Named, cache_dir: CacheDir = None, json: Json = False) -> None:
    """What a video's flow in the cache is, or what is in a flow file: source, recipe, versions, storage."""
    root = cache_root(cache_dir)
    documents = []
    for word in inputs:
        words = [word]
        if not is_hdf5(Path(word)):
            words = [str(entry.slot.sealed) for entry in entries_named(word, root)]
        for each in words:
            with flow_file(each, root) as file:
                bad = file.damaged(range(file.grid.pairs))
                manifest = {name: value for name, value in file.manifest.items() if name != "tables"}
                documents.append(
                    {"path": file.path, "packed": file.index.packed, **manifest, "made": file.volatile}
                    | {"damaged_flows": bad}
                )
    if json:
        write_stdout(dump({"schema": "vpipe.cache.info/1", "files": documents}) + "\n")
        return
    for document in documents:
        write_stdout("".join(one_line(line) + "\n" for line in _lines(document)))


@app.command()
def path(video: Video, for_model: ForModel = None, cache_dir: CacheDir = None) -> None:
    """Print the path of a video's finished flow; exit code 1 where it is not in the cache."""
    entry = one_entry(video, cache_root(cache_dir), for_model)
    if entry.sealed is None:
        raise InputError("damaged_flow_file", f"{entry.fault}: run `vpipe cache verify --repair`")
    write_stdout(f"{entry.slot.sealed}\n")


def _recipe(entry: dict[str, Any]) -> str:
    side = "native size" if entry["short_side_px"] is None else f"{entry['short_side_px']} px"
    if entry["method"] == "imported":
        side = entry["provenance"]["from"]
    rate = "every frame" if entry["fps"] is None else f"{entry['fps']} fps"
    step = f" step {entry['step']}" if entry["step"] not in (1, None) else ""
    preset = f" {entry['preset']}" if entry["preset"] else ""
    return f"{entry['method']}{preset}, {side}, {rate}{step}"


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    """A document as people read it: one line a value, inner tables indented."""
    lines = []
    for name, item in value.items():
        if isinstance(item, dict):
            lines += [f"{indent}{name}:", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{name}: {item}")
    return lines
