"""The labels of the comparison: the motion vocabulary, and motions that differ in their order alone.

`pan_left_then_pan_right` goes out and comes back the same way, so that its frames, and all its pairs of
neighbouring frames, are those of `pan_right_then_pan_left` in another order.
"""

from __future__ import annotations

from vpipe.synth.vocabulary import FLIPPED
from vpipe.synth.vocabulary import LABELS as VOCABULARY

THEN = "_then_"
OPPOSITES: tuple[tuple[str, str], ...] = (
    ("pan_left", "pan_right"),
    ("tilt_up", "tilt_down"),
    ("zoom_in", "zoom_out"),
    ("roll_clockwise", "roll_counterclockwise"),
    ("subject_left", "subject_right"),
)
THERE_AND_BACK = (OPPOSITES[0], OPPOSITES[2], OPPOSITES[3])

DIRECTION: tuple[str, ...] = tuple(label for pair in OPPOSITES for label in pair)
ORDER: tuple[str, ...] = tuple(THEN.join(parts) for a, b in THERE_AND_BACK for parts in ((a, b), (b, a)))
LABELS: tuple[str, ...] = (*VOCABULARY, *ORDER)
GROUPS: dict[str, tuple[str, ...]] = {"direction": DIRECTION, "order": ORDER}

_OPPOSITE = {a: b for pair in OPPOSITES for a, b in (pair, pair[::-1])}
# Upside down; left to right is the vocabulary's own table.
_TURNED = {label: _OPPOSITE[label] for label in DIRECTION if label.startswith(("tilt_", "roll_"))}


def opposite(label: str) -> str:
    """The label that differs from this one in direction or order alone; itself where there is none."""
    parts = label.split(THEN)
    return THEN.join(_OPPOSITE.get(part, part) for part in parts)


def backwards(label: str) -> str:
    """The label of the clip played backwards: what goes left comes from there, out and back stays so."""
    return THEN.join(_OPPOSITE.get(part, part) for part in reversed(label.split(THEN)))


def mirrored(label: str) -> str:
    """The label of the clip with left and right exchanged."""
    return THEN.join(FLIPPED.get(part, part) for part in label.split(THEN))


def upside_down(label: str) -> str:
    """The label of the clip with top and bottom exchanged."""
    return THEN.join(_TURNED.get(part, part) for part in label.split(THEN))
