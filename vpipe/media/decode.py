"""The packet loop: every frame a file still gives, whatever is damaged around it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import av
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream

from vpipe.media.pulse import beat
from vpipe.workers import room_bytes

BYTES_A_PIXEL = 3  # at most, of 4:2:0 of ten bits
PICTURES_NEEDED = 2  # with what goes with one, by a packet
MAX_READ_RESTARTS = 100  # after errors between packets; each must have brought a packet since the last


@dataclass
class DecodeCounts:
    """What one pass over a stream met."""

    packets: int = 0
    keyframes: int = 0
    discarded: int = 0  # packets that an edit list hides
    frames: int = 0
    damaged: int = 0  # frames that the decoder repaired, or that follow a packet it refused
    errors: int = 0  # packets refused, and read errors
    starved: int = 0  # of the packets refused, those that came when there was no memory
    sizes: dict[tuple[int, int], None] = field(
        default_factory=dict
    )  # (width, height) as stored, as they came


def read_packets(
    container: InputContainer, stream: VideoStream, counts: DecodeCounts
) -> Generator[Packet[VideoStream], None, None]:
    """All packets of a stream, then an empty one that flushes the decoder; goes on after read errors."""
    for _ in range(MAX_READ_RESTARTS):
        before = counts.packets
        try:
            for packet in container.demux(stream):
                if packet.size == 0 and packet.pts is None and packet.dts is None:
                    yield packet
                    return
                counts.packets += 1
                beat()
                counts.keyframes += packet.is_keyframe
                counts.discarded += packet.is_discard
                yield packet
            return
        except av.FFmpegError:
            counts.errors += 1
            if counts.packets == before:
                break
    flush: Packet[VideoStream] = Packet()  # type: ignore[assignment]
    yield flush


def decode_frames(
    container: InputContainer,
    stream: VideoStream,
    counts: DecodeCounts,
    wanted: Callable[[Packet[VideoStream]], bool] | None = None,
) -> Generator[tuple[av.VideoFrame, bool], None, None]:
    """(frame, damaged) in the order of showing. A packet that fails costs itself, not what follows.

    wanted: sees every packet in the order of decoding; those for which it is False are not decoded.
    """
    lost = False  # a packet failed since the last frame
    for packet in read_packets(container, stream, counts):
        flush = packet.pts is None and packet.dts is None and packet.size == 0
        if packet.size == 0 and not flush:
            continue  # a placeholder for "the picture stays"; to the decoder it would mean the end
        if wanted is not None and not flush and not wanted(packet):
            continue
        try:
            frames = stream.decode(None if flush else packet)
        except av.error.EOFError:
            continue
        except av.FFmpegError as error:
            counts.errors += 1
            # Where a picture finds no room, decoders call the packet invalid.
            needed = PICTURES_NEEDED * (stream.width or 0) * (stream.height or 0) * BYTES_A_PIXEL
            counts.starved += isinstance(error, MemoryError) or room_bytes() < needed
            lost = True
            continue
        for frame in frames:
            damaged = frame.is_corrupt or lost
            lost = False
            counts.frames += 1
            counts.sizes[frame.width, frame.height] = None
            counts.damaged += damaged
            yield frame, damaged
