"""What a file shows before a decoder opens it, and what is refused by then."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from vpipe.errors import InputError, one_line
from vpipe.limits import limits

HEAD_BYTES = 4096
MAX_TOP_LEVEL_BOXES = 1_000_000
PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"<MPD")  # they would open other files


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
