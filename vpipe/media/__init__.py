"""Reading and writing video: probing, decoding, times, sparse access, frames and files out."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpipe.media.frame import Frame
    from vpipe.media.info import VideoInfo
    from vpipe.media.source import FrameSource
    from vpipe.media.timeline import Timeline
    from vpipe.media.writer import VideoWriter

__all__ = ["Frame", "FrameSource", "Timeline", "VideoInfo", "VideoWriter"]
_HOMES = {
    "Frame": "frame",
    "FrameSource": "source",
    "Timeline": "timeline",
    "VideoInfo": "info",
    "VideoWriter": "writer",
}


def __getattr__(name: str) -> Any:
    """Each name from its file, when it is asked for: a decoder process needs no writer, and we no decoder."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"vpipe.media.{_HOMES[name]}"), name)
