"""How the repository of a published model turns a video into inputs: part of the model as its weights are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Convention:
    """Sampling, resizing and averaging of a published model.

    sampling: "segments", `segments` runs of `stack` inputs spread over the whole video (TSN); "dense", the
    same within windows of 64 frames (TSM's dense sampling); "clips", `frames` inputs, `stride` apart.
    """

    sampling: str
    segments: int = 1
    stack: int = 1
    stride: int = 1
    native: bool = True  # the video's own frames; else those shown at k / fps of the stream
    resize: str = "short"  # "short": the short side becomes scale[0]; "fixed": width, height are `scale`
    scale: tuple[int, ...] = (256,)
    interpolation: str = "pil"  # "pil": bilinear over areas; "cv2": bilinear between four pixels
    order: str = "rgb"  # of the channels, or "bgr"
    average: str = "probabilities"  # what is averaged over clips and crops, or "logits"
    past_end: str = "hold"  # frames past the end: the last one, or "wrap": from the beginning
    first_pair_last: bool = False  # of a stack of flows
    clips: int = 1  # that the reference averages, by default

    def __post_init__(self) -> None:
        allowed = {
            "sampling": ("segments", "dense", "clips"),
            "resize": ("short", "fixed"),
            "interpolation": ("pil", "cv2"),
            "order": ("rgb", "bgr"),
            "average": ("probabilities", "logits"),
            "past_end": ("hold", "wrap"),
        }
        for name, values in allowed.items():
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is one of {', '.join(values)}, not {getattr(self, name)!r}")
        for name in ("segments", "stack", "stride", "clips"):
            if not 1 <= getattr(self, name) <= 4096:
                raise ValueError(f"{name} is 1 to 4096")
        if len(self.scale) != (1 if self.resize == "short" else 2):
            raise ValueError("scale is one number for a short side, two for a fixed size")
        if not all(16 <= side <= 4096 for side in self.scale):
            raise ValueError("scale is 16 to 4096 px")

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Convention:
        return cls(**{**entry, "scale": tuple(int(side) for side in entry["scale"])})
