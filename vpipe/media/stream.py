"""A video that arrives on a pipe: decoded once, in order, while it comes; memory does not grow with its
length.

MP4 and QuickTime files carry an index of all frames. Where it stands behind the pictures nothing can be
decoded before the last byte, so such a stream is kept in a temporary file first; fragmented files, those
written with `-movflags +faststart`, MPEG-TS, Matroska and WebM are decoded as they come.
"""

from __future__ import annotations

import os
import select
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from typing import IO, Any

import av

from vpipe.errors import InputError, Warning_
from vpipe.media.convert import Converter, orientation_of
from vpipe.media.decode import DecodeCounts, decode_frames
from vpipe.media.frame import WalkedFrame
from vpipe.media.opening import PLAYLISTS, declared_size, decoder_options, is_bmff, pick_stream, refuse_size
from vpipe.media.probe import VideoInfo
from vpipe.media.reading import LARGE_FRAME_PX, RawFrame
from vpipe.media.walking import walked

NAME = "stdin"
HEAD_BYTES = 4096
BLOCK_BYTES = 65536
WAIT_S = 0.2  # between looks at whether the reading is to stop
OPTIONS = {"protocol_whitelist": ""}  # nothing in a stream opens anything else


class Pipe:
    """A file descriptor as a file object for PyAV: reads what is there, and ends where nothing comes for
    long.

    `stalled`: the end was taken for lack of data.
    """

    def __init__(self, descriptor: int, stall_s: float) -> None:
        self._descriptor, self._stall_s = descriptor, stall_s
        self._head = b""
        self.stalled = self.stopped = False

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """At most `size` bytes; none at the end."""
        if self._head:
            block, self._head = self._head[:size], self._head[size:]
            return block
        waited = 0.0
        while not self.stopped and not self.stalled:
            if select.select([self._descriptor], [], [], WAIT_S)[0]:
                return os.read(self._descriptor, size)
            waited += WAIT_S
            self.stalled = waited >= self._stall_s
        return b""

    def head(self) -> bytes:
        """The first bytes, which `read` will give again."""
        head = b""
        while len(head) < HEAD_BYTES and (block := self.read(HEAD_BYTES - len(head))):
            head += block
        self._head = head
        return head


class StreamSource:
    """Frames of a video on a file descriptor, in order and once: the same frames and times as FrameSource's.

    size: (width, height) of what `walk` gives, px. threads: of the decoder. stall_s: after so many
    seconds without data the stream is taken to be over. `warnings` grows as decoding reports. Raises
    InputError: empty_stream, not_a_video, no_video_stream, too_large, no_frames.
    """

    def __init__(
        self, descriptor: int, *, size: tuple[int, int] | None = None, threads: int = 1, stall_s: float = 30.0
    ) -> None:
        self.path = NAME
        self._pipe = Pipe(descriptor, stall_s)
        self._counts = DecodeCounts()
        self._warnings: dict[str, Warning_] = {}
        self._container = self._open()
        stream = pick_stream(self._container, NAME, 1)
        context = stream.codec_context
        if stream.width * stream.height >= LARGE_FRAME_PX and threads > 1:
            context.thread_count, context.thread_type = threads, "AUTO"
        self._decoded = decode_frames(self._container, stream, self._counts)
        first = next(self._decoded, None)
        if first is None:
            raise InputError("no_frames", f"{NAME}: no decodable frame before the stream ended")
        self._first: tuple[av.VideoFrame, bool] | None = first
        picture = first[0]
        refuse_size(NAME, picture.width, picture.height)
        orientation = orientation_of(picture)
        width, height = picture.width, picture.height
        if orientation.transpose:
            width, height = height, width
        rate = stream.average_rate or stream.guessed_rate
        self.info = VideoInfo(
            path=NAME,
            stream_index=stream.index,
            codec=context.codec.canonical_name,
            pix_fmt=picture.format.name,
            width=width,
            height=height,
            rotation=orientation.rotation,
            average_rate=rate if rate and rate > 0 else None,
            declared_frames=None,
            declared_duration_s=None,
            time_base=stream.time_base or Fraction(1, 1000),
            warnings=(),
            container=self._container.format.name,
            orientation=orientation,
        )
        self.output_size = size or (width, height)

    @property
    def warnings(self) -> list[Warning_]:
        """What is known by now that a user should know."""
        found = dict(self._warnings)
        if self._pipe.stalled:
            text = "no data for a long time: the stream is taken to be over"
            found["stalled"] = Warning_("stalled", text)
        counts = self._counts
        if counts.damaged or counts.errors:
            text = f"corrupt: {counts.damaged} of {counts.frames} frames; unreadable packets: {counts.errors}"
            numbers = {"damaged": counts.damaged, "unreadable_packets": counts.errors}
            found["corrupt_frames"] = Warning_("corrupt_frames", text, {**numbers, "decoded": counts.frames})
        return list(found.values())

    def walk(self, fps: Fraction | None = None) -> Iterator[WalkedFrame]:
        """Every frame, once, as `FrameSource.walk` gives them."""
        convert = Converter(self.output_size, "rgb", self.info.orientation)
        return walked(self._raw(), convert, self.info.time_base, fps)

    def _raw(self) -> Iterator[RawFrame]:
        unit, index, origin, time_s = self.info.time_base, 0, None, Fraction(0)
        while (found := self._first or next(self._decoded, None)) is not None:
            self._first = None
            picture, damaged = found
            if picture.pts is not None and (index == 0 or origin is not None):
                origin = picture.pts if origin is None else origin
                if index and (picture.pts - origin) * unit <= time_s:
                    text = "times are missing or do not rise: such frames keep the time before"
                    self._warnings["timestamps_repaired"] = Warning_("timestamps_repaired", text)
                time_s = max(time_s, (picture.pts - origin) * unit)
            elif origin is None:
                time_s = index / self.info.rate
                text = f"times are missing: frame number / {self.info.rate} is used instead"
                self._warnings["timestamps_repaired"] = Warning_("timestamps_repaired", text)
            yield RawFrame(index, time_s, picture.pts, picture, damaged)
            index += 1

    def stop(self) -> None:
        """Read no more: from another thread, while `walk` waits for data."""
        self._pipe.stopped = True

    def _open(self) -> Any:
        head = self._pipe.head()
        if not head:
            why = "no data came" if self._pipe.stalled else "it is empty"
            raise InputError("empty_stream", f"{NAME}: {why}: pipe a video into it")
        if head.lstrip().startswith(PLAYLISTS):
            raise InputError("not_a_video", f"{NAME}: is a playlist: pipe the video itself")
        refuse_size(NAME, *declared_size(head))
        late_index = is_bmff(head) and _index_is_late(head)
        handle: Any = _kept(self._pipe) if late_index else self._pipe
        try:
            return av.open(handle, "r", options=OPTIONS | decoder_options(), metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            if late_index:
                raise InputError(
                    "incomplete",
                    f"{NAME}: the stream ended before the index (moov) that its MP4 has at the end: send "
                    "all of it, or write it with the index in front (-movflags +faststart)",
                ) from error
            raise InputError(
                "not_a_video", f"{NAME}: is not a readable video: see whether a player opens it"
            ) from error


def _index_is_late(head: bytes) -> bool:
    """Whether the pictures (mdat) of an MP4 come before its index (moov), as far as its first bytes tell."""
    position = 0
    while position + 8 <= len(head):
        kind, length = head[position + 4 : position + 8], int.from_bytes(head[position : position + 4], "big")
        if kind in (b"moov", b"mdat"):
            return kind == b"mdat"
        if length < 8:
            return False
        position += length
    return False


def _kept(pipe: Pipe) -> IO[bytes]:
    """All that comes, in a temporary file that goes when it is closed."""
    whole = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as its reader
    while block := pipe.read():
        whole.write(block)
    whole.seek(0)
    return whole
