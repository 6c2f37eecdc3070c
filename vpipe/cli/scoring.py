"""What `classify` and `detect` share: options about the model, and how a video is introduced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vpipe.errors import one_line

if TYPE_CHECKING:
    from vpipe.models import Model
    from vpipe.recognition.recognizer import Recognizer

DEFAULT_MODEL = "motion-rgb"

ModelName = Annotated[
    str,
    typer.Option("--model", metavar="MODEL", help="A packaged model or a weight file (see `vpipe models`)."),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        min=1,
        show_default=False,
        help="Clips that go through the network together (16; on a GPU as many as fill it).",
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Through torch.compile: takes a minute or more first, and on the CPU a C++ compiler.",
    ),
]
DType = Annotated[
    Literal["fp32", "bf16", "fp16"], typer.Option("--dtype", help="Precision of weights and activations.")
]


def model_summary(model: Model, recognizer: Recognizer) -> dict[str, Any]:
    """The `model` of the JSON envelope."""
    return {
        "name": model.name,
        "hash": model.hash,
        "streams": [ready.stream.modality for ready in recognizer.streams],
        "labels": model.labels,
        "background": model.background,
    }


def video_line(row: dict[str, Any]) -> str:
    """`a.mp4  10.0 s, 300 frames, 340x256`; without a size where only features are known"""
    size = f", {row['width']}x{row['height']}" if row["width"] else ""
    return f"{one_line(row['input'])}  {row['duration_s']:.2f} s, {row['frames']} frames{size}"
