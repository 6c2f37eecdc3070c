"""Reading and writing video: probing, decoding, times, sparse access, frames and files out."""

from vpipe.media.frame import Frame
from vpipe.media.probe import VideoInfo
from vpipe.media.source import FrameSource, probe
from vpipe.media.timeline import Timeline
from vpipe.media.writer import VideoWriter

__all__ = ["Frame", "FrameSource", "Timeline", "VideoInfo", "VideoWriter", "probe"]
