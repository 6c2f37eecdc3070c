"""What happens when in an untrimmed video: segments of motion between stretches of background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vpipe.synth.vocabulary import BACKGROUND

SEGMENT_S = (1.5, 8.0)
BACKGROUND_S = (1.0, 6.0)
DISSOLVE_S = (0.3, 1.0)


@dataclass(frozen=True)
class TimedScene:
    """One shot on the timeline; `dissolve_s` is the length of the dissolve into the next (0: a hard cut)."""

    label: str
    start_s: float
    end_s: float
    dissolve_s: float


@dataclass(frozen=True)
class Timeline:
    """Shots one after the other without gaps; a dissolve is centred on the border, where the truth is."""

    parts: tuple[TimedScene, ...]

    def shown(self, t: float) -> list[tuple[int, float]]:
        """Numbers and weights of the one or two shots on the screen at time t."""
        ends = [part.end_s for part in self.parts[:-1]]
        number = int(np.searchsorted(ends, t, side="right"))
        for border in (number - 1, number):  # the dissolve behind us, then the one ahead
            if 0 <= border < len(ends) and (width := self.parts[border].dissolve_s) > 0:
                weight = (t - ends[border]) / width + 0.5
                if 0 < weight < 1:
                    return [(border, 1 - weight), (border + 1, weight)]
        return [(number, 1.0)]


def random_timeline(rng: np.random.Generator, duration_s: float, motions: tuple[str, ...]) -> Timeline:
    """Background and motion in turn, the labels in shuffled rounds, filling exactly `duration_s` seconds."""
    parts: list[TimedScene] = []
    deck: list[str] = []
    start, motion = 0.0, bool(rng.random() < 0.3)
    while start < duration_s:
        left = duration_s - start
        shortest, longest = SEGMENT_S if motion else BACKGROUND_S
        if left < SEGMENT_S[0]:  # only at the start: a video too short for a segment
            motion, shortest = False, left
        length = min(float(rng.uniform(shortest, longest)), left)
        # What would be left must hold the next part: a segment after background, a second after a segment.
        rest = left - length
        if 0 < rest < (BACKGROUND_S[0] if motion else SEGMENT_S[0]):
            length = left if not motion or left <= longest else left - BACKGROUND_S[0]
        if motion and not deck:
            deck = [str(label) for label in rng.permutation(motions)]
        label = deck.pop() if motion else BACKGROUND
        dissolve = float(rng.uniform(*DISSOLVE_S)) if rng.random() < 0.4 else 0.0
        end = duration_s if length == left else start + length
        parts.append(TimedScene(label, start, end, dissolve))
        start, motion = end, not motion
    return Timeline(tuple(parts))
