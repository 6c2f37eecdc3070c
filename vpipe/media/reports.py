"""What reading a video shows that its user should know: times that were repaired, damage, an early end."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

from vpipe.errors import Warning_
from vpipe.media.decode import DecodeCounts
from vpipe.media.info import VideoInfo
from vpipe.media.timeline import Timeline
from vpipe.timeline import seconds

END_TOLERANCE_S = 0.5  # headers round, and sound may be a little longer


class Reports:
    """Warnings of one video, one of each kind: the last that was told."""

    def __init__(self, info: VideoInfo) -> None:
        self._info = info
        self._warnings: dict[str, Warning_] = {warning.code: warning for warning in info.warnings}

    @property
    def warnings(self) -> list[Warning_]:
        return list(self._warnings.values())

    def _warn(self, code: str, message: str, numbers: dict[str, int | float | str]) -> None:
        self._warnings[code] = Warning_(code, message, numbers)

    def times(self, timeline: Timeline) -> None:
        rate = self._info.rate
        if timeline.from_index:
            known = [value for value in timeline.pts if value is not None]
            missing, back = len(timeline) - len(known), sum(b <= a for a, b in pairwise(known))
            text = (
                f"times are unusable ({missing} missing, {back} that do not rise, or leaps): "
                f"frame number / {rate} is used instead"
            )
            self._warn(
                "timestamps_repaired", text, {"fps": float(rate), "missing": missing, "not_rising": back}
            )
        elif timeline.held:
            text = f"the times of {timeline.held} frames are missing or step back: they keep the time before"
            self._warn("timestamps_repaired", text, {"frames": timeline.held})
        if timeline.variable_rate:
            self._warn("vfr", "variable frame rate: times are taken from the PTS", {})

    def sizes(self, counts: DecodeCounts) -> None:
        if len(counts.sizes) > 1:
            first, other = list(counts.sizes)[:2]
            text = f"changes from {first[0]}x{first[1]} to {other[0]}x{other[1]}: resized to the first size"
            self._warn("size_changed", text, {"width": other[0], "height": other[1]})

    def of_pass(self, counts: DecodeCounts) -> None:
        """Warn of what a pass met, whether it reached the end or not."""
        self.sizes(counts)
        if not counts.damaged and not counts.errors:
            return
        text = f"corrupt: {counts.damaged} of {counts.frames} frames; unreadable packets: {counts.errors}"
        self._warn(
            "corrupt_frames",
            text,
            {"damaged": counts.damaged, "unreadable_packets": counts.errors, "decoded": counts.frames},
        )

    def end(self, counts: DecodeCounts, end_s: Fraction) -> None:
        """Compare a pass that reached the end with what the header declares."""
        declared, declared_s = self._info.declared_frames, self._info.declared_duration_s
        cut = self._warnings.get("ends_early")
        short = cut is not None or "corrupt_frames" in self._warnings
        numbers: dict[str, int | float | str] = {"decoded": counts.frames}
        if declared is not None:
            declared = max(0, declared - counts.discarded)
            if counts.frames == declared and cut is None:
                return
            text = f"{counts.frames} of {declared} declared frames decode"
            if (short and counts.frames < declared) or cut is not None:
                kept = {} if cut is None else cut.numbers
                self._warn("ends_early", f"ends early: {text}", kept | numbers | {"declared": declared})
            else:
                self._warn("frame_count", text, numbers | {"declared": declared})
        elif declared_s is not None and float(end_s) + END_TOLERANCE_S < declared_s - self._info.start_s:
            text = f"ends early: {seconds(end_s)} s decode where the header declares {seconds(declared_s)} s"
            about = round((declared_s - self._info.start_s) * self._info.rate)
            numbers |= {"declared": about, "decoded_s": seconds(end_s), "declared_s": seconds(declared_s)}
            self._warn("ends_early", text, ({} if cut is None else cut.numbers) | numbers)
        elif cut is not None:
            self._warn("ends_early", cut.message, cut.numbers | numbers)
