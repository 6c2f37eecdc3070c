"""Opening a video file safely: what may be opened, by which decoder, and what every refusal is called."""

from __future__ import annotations

import os

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from vpipe.errors import InputError
from vpipe.limits import limits
from vpipe.media.first_look import (
    PLAYLISTS,
    declared_size,
    display_name,
    is_bmff,
    read_head,
    refuse_size,
    walk_boxes,
)
from vpipe.media.upright import much_smaller

OPEN_OPTIONS = {
    "protocol_whitelist": "file",  # nothing in a file may reach for the network
    "pattern_type": "none",  # picture_%03d.jpg is one file, not a sequence
    "enable_drefs": "0",  # an MP4 whose data lies in another file does not open it
}
NOT_PICTURES = ("tty",)  # FFmpeg would render a text file as ANSI art
PICTURE_FORMATS = ("image2", "gif_pipe", "webp_pipe")  # and all other *_pipe


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


def pick_stream(
    container: InputContainer,
    path: str | os.PathLike[str],
    threads: int,
    *,
    into: tuple[int, int] | None = None,
) -> VideoStream:
    """The first video stream, ready to decode. Raises InputError: no_video_stream, too_large.

    into: the size that pictures will be shrunk to, (width, height). Where that is much smaller, pictures that
    no other refers to are left without loop filter, a tenth of decoding. Before they are shrunk that changes
    them by less than 0.1 grey levels in the mean, by 0.6 at worst (six real videos, three poor encodings of
    one), and does not build up, as it would, to 1.5, if B-frames that others refer to were left without too.
    """
    streams = video_streams(container)
    if not streams:
        raise InputError(
            "no_video_stream", f"{display_name(path)}: holds no video stream: give a file with pictures"
        )
    stream = streams[0]
    refuse_size(path, stream.width or 0, stream.height or 0)
    context = stream.codec_context
    context.options = decoder_options()
    if into is not None and much_smaller(into, (stream.width, stream.height)):
        context.options |= {"skip_loop_filter": "noref"}
    context.thread_count = threads
    if threads > 1:
        context.thread_type = "AUTO"
    return stream
