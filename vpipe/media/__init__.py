"""Reading and writing video: probing, decoding, times, sparse access, frames and files out."""

from vpipe.media.probe import VideoInfo, probe
from vpipe.media.source import Frame, FrameSource
from vpipe.media.timeline import Timeline
from vpipe.media.writer import VideoWriter

__all__ = ["Frame", "FrameSource", "Timeline", "VideoInfo", "VideoWriter", "probe"]
