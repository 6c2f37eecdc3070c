"""The times of frames from their packets, where that is safe, or by decoding the whole stream once."""

from __future__ import annotations

import os
from array import array
from fractions import Fraction
from itertools import pairwise

from vpipe.media.decode import DecodeCounts, decode_frames, read_packets
from vpipe.media.first_look import refuse_count
from vpipe.media.info import VideoInfo
from vpipe.media.opening import open_container, pick_stream
from vpipe.media.timeline import PacketScan, Timeline, leaps, timeline_from_frames

# Containers and codecs in which one packet is one shown frame with a PTS of its own.
INDEXED_CONTAINERS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")
INDEXED_CODECS = ("h264", "hevc", "vp9", "av1", "mjpeg", "ffv1", "prores", "dnxhd")


def scan_packets(path: str | os.PathLike[str], info: VideoInfo) -> PacketScan:
    """Read all packets. Unsafe: PTS missing, repeated or negative, an edit list that hides frames, damage,
    a container or codec in which packets and frames differ."""
    counts = DecodeCounts()
    pts: list[int] = []
    keys: list[int] = []
    last_duration = 0
    top = -(1 << 63)  # the latest PTS so far
    safe = info.container in INDEXED_CONTAINERS and info.codec in INDEXED_CODECS
    with open_container(path) as container:
        stream = pick_stream(container, path, threads=1)
        for packet in read_packets(container, stream, counts):
            if packet.size == 0:
                safe = safe and packet.pts is None  # the flush at the end has none
                continue
            refuse_count(path, counts.packets)
            if packet.pts is None or packet.is_corrupt or packet.is_discard:
                safe = False
                continue
            if packet.is_keyframe:
                keys.append(packet.pts)
            if packet.pts >= top:
                top, last_duration = packet.pts, packet.duration or 0
            pts.append(packet.pts)
    pts.sort()
    rising = all(a < b for a, b in pairwise(pts))
    safe = safe and rising and bool(pts) and pts[0] >= 0 and bool(keys) and min(keys) == pts[0]
    safe = safe and not leaps(pts, info.time_base)
    safe = safe and counts.errors == 0
    positions = {value: index for index, value in enumerate(pts)} if safe else {}
    return PacketScan(
        pts=array("q", pts),
        keys=sorted(positions[key] for key in keys) if safe else [],
        safe=safe,
        last_duration=last_duration,
        discarded=counts.discarded,
        packets=counts.packets,
    )


def timeline_by_decoding(
    path: str | os.PathLike[str], info: VideoInfo, *, trusted: bool, threads: int, counts: DecodeCounts
) -> Timeline:
    """Decode every frame for its time, converting none.

    trusted: the container stores a rising PTS for every frame, so that a step back is damage and the time
    stays; otherwise times become index / rate where a PTS is missing or does not rise.
    """
    pts: list[int | None] = []
    last_duration = Fraction(0)
    with open_container(path) as container:
        stream = pick_stream(container, path, threads)
        for frame, _ in decode_frames(container, stream, counts):
            pts.append(frame.pts)
            refuse_count(path, counts.frames)
            last_duration = (frame.duration or 0) * info.time_base
    return timeline_from_frames(pts, last_duration, info, trusted=trusted)
