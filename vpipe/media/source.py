"""FrameSource: frames of a file that may crash, hang or flood its decoder, which is another process.

FrameSource ──request──► worker: FrameReader
            ◄──frames in a shared ring, times, warnings──
"""

from __future__ import annotations

import itertools
import os
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from fractions import Fraction
from math import floor
from typing import Any, TypeVar

from vpipe.errors import InputError
from vpipe.limits import limits
from vpipe.media.arriving import Read, Told, arriving, ticked, walked
from vpipe.media.decoders import UsedDecoderCrashed, decoder, shared_ring
from vpipe.media.first_look import display_name, refuse_count
from vpipe.media.frame import Frame, WalkedFrame
from vpipe.media.info import VideoInfo
from vpipe.media.timeline import Timeline, check_indices
from vpipe.media.upright import Color
from vpipe.media.wire import from_fraction, to_timeline

T = TypeVar("T")
_numbers = itertools.count()


class FrameSource(Told):
    """Frames of one video file, upright, scaled in the decoder's own scaler, decoded in another process.

    short_side_px: scale so that the shorter side has this many pixels. size: (width, height) to stretch to.
    color: "rgb" or "gray". threads: of the decoder, at most; small frames are always decoded by one.

    Frames are numbered as decoded, and a frame's time is its PTS minus the first PTS; index / rate only where
    PTS are missing, do not rise or leap, with the warning `timestamps_repaired`. Every method opens the file
    anew, so any number of iterators may live side by side. `warnings` grows as decoding reports.

    Every method raises InputError: those of `read_info`; too_large for an absurd output size or number of
    frames, or more memory than `vpipe.limits` allows; decoder_crashed; timeout.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        short_side_px: int | None = None,
        size: tuple[int, int] | None = None,
        color: Color = "rgb",
        threads: int = 1,
    ) -> None:
        if short_side_px is not None and size is not None:
            raise ValueError("give short_side_px or size, not both")
        super().__init__()
        self.path = path
        self._color = color
        self._request = {
            "source": next(_numbers),
            "path": os.fsdecode(path),
            "short_side_px": short_side_px,
            "size": None if size is None else list(size),
            "color": color,
            "threads": threads,
        }
        self._timeline: Timeline | None = None
        self.info, self.output_size = self._open()

    # Times

    def timeline(self, *, exact: bool = False) -> Timeline:
        """Times of all frames. Reads all packets; decodes everything where packets cannot be trusted, where
        the video is so short that counting what really decodes costs nothing, or where `exact` asks for it.
        """
        if self._timeline is None or (exact and not self._timeline.exact):
            with decoder(self.path) as worker:
                worker.ask(self._asking("timeline", exact=exact))
                header, payload = worker.answer()
                with worker.believed():
                    self._learn(header)
                    self._timeline = to_timeline(header, payload, limits().frames)
        return self._timeline

    def grid(self, fps: Fraction | None) -> list[int]:
        """Frame index shown at k / fps for k = 0 .. floor(last time x fps); None: every frame once."""
        timeline = self.timeline()
        if fps is not None:
            refuse_count(self.path, floor(timeline.times[-1] * fps))
        return timeline.grid(fps)

    def require_motion(self) -> None:
        """Raise InputError single_image for a still picture or a single frame."""
        name = display_name(self.path)
        if self.info.is_image and len(self.timeline()) < 2:
            raise InputError("single_image", f"{name}: a single image: no motion to see; give a video")
        if len(self.timeline()) < 2:
            raise InputError("single_image", f"{name}: 1 frame: no motion to see; give a longer video")

    # Frames

    def frames(
        self, start_s: Fraction | None = None, end_s: Fraction | None = None, *, every: int = 1
    ) -> Iterator[Frame]:
        """Every frame with start_s <= time < end_s, in order; with `every`, those whose index is a multiple
        of it, converting no other."""
        for _, frame in self._ticked("frames", start_s, end_s, every=every):
            yield frame

    def resample(
        self, fps: Fraction, start_s: Fraction | None = None, end_s: Fraction | None = None
    ) -> Iterator[tuple[int, Frame]]:
        """(k, frame shown at k / fps) for start_s <= k / fps < end_s, decoding once and in order.

        The same frames as `grid`: the last one whose time is <= k / fps. Memory stays flat. One Frame may
        come for several k.
        """
        return self._ticked("resample", start_s, end_s, fps=from_fraction(fps))

    def select(self, indices: Sequence[int]) -> Iterator[Frame]:
        """One frame for each of the ascending `indices` of `timeline`, converting only those.

        Jumps to keyframes where that is safe and saves work, and checks every PTS on the way; at the first
        disagreement it goes back to decoding in order. Where frames are lost to damage that the timeline did
        not know of, the frame shown at that time takes the place, marked damaged.

        Raises ValueError for indices that do not ascend or are out of range.
        """
        timeline = self.timeline()
        if not indices:
            return
        check_indices(indices, len(timeline))
        for _, frame in self._ticked("select", data=array("q", indices).tobytes()):
            yield frame

    def walk(self, fps: Fraction | None = None) -> Iterator[WalkedFrame]:
        """Every frame in order, with a small picture of it, and the full one of those nearest to a k / fps
        (see `walking`)."""
        from vpipe.media.shots import HEIGHT, WIDTH  # start-up: OpenCV

        how: dict[str, Any] = {"fps": fps and from_fraction(fps), "start_s": None, "end_s": None}
        return self._stream("walk", walked((HEIGHT, WIDTH)), small_bytes=HEIGHT * WIDTH, **how)

    def _ticked(
        self, what: str, start_s: Fraction | None = None, end_s: Fraction | None = None, **how: Any
    ) -> Iterator[tuple[int, Frame]]:
        """(tick, frame); the tick is the frame's place where the request has none."""
        times: dict[str, Any] = {
            "start_s": start_s and from_fraction(start_s),
            "end_s": end_s and from_fraction(end_s),
        }
        return self._stream(what, ticked(), **times, **how)

    def _stream(
        self, what: str, read: Read[T], *, data: bytes = b"", small_bytes: int = 0, **how: Any
    ) -> Iterator[T]:
        """What `read` makes of each frame."""
        width, height = self.output_size
        shape = (height, width) if self._color == "gray" else (height, width, 3)
        with decoder(self.path) as worker, shared_ring(shape) as ring:
            worker.ask(self._asking(what, shape=list(shape), slots=ring.slots, **how), data, fd=ring.fd)
            yield from arriving(worker, ring, read, self._learn, small_bytes=small_bytes)

    # Talking to the decoder

    def _asking(self, what: str, **how: Any) -> dict[str, Any]:
        try:
            place = os.getcwd()
        except OSError:  # it is gone: then only absolute paths lead anywhere
            place = None
        return {"op": what, "cwd": place, "limits": asdict(limits()), **self._request, **how}

    def _open(self) -> tuple[VideoInfo, tuple[int, int]]:
        try:
            return self._asked_open(anew=False)
        except UsedDecoderCrashed:
            # An earlier file may have left it damaged: what a fresh one says counts.
            return self._asked_open(anew=True)

    def _asked_open(self, *, anew: bool) -> tuple[VideoInfo, tuple[int, int]]:
        with decoder(self.path, anew=anew) as worker:
            worker.ask(self._asking("open"))
            header, _ = worker.answer()
            with worker.believed():
                return self._opened(header, os.fspath(self.path))


def probe(path: str | os.PathLike[str]) -> VideoInfo:
    """What a file says about itself, checked against its first frame. Raises as FrameSource does."""
    return FrameSource(path).info
