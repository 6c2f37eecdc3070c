"""Opening a video file safely: what may be opened, by which decoder, and what every refusal is called."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vpipe.errors import InputError, one_line
from vpipe.limits import limits

HEAD_BYTES = 4096
MAX_TOP_LEVEL_BOXES = 1_000_000
OPEN_OPTIONS = {
    "protocol_whitelist": "file",  # nothing in a file may reach for the network
    "pattern_type": "none",  # picture_%03d.jpg is one file, not a sequence
    "enable_drefs": "0",  # an MP4 whose data lies in another file does not open it
}
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<MPD")  # they would open other files
NOT_PICTURES = ("tty",)  # FFmpeg would render a text file as ANSI art
PICTURE_FORMATS = ("image2", "gif_pipe", "webp_pipe")  # and all other *_pipe


def display_name(path: str | os.PathLike[str]) -> str:
    """The path as one line of valid UTF-8: other bytes and control characters are escaped."""
    return one_line(os.fsdecode(path))


def read_head(path: str | os.PathLike[str]) -> bytes:
    """The first bytes of a regular, readable, non-empty file. Opens nothing else: a fifo would hang.

    Raises InputError: not_found, is_directory, not_a_regular_file, permission, os_error, not_a_video (where
    it is empty).
    """
    name = display_name(path)
    try:
        status = os.stat(path)
        if stat.S_ISDIR(status.st_mode):
            raise InputError("is_directory", f"{name}: is a directory: give a video file")
        if not stat.S_ISREG(status.st_mode):
            kind = _kind(status.st_mode)
            raise InputError(
                "not_a_regular_file", f"{name}: is not a regular file (a {kind}): save it as one first"
            )
        with open(path, "rb") as handle:
            head = handle.read(HEAD_BYTES)
    except PermissionError as error:
        raise InputError("permission", f"{name}: {error.strerror}: make it readable") from error
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError("not_found", f"{name}: {error.strerror}: check the path") from error
    except OSError as error:
        raise InputError("os_error", f"{name}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise InputError("not_found", f"{name}: {error}") from error
    if not head:
        raise InputError("not_a_video", f"{name}: the file is empty (0 bytes): copy or download it again")
    return head


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "fifo"
    return "socket" if stat.S_ISSOCK(mode) else "device"


def open_container(path: str | os.PathLike[str]) -> InputContainer:
    """Open a file for reading; the caller closes it.

    Raises InputError: those of `read_head`, not_a_video, incomplete, too_large; MemoryError.
    """
    head = read_head(path)
    name = display_name(path)
    if head.lstrip().startswith(PLAYLISTS) or b"<MPD" in head[:1024]:
        raise InputError("not_a_video", f"{name}: is a playlist: give the video files themselves")
    refuse_size(path, *declared_size(head))
    try:
        # `file:` and an absolute path: no name can be taken for a protocol.
        container = av.open(
            f"file:{os.path.abspath(path)}",
            "r",
            # The limit also holds for the decoders that FFmpeg runs while it looks into the file.
            options=OPEN_OPTIONS | decoder_options(),
            metadata_errors="replace",
        )
    except MemoryError:
        raise
    except (av.FFmpegError, ValueError) as error:
        if is_bmff(head) and not walk_boxes(path)[0]:
            raise InputError(
                "incomplete",
                f"{name}: incomplete file: its index (moov) is missing: download or copy it again",
            ) from error
        raise InputError(
            "not_a_video",
            f"{name}: is not a readable video: see whether a player opens it, or download it again",
        ) from error
    if container.format.name in NOT_PICTURES:
        container.close()
        raise InputError(
            "not_a_video",
            f"{name}: is not a readable video: see whether a player opens it, or download it again",
        )
    try:
        refuse_contents(container, name)
    except InputError:
        container.close()
        raise
    return container


def decoder_options() -> dict[str, str]:
    """For every FFmpeg decoder: the limit that holds before it allocates a picture."""
    return {"max_pixels": str(limits().pixels)}


def refuse_contents(container: InputContainer, name: str) -> None:
    """Raise InputError too_large for more streams or tags than a video has."""
    streams = len(container.streams)
    if streams > limits().streams:
        raise InputError(
            "too_large",
            f"{name}: {streams} streams are over the limit of {limits().streams}: raise it with "
            "--max-streams",
        )
    tags = [container.metadata, *(stream.metadata for stream in container.streams)]
    size = sum(len(key) + len(value) for one in tags for key, value in one.items())
    if size > limits().metadata_bytes:
        raise InputError(
            "too_large",
            f"{name}: {size} bytes of metadata are over the limit of {limits().metadata_bytes}: raise it "
            "with --max-metadata",
        )


def video_streams(container: InputContainer) -> list[VideoStream]:
    """The streams that hold moving pictures: cover art (attached pictures) is left out."""
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    return [s for s in container.streams.video if s.codec_context is not None and not s.disposition & still]


def pick_stream(container: InputContainer, path: str | os.PathLike[str], threads: int) -> VideoStream:
    """The first video stream, ready to decode. Raises InputError: no_video_stream, too_large."""
    streams = video_streams(container)
    if not streams:
        raise InputError(
            "no_video_stream", f"{display_name(path)}: holds no video stream: give a file with pictures"
        )
    stream = streams[0]
    refuse_size(path, stream.width or 0, stream.height or 0)
    context = stream.codec_context
    context.options = decoder_options()
    context.thread_count = threads
    if threads > 1:
        context.thread_type = "AUTO"
    return stream


def refuse_size(path: str | os.PathLike[str], width: int, height: int) -> None:
    """Raise InputError too_large where a frame of this size is over the limit."""
    if width * height > limits().pixels:
        raise InputError(
            "too_large",
            f"{display_name(path)}: frames of {width}x{height} are over the limit of {limits().pixels} "
            "pixels: scale it down first, or raise the limit with --max-pixels",
        )


def refuse_count(path: str | os.PathLike[str], frames: int) -> None:
    """Raise InputError too_large where a video has more frames than the limit."""
    if frames > limits().frames:
        raise InputError(
            "too_large",
            f"{display_name(path)}: has more than the limit of {limits().frames} frames: raise it with "
            "--max-frames",
        )


def declared_size(head: bytes) -> tuple[int, int]:
    """Width and height that a GIF or Y4M header claims, which FFmpeg itself stumbles over; else (0, 0)."""
    if head[:4] == b"GIF8":
        return int.from_bytes(head[6:8], "little"), int.from_bytes(head[8:10], "little")
    if head.startswith(b"YUV4MPEG2"):
        fields = dict(re.findall(rb" ([WH])(\d{1,9})", head.split(b"\n", 1)[0]))
        return int(fields.get(b"W", 0)), int(fields.get(b"H", 0))
    return 0, 0


def is_bmff(head: bytes) -> bool:
    """Whether a file begins like MP4 or QuickTime."""
    return head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")


def walk_boxes(path: str | os.PathLike[str]) -> tuple[bool, int]:
    """For an MP4 or QuickTime file: whether a whole moov box is there, and how many bytes its end lacks."""
    size = Path(path).stat().st_size
    found, position = False, 0
    with open(path, "rb") as handle:
        for _ in range(MAX_TOP_LEVEL_BOXES):
            handle.seek(position)
            header = handle.read(16)
            if len(header) < 8:
                break
            length = int.from_bytes(header[:4], "big")
            if length == 1 and len(header) == 16:
                length = int.from_bytes(header[8:16], "big")
            if length == 0:  # up to the end of the file
                length = size - position
            found = found or (header[4:8] == b"moov" and position + length <= size)
            if length < 8:
                break
            position += length
            if position >= size:
                break
    return found, max(0, position - size)


def missing_bytes(path: str | os.PathLike[str], head: bytes) -> int:
    """Bytes that the container says should follow the end of the file: the mark of a truncated MP4 or AVI."""
    if is_bmff(head):
        return walk_boxes(path)[1]
    if head[:4] == b"RIFF":
        # One RIFF chunk of at most 2 GiB; OpenDML files go on in further chunks.
        return max(0, int.from_bytes(head[4:8], "little") + 8 - os.stat(path).st_size)
    return 0
