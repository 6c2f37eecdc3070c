"""What the command line checks before anything heavy is loaded."""

from __future__ import annotations

from pathlib import Path

from vpipe.errors import UsageError

DEFAULT_RECIPE = "own-labels"


def check_output(output: Path, overwrite: bool) -> None:
    """Raises UsageError `bad_output`, `output_exists`."""
    if output.suffix != ".safetensors":
        raise UsageError("bad_output", f"{output}: a weight file is named *.safetensors")
    if output.exists() and not overwrite:
        raise UsageError("output_exists", f"{output}: exists already; give --overwrite, or --resume to go on")
