"""The motion vocabulary: 13 labels of camera and subject motion, and their conventions.

In the camera labels the camera moves and the picture goes the other way: `pan_right` moves the content left,
`tilt_up` moves it down, `roll_clockwise` (seen from behind the camera) turns it counter-clockwise. In the
subject labels the camera is held and one subject moves: `subject_left` goes to the left of the picture,
`subject_waves` stays where it is and swings an arm to and fro.
"""

from __future__ import annotations

LABELS: tuple[str, ...] = (
    "static",
    "pan_left",
    "pan_right",
    "tilt_up",
    "tilt_down",
    "zoom_in",
    "zoom_out",
    "roll_clockwise",
    "roll_counterclockwise",
    "shake",
    "subject_left",
    "subject_right",
    "subject_waves",
)

# What `detect` leaves out: nothing happens.
BACKGROUND = "static"

# The label of the same clip mirrored left to right; what is not named stays as it is.
FLIPPED: dict[str, str] = {
    "pan_left": "pan_right",
    "pan_right": "pan_left",
    "roll_clockwise": "roll_counterclockwise",
    "roll_counterclockwise": "roll_clockwise",
    "subject_left": "subject_right",
    "subject_right": "subject_left",
}
