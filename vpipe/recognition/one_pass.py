"""One pass over a video, file or stream: frames decoded once, looked at for cuts, scored if on the grid.

    decoding thread   frames -> cuts; the frames of the grid -> pictures of the network's size, in a ring
    other threads     a batch of snippets each -> probabilities
    caller            parts of the scores, in order

inputs      0  1  2  3  4  5  6  7  8  9  10 11 ...     held until no snippet needs them
snippet 0   [--------------------]
snippet 1         [--------------------]                stride 2: every 0.25 s of the packaged models' grid
snippet 2               [--------------------]

Memory does not grow with the length of the video. Batches are the same however many threads there are, and
so are the scores.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Protocol

import numpy as np

from vpipe import threads
from vpipe.allocator import keep_freed_memory, share_one_heap
from vpipe.errors import InputError, Warning_
from vpipe.media import VideoInfo
from vpipe.media.frame import WalkedFrame
from vpipe.media.shots import Cut, ShotDetector
from vpipe.recognition.ahead import ahead, in_parallel
from vpipe.recognition.clips import Progress
from vpipe.recognition.grid import SnippetGrid
from vpipe.recognition.recognizer import ReadyStream
from vpipe.recognition.scores import ScorePart

BATCHES_AHEAD = 2  # decoded and waiting, for each thread that scores
FRAMES_A_STEP = 50  # of progress


class Decoded(Protocol):
    """What both FrameSource and StreamSource are."""

    info: VideoInfo

    @property
    def warnings(self) -> list[Warning_]: ...
    def walk(self, fps: Fraction | None) -> Iterator[WalkedFrame]: ...


@dataclass(frozen=True)
class _Batch:
    """Inputs of some snippets, and their part of the scores without the probabilities."""

    inputs: np.ndarray  # (n, H, W, 3) uint8
    part: ScorePart


class OnePass:
    """A pass over `source`, whose pictures have the size that the stream takes.

    batch_size: snippets that are scored together. jobs: threads that
    score. When all parts have come, `frames`, `cuts` and `duration_s` are those of the whole video.
    """

    def __init__(
        self,
        source: Decoded,
        ready: ReadyStream,
        grid: SnippetGrid,
        *,
        batch_size: int,
        jobs: int = 1,
        progress: Progress | None = None,
    ) -> None:
        self.frames = 0
        self.cuts: list[Cut] = []
        self.duration_s = 0.0
        self._source, self._ready, self._grid = source, ready, grid
        self._batch_size, self._jobs, self._progress = batch_size, jobs, progress

    def parts(self) -> Generator[ScorePart, None, None]:
        """Scores in order of time. Raises InputError as the source does, and single_image for one frame."""
        share_one_heap()
        keep_freed_memory()
        stop = getattr(self._source, "stop", None)
        batches = ahead(self._batches(), BATCHES_AHEAD * self._jobs, stop)
        try:
            # One core for each batch: no thread waits for another, and scores do not depend on their number.
            for batch, scores in in_parallel(
                self._score, batches, self._jobs, lambda: threads.set_torch_threads(1)
            ):
                yield replace(batch.part, probabilities=scores)
        finally:
            threads.set_torch_threads(threads.jobs())

    def _score(self, batch: _Batch) -> np.ndarray:
        if not len(batch.inputs):
            return batch.part.probabilities
        tensor = self._ready.normalise(batch.inputs)
        return self._ready.run(tensor.unfold(0, self._grid.window, self._grid.stride).movedim(-1, 1))

    def _batches(self) -> Generator[_Batch, None, None]:
        shots, ring = ShotDetector(), _Ring(self._grid)
        times_s: list[float] = []  # of the frames since the last batch, and the cuts
        cuts: list[Cut] = []

        def batch(decided_s: float, duration_s: float | None = None) -> _Batch:
            inputs, centre_s = ring.take()
            part = ScorePart(
                probabilities=np.zeros((0, len(self._ready.mirrored)), dtype=np.float32),
                centre_s=centre_s,
                frame_times_s=np.array(times_s),
                cuts=tuple(cuts),
                decided_s=decided_s,
                duration_s=duration_s,
            )
            self.cuts += cuts
            times_s.clear()
            cuts.clear()
            return _Batch(inputs, part)

        last: WalkedFrame | None = None
        for last in self._source.walk(self._grid.fps):
            times_s.append(float(last.time_s))
            if last.small is not None:
                cuts += shots.add(last.small, last.index, times_s[-1])
            self.frames += 1
            for _ in ring.show(last):
                if ring.snippets >= self._batch_size:
                    yield batch(shots.decided_s)
            if self._progress is not None and self.frames % FRAMES_A_STEP == 0:
                self._progress(self.frames, max(self.frames, self._source.info.declared_frames or 0))
        if self.frames < 2 or last is None:
            raise InputError(
                "single_image", f"{self._source.info.path}: 1 frame: no motion to see; give a longer video"
            )
        cuts += shots.close()
        ring.close()
        self.duration_s = float(last.time_s + self._lasts(last, times_s))
        yield batch(np.inf, self.duration_s)

    def _lasts(self, last: WalkedFrame, times_s: list[float]) -> Fraction:
        """How long the last frame stays: as stored, else as long as the one before it, else 1 / rate."""
        repairs = [w for w in self._source.warnings if w.code == "timestamps_repaired"]
        from_index = any("fps" in repair.numbers for repair in repairs)
        if last.lasts_s > 0 and not from_index:
            return last.lasts_s
        if len(times_s) > 1 and times_s[-1] > times_s[-2] and not from_index:
            return Fraction(times_s[-1] - times_s[-2])
        return 1 / self._source.info.rate


class _Ring:
    """The frames on the grid as pictures, each converted once, from the first that a snippet still needs."""

    def __init__(self, grid: SnippetGrid) -> None:
        assert grid.fps is not None
        self._grid, self._fps = grid, grid.fps
        self._pictures: list[np.ndarray] = []
        self._seen_s: list[float] = []  # when what a picture shows was seen
        self._skip = 0  # ticks between snippets, which none needs
        self._whole = False  # a snippet has been taken

    @property
    def snippets(self) -> int:
        """How many are complete."""
        return max(0, (len(self._pictures) - self._grid.window) // self._grid.stride + 1)

    def show(self, frame: WalkedFrame) -> Iterator[int]:
        """The ticks at which `frame` is the one shown, as it takes its place for each of them."""
        for tick in frame.ticks:
            if self._skip:
                self._skip -= 1
            else:
                self._add(frame, tick)
            yield tick

    def take(self) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (n, H, W, 3) of the complete snippets and their centres (snippets,); they leave the ring."""
        count, window, stride = self.snippets, self._grid.window, self._grid.stride
        if not count:
            return np.zeros((0, 0, 0, 3), dtype=np.uint8), np.zeros(0)
        used, gone = window + stride * (count - 1), stride * count
        inputs = np.stack(self._pictures[:used])
        seen_s = np.lib.stride_tricks.sliding_window_view(np.array(self._seen_s[:used]), window)[::stride]
        self._skip = max(0, gone - len(self._pictures))
        del self._pictures[:gone], self._seen_s[:gone]
        self._whole = True
        return inputs, seen_s.mean(axis=1)

    def close(self) -> None:
        """A video with fewer frames on the grid than a snippet takes gives one, its last frame held."""
        while not self._whole and len(self._pictures) < self._grid.window:
            self._pictures.append(self._pictures[-1])
            self._seen_s.append(self._seen_s[-1] + float(1 / self._fps))

    def _add(self, frame: WalkedFrame, tick: int) -> None:
        assert frame.image is not None  # it has a tick
        self._pictures.append(frame.image)
        # What is shown was seen a little before or after, at rates below the grid's as much as a step before;
        # where a picture stands for long, it still shows how things are.
        tick_s = float(tick / self._fps)
        self._seen_s.append(max(float(frame.time_s), tick_s - float(1 / self._fps)))
