"""Times and rates, kept rational: a frame's time is its PTS minus the first PTS, in seconds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from fractions import Fraction

from vpipe.errors import UsageError


def parse_time(text: str) -> Fraction:
    """Seconds from `12.5`, `12.5s`, `01:02.5` (minutes) or `00:01:02.5` (hours). Raises UsageError."""
    body = text.strip()
    parts = body[:-1].split(":") if body.endswith("s") else body.split(":")
    try:
        if not 1 <= len(parts) <= 3:
            raise ValueError
        total = Fraction(0)
        for place, part in enumerate(parts):
            value = Fraction(part)
            if value < 0 or (place > 0 and value >= 60):
                raise ValueError
            total = total * 60 + value
        return total
    except (ValueError, ZeroDivisionError):
        raise UsageError(
            "bad_time",
            f"'{text}' is not a time: write seconds (12.5, 12.5s) or hours:minutes:seconds (00:01:02.5)",
        ) from None


def parse_rate(text: str) -> Fraction:
    """Frames per second from `30000/1001`, `29.97` or `8`. Raises UsageError unless 0 < rate <= 10000."""
    try:
        rate = Fraction(text.strip())
        if not 0 < rate <= 10000:
            raise ValueError
        return rate
    except (ValueError, ZeroDivisionError):
        raise UsageError("bad_rate", f"'{text}' is not a frame rate: write 8, 29.97 or 30000/1001") from None


def seconds(value: Fraction | float) -> float:
    """A time for JSON and CSV: seconds rounded to the microsecond."""
    return round(float(value), 6)


def last_at_or_before(times: Sequence[Fraction], time_s: Fraction) -> int:
    """Index of the last of the ascending `times` that is <= `time_s`; 0 where even the first is later."""
    return max(0, bisect_right(times, time_s) - 1)
