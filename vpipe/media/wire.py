"""What a decoder process says, as JSON and plain arrays, and back with every value checked.

The file that it reads may have taken it over: nothing here is unpickled, and numbers out of range are refused
with ValueError.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import asdict
from fractions import Fraction
from itertools import pairwise
from typing import Any

from vpipe.errors import Warning_
from vpipe.media.info import VideoInfo
from vpipe.media.timeline import Timeline, Times
from vpipe.media.upright import Orientation

NO_PTS = -(1 << 63)
ROWS = 16  # in one message, at most
NO_SLOT = -1  # of a frame without a picture
_MOST = (1 << 63) - 1
_TEXT = 4096


def whole(value: Any, low: int = -_MOST, high: int = _MOST) -> int:
    """`value` where it is an integer in low .. high."""
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{value!r:.40} where a number is due")
    return value


def text(value: Any) -> str:
    """`value` where it is text of a sane length."""
    if type(value) is not str or len(value) > _TEXT:
        raise ValueError("no text where text is due")
    return value


def number(value: Any) -> float:
    """`value` where it is a finite number."""
    if type(value) not in (int, float) or not -1e300 < value < 1e300:
        raise ValueError("no number where a number is due")
    return float(value)


def fraction(value: Any) -> Fraction:
    """A fraction that was written as [numerator, denominator]."""
    if type(value) is not list or len(value) != 2:
        raise ValueError("no fraction where one is due")
    top, bottom = (whole(part, -(1 << 200), 1 << 200) for part in value)
    if bottom <= 0:
        raise ValueError("a fraction that is none")
    return Fraction(top, bottom)


def from_fraction(value: Fraction) -> list[int]:
    return [value.numerator, value.denominator]


def from_warnings(warnings: Sequence[Warning_]) -> list[Any]:
    return [[w.code, w.message, w.numbers] for w in warnings]


def to_warnings(value: Any) -> list[Warning_]:
    found = []
    for code, message, numbers in _rows(value, 3):
        if type(numbers) is not dict or len(numbers) > 20:
            raise ValueError("a warning without its numbers")
        checked = {text(k): v if type(v) is int else _text_or_number(v) for k, v in numbers.items()}
        found.append(Warning_(text(code), text(message), checked))
    return found


def _text_or_number(value: Any) -> float | str:
    return text(value) if type(value) is str else number(value)


def _rows(value: Any, width: int) -> list[Any]:
    rows = value if type(value) is list else [None]
    if len(rows) > 100 or any(type(row) is not list or len(row) != width for row in rows):
        raise ValueError("no table where one is due")
    return rows


def from_info(info: VideoInfo) -> dict[str, Any]:
    said = {key: value for key, value in vars(info).items() if key != "path"}
    rate = info.average_rate
    return said | {
        "average_rate": None if rate is None else from_fraction(rate),
        "time_base": from_fraction(info.time_base),
        "warnings": from_warnings(info.warnings),
        "orientation": asdict(info.orientation),
    }


def to_info(value: Any, path: str, most_pixels: int) -> VideoInfo:
    """The info of the file `path`; it is for us to say which file that is."""
    if type(value) is not dict or type(value.get("orientation")) is not dict:
        raise ValueError("no info where one is due")
    turned = {key: value["orientation"].get(key) is True for key in Orientation.__dataclass_fields__}
    rate, declared, lasts = (
        value.get(key) for key in ("average_rate", "declared_frames", "declared_duration_s")
    )
    info = VideoInfo(
        path=path,
        stream_index=whole(value.get("stream_index"), 0, 1 << 31),
        codec=text(value.get("codec")),
        pix_fmt=text(value.get("pix_fmt")),
        width=whole(value.get("width"), 1, 1 << 31),
        height=whole(value.get("height"), 1, 1 << 31),
        rotation=whole(value.get("rotation"), 0, 270),
        average_rate=None if rate is None else fraction(rate),
        declared_frames=None if declared is None else whole(declared),
        declared_duration_s=None if lasts is None else number(lasts),
        time_base=fraction(value.get("time_base")),
        warnings=tuple(to_warnings(value.get("warnings"))),
        container=text(value.get("container")),
        start_s=number(value.get("start_s")),
        is_image=value.get("is_image") is True,
        orientation=Orientation(**turned),
    )
    if info.width * info.height > most_pixels or info.time_base <= 0 or (rate and info.rate <= 0):
        raise ValueError("an info that cannot be")
    return info


def from_timeline(timeline: Timeline) -> tuple[dict[str, Any], bytes]:
    """Header and payload: PTS, then ticks unless times count frames; 8 bytes each."""
    header = {
        "frames": len(timeline),
        "unit": from_fraction(timeline.times.unit),
        "exact": timeline.exact,
        "last": from_fraction(timeline.last_duration_s),
        "from_index": timeline.from_index,
        "held": timeline.held,
    }
    pts = array("q", [NO_PTS if value is None else value for value in timeline.pts])
    ticks = b"" if timeline.from_index else array("q", timeline.times.ticks).tobytes()
    return header, pts.tobytes() + ticks


def to_timeline(header: dict[str, Any], payload: bytes, most_frames: int) -> Timeline:
    frames = whole(header.get("frames"), 1, most_frames)
    from_index = header.get("from_index") is True
    if len(payload) != 8 * frames * (1 if from_index else 2):
        raise ValueError("a timeline of another length")
    values = array("q", payload)
    pts: Sequence[int | None] = values[:frames]
    if NO_PTS in pts:
        pts = [None if value == NO_PTS else value for value in pts]
    ticks: Sequence[int] = range(frames) if from_index else values[frames:]
    if any(b < a for a, b in pairwise(ticks)):
        raise ValueError("times that step back")
    unit, last = fraction(header.get("unit")), fraction(header.get("last"))
    if unit <= 0 or last < 0:
        raise ValueError("a clock that cannot be")
    exact = header.get("exact") is True
    return Timeline(Times(ticks, unit), pts, exact, last, from_index, whole(header.get("held"), 0, frames))
