"""`vpipe check`: are these videos sound, and if not, why."""

from __future__ import annotations

import os
from typing import Annotated, Any

import typer

from vpipe.cli.inputs import Item
from vpipe.cli.options import RunOptions, batch_options, new_app
from vpipe.cli.output import Row
from vpipe.cli.run import run_batch
from vpipe.errors import one_line

app = new_app()


@app.command()
@batch_options("jobs")
def check(
    options: RunOptions,
    quick: Annotated[bool, typer.Option("--quick", help="Headers and the first frame only.")] = False,
) -> None:
    """Decode videos fully and report what is wrong with them: ok or the reason, and warnings as codes.

    `--failures FILE` lists those with a fault, for `--from-file` of any command. Exit code 0 where all are
    sound, 1 where any is unreadable, damaged or cut short. Warnings are no fault.
    """
    faults: list[str] = []
    several = len(options.inputs) != 1 or options.from_file is not None or os.path.isdir(options.inputs[0])
    at_once = options.jobs if several else 1  # one file gets all threads

    def work(item: Item) -> dict[str, Any]:
        from vpipe.media.check import check as check_video  # start-up: imports av and numpy

        result = check_video(item.path, quick=quick, threads=options.jobs if at_once == 1 else 1)
        if result.reason is not None:
            faults.append(result.reason)
        info = result.info
        return {
            "duration_s": result.duration_s,
            "frames": result.frames,
            "width": info.width,
            "height": info.height,
            "warnings": result.warnings,
            "status": "ok" if result.ok else "partial",
            "ok": result.ok,
            "reason": result.reason,
            "codec": info.codec,
            "fps": None if info.average_rate is None else round(float(info.average_rate), 6),
            "declared_frames": info.declared_frames,
            "declared_duration_s": info.declared_duration_s,
            "variable_frame_rate": result.variable_rate,
            "rotation": info.rotation,
        }

    try:
        run_batch("check", options, work, text=_line, verdicts=True, at_once=at_once)
    except typer.Exit as end:
        # A damaged video is a result, and still a fault that the check found.
        raise typer.Exit(1 if faults and end.exit_code == 0 else end.exit_code) from None


def _line(row: Row) -> str:
    """`ok` or the reason, the file, what it holds and its warnings."""
    name = one_line(row["input"])
    if row["error"] is not None:
        return f"{row['error']['code']}\t{name}"
    frames = row["frames"] if row["frames"] is not None else row["declared_frames"]
    holds = [
        f"{row['codec']} {row['width']}x{row['height']}",
        "1 frame" if frames == 1 else f"{'?' if frames is None else frames} frames",
        f"{'?' if row['duration_s'] is None else round(row['duration_s'], 3)} s",
    ]
    if row["variable_frame_rate"]:
        holds.append("variable frame rate")
    codes = " ".join(warning["code"] for warning in row["warnings"])
    return "\t".join([row["reason"] or "ok", name, ", ".join(holds), *([codes] if codes else [])])
