"""A long video out of a short one without encoding anything: its packets again and again, later each time."""

from __future__ import annotations

from pathlib import Path

import av


def repeat(source: Path, target: Path, times: int) -> Path:
    """Writes `source`, whose first packet is a keyframe, `times` times end to end to `target` (mp4 or
    mkv)."""
    with av.open(str(target), "w") as out:
        stream = None
        offset = 0
        for _ in range(times):
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(video)
                begin, end = None, 0
                for packet in container.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    begin = packet.pts if begin is None else begin
                    end = max(end, packet.pts - begin + (packet.duration or 0))
                    packet.pts += offset - begin
                    packet.dts += offset - begin
                    packet.stream = stream
                    out.mux(packet)
            offset += end
    return target
