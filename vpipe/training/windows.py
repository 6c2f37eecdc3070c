"""Windows of frames: at random for training, spread evenly for validation, as the model is run later."""

from __future__ import annotations

import numpy as np

from vpipe.models.weights import StreamSpec
from vpipe.recognition.published import DENSE_WINDOW, clip_indices
from vpipe.recognition.sampling import plan_clips
from vpipe.training.pieces import Piece
from vpipe.training.preparing import frames_per_input

VALIDATION_CLIPS = 10  # as `vpipe classify` takes


def training_window(
    piece: Piece, spec: StreamSpec, labels: int, rng: np.random.Generator, tempo: float = 0.0
) -> tuple[list[int], np.ndarray]:
    """(places in the stored video, target float32 (labels,)) of a random window of a piece.

    A window of a packaged stream is T frames in a row. In an untrimmed video its middle lies in the piece and
    its target is what it shows: of a window across a boundary, each label the share of time that it has.
    With `tempo`, RGB frames follow each other up to exp(tempo) faster or slower than they would.
    """
    target = np.zeros(labels, np.float32)
    target[piece.label] = 1
    length = len(piece.video.stored)
    if spec.convention is not None:
        first, last = _frames_of(piece)
        return [first + i for i in _random_indices(spec, last - first, rng)], target
    apart = frames_per_input(spec)
    fps = float(spec.fps) * apart
    step = apart * (float(np.exp(rng.uniform(-tempo, tempo))) if apart > 1 else 1.0)
    span = step * spec.frames / fps
    latest = max(0, length - round(step * (spec.frames - 1)) - 1)
    if piece.whole:
        start = int(rng.integers(latest + 1))
    else:
        middle = float(rng.uniform(piece.start_s, piece.end_s))
        start = int(np.clip(round((middle - span / 2) * fps), 0, latest))
        shown = _shown(piece, start / fps, start / fps + span, labels)
        target = shown if shown.sum() > 0 else target
        target /= target.sum()
    return [start + round(step * k) for k in range(spec.frames)], target


def validation_windows(piece: Piece, spec: StreamSpec) -> list[list[int]]:
    """The windows that `vpipe classify` would look at, if the piece were a video of its own."""
    first, last = _frames_of(piece)
    length = last - first
    if spec.convention is not None:
        taken = clip_indices(spec.convention, spec.frames, length, clips=spec.convention.clips, twice=False)
        return [[first + i for i in clip] for clip in taken]
    apart = frames_per_input(spec)
    first = -(-first // apart) * apart
    plan = plan_clips(max(1, -(-(last - first) // apart)), spec.frames, clips=VALIDATION_CLIPS)
    end = first + (plan.grid_length - 1) * apart if spec.modality == "rgb" else len(piece.video.stored)
    return [[min(first + apart * k, end) for k in range(s, s + spec.frames)] for s in plan.starts]


def _frames_of(piece: Piece) -> tuple[int, int]:
    """[first, last) of the stored frames that lie in the piece; at least one."""
    times = piece.video.stored.times_s
    first = int(np.searchsorted(times, piece.start_s - 1e-6))
    last = int(np.searchsorted(times, piece.end_s - 1e-6))
    first = min(first, len(times) - 1)
    return first, max(last, first + 1)


def _shown(piece: Piece, start_s: float, end_s: float, labels: int) -> np.ndarray:
    """Seconds that each label is shown in a stretch, float32 (labels,)."""
    found = np.zeros(labels, np.float32)
    for begin, end, label in piece.shown:
        found[label] += max(0.0, min(end, end_s) - max(begin, start_s))
    return found


def _random_indices(spec: StreamSpec, length: int, rng: np.random.Generator) -> list[int]:
    """What the published model was trained on: a random place in each segment, or a random dense window."""
    convention = spec.convention
    assert convention is not None
    count, stack = convention.segments, convention.stack
    if convention.sampling == "segments":
        places = length - stack + 1
        share = places // count
        if share > 0:
            starts = np.arange(count) * share + rng.integers(share, size=count)
        else:
            starts = np.sort(rng.integers(max(places, 1), size=count))
        found = [int(start) + k for start in starts for k in range(stack)]
    elif convention.sampling == "dense":
        start = int(rng.integers(max(1, 1 + length - DENSE_WINDOW)))
        stride = max(DENSE_WINDOW // count, 1)
        return [(start + stride * i) % length for i in range(count)]
    else:
        start = int(rng.integers(max(1, length - spec.frames * convention.stride + 1)))
        found = [start + convention.stride * k for k in range(spec.frames)]
    if convention.past_end == "wrap":
        return [index % length for index in found]
    return [min(index, length - 1) for index in found]
