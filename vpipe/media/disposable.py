"""Which packets hold a picture that no other refers to, so that all others decode the same without it.

H.264 says so in every slice (`nal_ref_idc`, Rec. ITU-T H.264, 7.4.1), HEVC by its kind ("_N" of Table 7-1,
Rec. ITU-T H.265), for pictures of the same temporal layer. Of other codecs nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator

from av.packet import Packet
from av.video.stream import VideoStream

# Kinds of NAL units. Of others, such as parameters that later pictures need, nothing may be left out.
H264_SLICES, H264_ASIDE = range(1, 6), (6, 9, 12)  # supplemental information, delimiter, filler
HEVC_PLAIN, HEVC_ASIDE = range(0, 16, 2), (35, 38, 39, 40, *range(48, 64))  # "_N"; likewise, and unspecified
START = b"\0\0\1"  # of a NAL unit where no length stands before it


class Disposable:
    """Tells of the packets of one stream."""

    def __init__(self, stream: VideoStream) -> None:
        context = stream.codec_context
        setup = bytes(context.extradata or b"")
        self._hevc = context.name == "hevc"
        self._known = context.name in ("h264", "hevc")
        self._length_bytes = 0  # of the length before each NAL unit; 0: they begin with START
        if setup[:1] == b"\1":  # avcC, hvcC (ISO/IEC 14496-15)
            place, least = (21, 23) if self._hevc else (4, 7)
            self._known = self._known and len(setup) >= least
            self._length_bytes = (setup[place] & 3) + 1 if self._known else 0
        if self._hevc:
            # Pictures of higher layers may refer to any; only here it is said that there are none.
            self._known = self._length_bytes > 0 and (setup[21] >> 3) & 7 == 1

    def __call__(self, packet: Packet[VideoStream]) -> bool:
        """False as well where it cannot be told."""
        if not self._known or packet.is_keyframe:
            return False
        pictures = False
        for first in self._heads(memoryview(packet)):
            if self._hevc:
                kind = (first >> 1) & 63
                picture, aside = kind in HEVC_PLAIN, kind in HEVC_ASIDE
            else:
                kind = first & 31
                picture, aside = kind in H264_SLICES and not first & 0x60, kind in H264_ASIDE
            if not picture and not aside:
                return False
            pictures = pictures or picture
        return pictures

    def _heads(self, data: memoryview) -> Iterator[int]:
        """The first byte of each NAL unit; none where lengths do not fit."""
        size, place = self._length_bytes, 0
        if not size:
            content = bytes(data)
            while (place := content.find(START, place)) >= 0:
                place += len(START)
                if place < len(content):
                    yield content[place]
            return
        heads = []
        while place + size < len(data):
            length = int.from_bytes(data[place : place + size], "big")
            heads.append(data[place + size])
            place += size + length
        if place == len(data):
            yield from heads
