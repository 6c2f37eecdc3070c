"""Cached flow as pictures that people can read: the colour wheel, with its legend in every picture."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from vpipe.cache.entry import FlowEntry
from vpipe.errors import EnvironmentFault
from vpipe.flow.color import display_max_px, render, render_size
from vpipe.media.writer import VideoWriter

_SAMPLE_FLOWS = 32  # the scale of the colours is chosen from these
_READ_AT_ONCE = 16


def render_video(entry: FlowEntry, path: Path) -> None:
    """Write all flow of `entry` as a video: the picture at a time shows the motion that starts there.

    Raises EnvironmentFault where the file cannot be written, UsageError for an unknown suffix.
    """
    width, height = render_size(entry.size)
    with VideoWriter(path, width, height, fps=entry.params.fps) as video:
        for k, picture in _pictures(entry):
            video.write(picture, _shown_at(entry, k))


def render_frames(entry: FlowEntry, folder: Path) -> None:
    """Write all flow of `entry` as folder/flow_000000.png and so on. Raises EnvironmentFault."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for k, picture in _pictures(entry):
            path = folder / f"flow_{k:06d}.png"
            beside = folder / f".{path.name}.{os.getpid()}.part"
            beside.write_bytes(cv2.imencode(".png", picture[..., ::-1])[1].tobytes())
            beside.replace(path)
    except OSError as error:
        raise EnvironmentFault(
            "unwritable_output",
            f"{folder}: cannot write pictures ({error.strerror or error}); choose another folder",
        ) from error


def _shown_at(entry: FlowEntry, k: int) -> Fraction:
    """On a resampled grid flow k is that of time k/fps; else of its first frame."""
    fps, step = entry.params.fps, entry.params.step
    return entry.times[k] if fps is None else k * step / fps


def _pictures(entry: FlowEntry) -> Iterator[tuple[int, npt.NDArray[np.uint8]]]:
    sample = np.unique(np.linspace(0, entry.pairs - 1, min(entry.pairs, _SAMPLE_FLOWS)).round().astype(int))
    max_px = display_max_px(list(entry.read(sample.tolist())))
    for start in range(0, entry.pairs, _READ_AT_ONCE):
        chunk = range(start, min(start + _READ_AT_ONCE, entry.pairs))
        for k, flow in zip(chunk, entry.read(chunk), strict=True):
            yield k, render(flow, max_px, caption=f"{float(_shown_at(entry, k)):.2f} s")
