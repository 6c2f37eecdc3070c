"""Writing video: RGB arrays with rational times in, one file out, and never half a file under its name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, cast

import av
import numpy as np
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from vpipe.errors import EnvironmentFault, UsageError

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

CONTAINERS = {  # file name suffix -> FFmpeg muxer
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
    ".ts": "mpegts",
}
X264_FAMILY = ("libx264", "libx265")
HINT_FPS = Fraction(30)  # what the encoder's rate control assumes where only times are given


class VideoWriter:
    """Encodes RGB frames into one video file; a context manager.

    The file is written beside its place and renamed when the block ends well; on an exception nothing is
    left. Equal frames, times and options give equal bytes (one encoder thread, no dates in the file).

    path: the suffix picks the container (mp4, mov, mkv, webm, avi, ts).
    width, height: of the arrays, pixels. Odd sizes are padded by repeating the last column or row, because
        4:2:0 video has even sides; `size` is what the file holds.
    fps: frames per second when `write` gets no times; None: every `write` must bring its time.
    codec, crf, preset: FFmpeg encoder, its quality (lower is better) and speed; `crf` and `preset` are passed
        to encoders that know them (x264, x265; crf also vp9, av1).
    options: further encoder options; they win over crf and preset.
    time_base: unit of the stored times, seconds. AVI has no such times and stores 1 / fps.
    pix_fmt: stored pixel format; 4:2:0 by default, which every player shows.
    Raises UsageError for an unknown suffix, EnvironmentFault where the file cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        width: int,
        height: int,
        *,
        fps: Fraction | None = None,
        codec: str = "libx264",
        crf: int | None = 23,
        preset: str | None = "veryfast",
        options: Mapping[str, str] | None = None,
        time_base: Fraction = Fraction(1, 90000),
        pix_fmt: str = "yuv420p",
    ) -> None:
        self.path = Path(path)
        suffix = self.path.suffix.lower()
        if suffix not in CONTAINERS:
            raise UsageError(
                "bad_video_suffix",
                f"{self.path}: cannot tell the container from '{suffix}': use one of {', '.join(CONTAINERS)}",
            )
        if width < 1 or height < 1:
            raise ValueError(f"a video needs a positive size, got {width}x{height}")
        self._input_size = (width, height)
        self.size = (width + width % 2, height + height % 2)
        self.frames = 0
        self._fps = fps
        self._time_base = 1 / fps if suffix == ".avi" and fps is not None else time_base
        self._pending: av.VideoFrame | None = None  # waits for its successor, which ends it
        self._reformatter = VideoReformatter()
        self._pix_fmt = pix_fmt
        self._temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.part")
        container_options = {"movflags": "+faststart"} if CONTAINERS[suffix] in ("mp4", "mov") else {}
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # `file:` and an absolute path: no name can be taken for a protocol or a pattern.
            self._container: OutputContainer = av.open(
                f"file:{os.path.abspath(self._temporary)}",
                "w",
                format=CONTAINERS[suffix],
                container_options=container_options,
            )
        except (OSError, av.FFmpegError) as error:
            raise _unwritable(self.path, error) from error
        self._container.flags |= cast(int, av.container.Flags.bitexact.value)
        self._stream = self._add_stream(codec, crf, preset, dict(options or {}))

    def _add_stream(
        self, codec: str, crf: int | None, preset: str | None, extra: dict[str, str]
    ) -> VideoStream:
        settings: dict[str, str] = {}
        if codec in X264_FAMILY and preset is not None:
            settings["preset"] = preset
        if crf is not None and (codec in X264_FAMILY or codec.startswith(("libvpx", "libsvtav1", "libaom"))):
            settings["crf"] = str(crf)
        if codec == "libx264":
            # Without it x264's assembly for the macroblock tree gives other bytes from run to run.
            settings["x264-params"] = "cpu-independent=1"
        settings.update(extra)
        rate = self._fps if self._fps is not None else HINT_FPS
        stream: Any = self._container.add_stream(codec, rate=rate, options=settings)
        stream.width, stream.height = self.size
        stream.pix_fmt = self._pix_fmt
        context = stream.codec_context
        context.time_base = self._time_base
        context.thread_count = 1  # more threads would make the bytes depend on the machine
        context.flags |= int(av.codec.context.Flags.bitexact)
        if not self._pix_fmt.startswith(("rgb", "bgr", "gbr", "pal", "gray")):
            context.colorspace = 6  # SMPTE 170M: the matrix that `write` converts with
            context.color_range = 2 if self._pix_fmt.startswith("yuvj") else 1
        stream.time_base = self._time_base
        return cast("VideoStream", stream)

    def write(self, rgb: NDArray[np.uint8], time_s: Fraction | None = None) -> None:
        """Append one frame. rgb: uint8 (H, W, 3); time_s: seconds, rising; None: number / fps."""
        width, height = self._input_size
        if rgb.shape != (height, width, 3) or rgb.dtype != np.uint8:
            raise ValueError(f"expected uint8 ({height}, {width}, 3), got {rgb.dtype} {rgb.shape}")
        if time_s is None:
            if self._fps is None:
                raise ValueError("this writer has no fps: every frame needs time_s")
            time_s = self.frames / self._fps
        pts = round(time_s / self._time_base)
        pending = self._pending
        if pending is not None and pts <= (pending.pts or 0):
            raise ValueError(f"frame {self.frames}: time {float(time_s)} s does not rise")
        if self.size != self._input_size:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        converted = self._reformatter.reformat(
            frame,
            format=self._pix_fmt,
            dst_colorspace=Colorspace.ITU601,
            interpolation=Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT,
            threads=1,
        )
        converted.pts = pts
        converted.time_base = self._time_base
        # In the end the last frame lasts as long as the one before it.
        converted.duration = max(1, round(1 / (self._fps or HINT_FPS) / self._time_base))
        if pending is not None:
            pending.duration = pts - (pending.pts or 0)
            converted.duration = pending.duration
            self._encode(pending)
        self._pending = converted
        self.frames += 1

    def _encode(self, frame: av.VideoFrame | None) -> None:
        """Compress one frame, or with None what the encoder still holds."""
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except (OSError, av.FFmpegError) as error:
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Flush the encoder, make the file durable and give it its name."""
        try:
            if self._pending is not None:
                self._encode(self._pending)
                self._encode(None)
            self._container.close()
            with open(self._temporary, "rb") as handle:
                os.fsync(handle.fileno())
            os.replace(self._temporary, self.path)
        except (OSError, av.FFmpegError) as error:
            self.abandon()
            raise _unwritable(self.path, error) from error
        except BaseException:  # Ctrl-C too
            self.abandon()
            raise

    def abandon(self) -> None:
        """Give up: close and delete what was written so far."""
        with suppress(OSError, av.FFmpegError):  # the file goes anyway
            self._container.close()
        self._temporary.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


def _unwritable(path: Path, error: Exception) -> EnvironmentFault:
    reason = getattr(error, "strerror", None) or str(error)
    return EnvironmentFault("cannot_write", f"{path}: cannot write the video: {reason}")
