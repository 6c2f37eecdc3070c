"""The decoder's side of a stream: what comes on a descriptor, decoded once and in order."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av

from vpipe.errors import InputError, Warning_
from vpipe.media.convert import Converter, orientation_of
from vpipe.media.decode import DecodeCounts, decode_frames
from vpipe.media.disposable import Disposable
from vpipe.media.first_look import refuse_count, refuse_size
from vpipe.media.info import VideoInfo
from vpipe.media.opening import NOT_PICTURES, decoder_options, pick_stream, refuse_contents
from vpipe.media.packets import INDEXED_CONTAINERS
from vpipe.media.pipe import NAME, Pipe
from vpipe.media.reading import LARGE_FRAME_PX, RawFrame
from vpipe.media.thinning import Spares, may_be_thinned

OPTIONS = {"protocol_whitelist": ""}  # nothing in a stream opens anything else
NO_VIDEO = "is not a readable video: see whether a player opens it"


class StreamReader:
    """Frames of what comes on `descriptor`, after what was read of it before, `head`.

    how: kept (the descriptor is of a file), stall_s, stalled (nothing more will come), threads, size; as in
    StreamSource.
    """

    def __init__(self, descriptor: int, head: bytes, how: dict[str, Any]) -> None:
        self.path = NAME
        self._stall_s = float(how["stall_s"])
        self._pipe = Pipe(descriptor, self._stall_s, head)
        self._pipe.stalled = how["stalled"] and not how["kept"]
        self._counts = DecodeCounts()
        self._warnings: dict[str, Warning_] = {}
        self._container = self._open(os.fdopen(descriptor, "rb") if how["kept"] else None)
        refuse_contents(self._container, NAME)
        stream = pick_stream(self._container, NAME, 1, into=tuple(how["size"]) if how["size"] else None)
        context = stream.codec_context
        if stream.width * stream.height >= LARGE_FRAME_PX and how["threads"] > 1:
            context.thread_count, context.thread_type = how["threads"], "AUTO"
        told = self._container.format.name in INDEXED_CONTAINERS
        self._spares = Spares(Disposable(stream), told=told)
        self._decoded = decode_frames(self._container, stream, self._counts, self._spares.see)
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
        self.output_size: tuple[int, int] = tuple(how["size"]) if how["size"] else (width, height)
        refuse_size(NAME, *self.output_size)

    @property
    def warnings(self) -> list[Warning_]:
        """What is known by now that a user should know."""
        found = dict(self._warnings)
        if self._pipe.stalled:
            text = f"no data for {self._stall_s:g} s: the stream is taken to be over"
            found["stalled"] = Warning_("stalled", text)
        counts = self._counts
        if counts.damaged or counts.errors:
            text = f"corrupt: {counts.damaged} of {counts.frames} frames; unreadable packets: {counts.errors}"
            numbers = {"damaged": counts.damaged, "unreadable_packets": counts.errors}
            found["corrupt_frames"] = Warning_("corrupt_frames", text, {**numbers, "decoded": counts.frames})
        return list(found.values())

    def converter(self) -> Converter:
        """From the pictures of `walk` to arrays."""
        return Converter(self.output_size, "rgb", self.info.orientation, exact=False)

    def walk(self, fps: Fraction | None = None) -> Iterator[RawFrame]:
        """Every frame, once and in order, not converted.

        fps: of the grid that frames serve beside cuts. All are decoded as they come; those that `in_parts`
        would leave out of a file are marked.
        """
        unit, index, origin, time_s = self.info.time_base, 0, None, Fraction(0)
        thinned = may_be_thinned(self.output_size, (self.info.width, self.info.height), fps)
        first_pts = None if self._first is None else self._first[0].pts
        self._spares.begin(fps if thinned else None, unit, first_pts)
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
            spare = self._spares.spare(picture.pts, damaged=damaged or self._counts.errors > 0)
            yield RawFrame(index, time_s, picture.pts, picture, damaged, spare)
            index += 1
            refuse_count(NAME, index)

    def _open(self, kept: Any) -> Any:
        try:
            container = av.open(
                kept or self._pipe, "r", options=OPTIONS | decoder_options(), metadata_errors="replace"
            )
        except MemoryError:
            raise
        except (av.FFmpegError, ValueError) as error:
            if kept is not None:
                raise InputError(
                    "incomplete",
                    f"{NAME}: the stream ended before the index (moov) that its MP4 has at the end: send "
                    "all of it, or write it with the index in front (-movflags +faststart)",
                ) from error
            raise InputError("not_a_video", f"{NAME}: {NO_VIDEO}") from error
        if container.format.name in NOT_PICTURES:
            with suppress(av.FFmpegError):
                container.close()
            raise InputError("not_a_video", f"{NAME}: {NO_VIDEO}")
        return container
