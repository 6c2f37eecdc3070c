"""The options that say when the snippets of plain .npy features were: such files do not say it themselves."""

from __future__ import annotations

from typing import Annotated

import typer

PlainStride = Annotated[
    float | None,
    typer.Option("--stride", metavar="N", help="Of plain .npy features: frames between snippets."),
]
PlainWindow = Annotated[
    float | None, typer.Option("--window", metavar="N", help="Of plain .npy features: frames of a snippet.")
]
PlainFps = Annotated[
    float | None, typer.Option("--fps", metavar="F", help="Of plain .npy features: frames a second.")
]
PlainOffset = Annotated[
    float | None,
    typer.Option(
        "--offset", metavar="N", help="Of plain .npy features: the first centre, in frames [window / 2]."
    ),
]
