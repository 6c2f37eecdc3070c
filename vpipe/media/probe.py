"""What a video file says about itself, checked against its first decodable frame."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from fractions import Fraction
from itertools import islice

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from vpipe.errors import InputError, Warning_
from vpipe.media.convert import orientation_of
from vpipe.media.decode import DecodeCounts, decode_frames
from vpipe.media.first_look import display_name, missing_bytes, read_head, refuse_size
from vpipe.media.info import VideoInfo
from vpipe.media.opening import PICTURE_FORMATS, open_container, pick_stream, video_streams
from vpipe.media.upright import Orientation

SQUARE_TOLERANCE = Fraction(1, 100)  # encoders write 964:963 after rounding a size
PACKETS_TRIED = 4
HDR_TRANSFERS = {16: "PQ", 18: "HLG"}  # AVCOL_TRC_SMPTE2084, AVCOL_TRC_ARIB_STD_B67


def read_info(path: str | os.PathLike[str]) -> VideoInfo:
    """Read the headers and decode up to the first frame.

    Raises InputError: not_found, is_directory, not_a_regular_file, permission, os_error, not_a_video,
    incomplete, no_video_stream, too_large, no_frames; MemoryError.
    """
    with open_container(path) as container:
        stream = pick_stream(container, path, threads=1)
        counts = DecodeCounts()
        first = next(decode_frames(container, stream, counts), None)
        if first is None:
            refuse_size(path, *_size_refused_by_decoder(path))
            if counts.starved:
                raise MemoryError
            raise _nothing_decodes(path, counts)
        return _describe(path, container, stream, first[0])


def _size_refused_by_decoder(path: str | os.PathLike[str]) -> tuple[int, int]:
    """The frame size that a decoder found over the limit, else (0, 0): only FFmpeg's log tells it."""
    before = av.logging.get_level()
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture(), open_container(path) as container:
            stream = pick_stream(container, path, threads=1)
            for packet in islice(container.demux(stream), PACKETS_TRIED):
                stream.decode(packet)
    except av.FFmpegError as error:
        found = re.search(r"Picture size (\d+)x(\d+)", str(error))
        if found is not None:
            return int(found[1]), int(found[2])
    finally:
        av.logging.set_level(before)
    return 0, 0


def _nothing_decodes(path: str | os.PathLike[str], counts: DecodeCounts) -> InputError:
    text = f"{display_name(path)}: no decodable frame"
    missing = missing_bytes(path, read_head(path))
    if missing:
        return InputError(
            "incomplete",
            f"{text}: the file ends early, {missing} bytes are missing: download or copy it again",
        )
    if counts.packets and counts.errors == 0:
        return InputError("no_frames", f"{text}: every frame lies outside the time that the file wants shown")
    if counts.packets and counts.keyframes == 0:
        return InputError("no_frames", f"{text}: {counts.packets} packets without a keyframe to start from")
    return InputError("no_frames", f"{text} in {counts.packets} packets")


def _describe(
    path: str | os.PathLike[str], container: InputContainer, stream: VideoStream, first: av.VideoFrame
) -> VideoInfo:
    refuse_size(path, first.width, first.height)
    orientation = orientation_of(first)
    width, height = (first.height, first.width) if orientation.transpose else (first.width, first.height)
    name = container.format.name
    info = VideoInfo(
        path=os.fspath(path),
        stream_index=stream.index,
        codec=stream.codec_context.codec.canonical_name,
        pix_fmt=first.format.name,
        width=width,
        height=height,
        rotation=orientation.rotation,
        average_rate=_positive(stream.average_rate) or _positive(stream.guessed_rate),
        declared_frames=stream.frames or None,
        declared_duration_s=_declared_duration_s(container, stream),
        time_base=stream.time_base or Fraction(1, 1000),
        warnings=(),
        container=name,
        start_s=max(0.0, float((first.pts or 0) * (stream.time_base or 0))),
        is_image=name in PICTURE_FORMATS or (name.endswith("_pipe") and name != "mjpeg_pipe"),
        orientation=orientation,
    )
    return replace(info, warnings=tuple(_notes(path, container, stream, first, orientation)))


def _positive(rate: Fraction | None) -> Fraction | None:
    return rate if rate is not None and rate > 0 else None


def _declared_duration_s(container: InputContainer, stream: VideoStream) -> float | None:
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    tag = stream.metadata.get("DURATION", "")  # Matroska, per stream: 00:00:04.000000000
    parts = tag.split(":")
    if len(parts) == 3:
        try:
            return float(int(parts[0]) * 3600 + int(parts[1]) * 60 + Fraction(parts[2])) or None
        except ValueError:
            return None
    if container.duration and len(container.streams) == 1:  # with sound, it may be the sound's
        return container.duration / av.time_base
    return None


def _notes(
    path: str | os.PathLike[str],
    container: InputContainer,
    stream: VideoStream,
    first: av.VideoFrame,
    orientation: Orientation,
) -> list[Warning_]:
    """What a user should know before trusting the picture."""
    notes = []
    streams = len(video_streams(container))
    if streams > 1:
        text = f"{streams} video streams: takes the first (stream {stream.index})"
        numbers = {"streams": streams, "stream_index": stream.index}
        notes.append(Warning_("several_video_streams", text, {**numbers}))
    if first.interlaced_frame:
        notes.append(Warning_("interlaced", "interlaced: frames are taken as stored, with both fields"))
    transfer = HDR_TRANSFERS.get(int(first.color_trc))
    if transfer:
        notes.append(Warning_("hdr", f"HDR ({transfer}): read without tone mapping, the picture looks flat"))
    if _has_alpha(first, stream):
        notes.append(Warning_("alpha_ignored", "has transparency, which is ignored"))
    ratio = stream.sample_aspect_ratio
    if ratio is not None and ratio > 0 and abs(ratio - 1) > SQUARE_TOLERANCE:
        text = f"pixels are not square ({ratio.numerator}:{ratio.denominator}): read as stored, not stretched"
        notes.append(Warning_("non_square_pixels", text, {"ratio": f"{ratio.numerator}:{ratio.denominator}"}))
    if not orientation.right_angle:
        text = f"asks for an odd angle: turned by {orientation.rotation} degrees"
        notes.append(Warning_("odd_rotation", text))
    missing = missing_bytes(path, read_head(path))
    if missing:
        text = f"the file ends early: {missing} bytes are missing; what decodes is kept"
        notes.append(Warning_("ends_early", text, {"missing_bytes": missing}))
    return notes


def _has_alpha(frame: av.VideoFrame, stream: VideoStream) -> bool:
    if frame.format.name == "pal8" or any(component.is_alpha for component in frame.format.components):
        return True
    return stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1"
