"""A command for testing batches: `python fake_command.py fake INPUT...`; an input's text is its fate."""

from __future__ import annotations

import os
import signal
import sys
import types
from fractions import Fraction
from typing import Annotated, Any

import typer

from vpipe.cli import main as cli
from vpipe.cli.options import RunOptions, batch_options, new_app
from vpipe.cli.run import Item, run_batch
from vpipe.errors import EnvironmentFault, InputError, UsageError, Warning_

app = new_app()


@app.command()
@batch_options("overwrite", "dry_run", "jobs", "device", "cache_dir")
def fake(options: RunOptions, step: Annotated[int, typer.Option(min=1, help="A number.")] = 1) -> None:
    """Do what the input file says."""

    def work(item: Item) -> dict[str, Any]:
        if not item.path.exists():
            raise InputError("not_found", f"{item.display}: no such file")
        fate = item.path.read_text()
        if fate == "bad":
            raise InputError("not_a_video", f"{item.display}: not a video")
        if fate == "bug":
            raise ZeroDivisionError("a bug")
        if fate == "full":
            raise OSError(28, "No space left on device")
        if fate == "no cache":
            raise EnvironmentFault("unwritable_cache", "/cache: cannot be written")
        if fate == "usage":
            raise UsageError("bad_value", "no such value")
        if fate in ("SIGINT", "SIGTERM"):
            os.kill(os.getpid(), getattr(signal, fate))
        if fate.startswith("swallowed "):  # as an import under `except:` does
            try:
                os.kill(os.getpid(), getattr(signal, fate.split()[1]))
            except BaseException as error:
                if fate.endswith("then broken"):
                    raise AttributeError("half imported") from error
        warnings = [Warning_("vfr", "the rate varies", {"decoded": 3})] if fate == "warn" else []
        row = {"duration_s": Fraction(1, 3), "frames": 4, "width": 8, "height": 6, "warnings": warnings}
        settings = {"step": step, "jobs": options.jobs, "verbose": options.verbose}
        return row | {"labels": [{"label": "pan_left", "score": float("nan")}], "settings": settings}

    run_batch("fake", options, work, text=lambda row: f"{row['video_id']} fine", model={"name": "m"})


def _install() -> None:
    module = types.ModuleType("vpipe.cli.fake")
    module.__spec__ = cli.importlib.util.spec_from_loader("vpipe.cli.fake", loader=None)
    module.app = app  # type: ignore[attr-defined]
    sys.modules["vpipe.cli.fake"] = module
    cli.COMMANDS["fake"] = ("vpipe.cli.fake", "A command for tests.")


if __name__ == "__main__":
    _install()
    cli.main()
