"""Detection in a video that is still coming: each event as soon as nothing later can change it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from vpipe.detection.detector import Detector, DetectorSettings, Segment
from vpipe.detection.heads.head import Head
from vpipe.detection.heads.run import PyramidDetector
from vpipe.detection.heads.stpp import STPP
from vpipe.errors import UsageError, Warning_
from vpipe.media.shots import Cut, Shot
from vpipe.media.stream import StreamSource
from vpipe.recognition.classify import short_video
from vpipe.recognition.features import FeatureRecognizer
from vpipe.recognition.one_pass import OnePass
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.snippets import detection_grid
from vpipe.timeline import seconds


@dataclass(frozen=True)
class Event:
    """Something that is over. latency_s: from its end to the last frame that had to be seen to know it."""

    what: Segment | Shot
    latency_s: float

    def to_json(self) -> dict[str, Any]:
        shown = self.what.to_json()
        return {**(shown if isinstance(self.what, Segment) else {"shot": shown}), "latency_s": self.latency_s}


class LiveDetection:
    """Goes over a stream once; the events of `events` are those that the same video gives as a file.

    recognizer: a FeatureRecognizer where there is a head. After the last event, `frames` and `duration_s` are
    known, and `warnings` is complete. Raises InputError as StreamSource does and `single_image`; UsageError
    `not_for_streams`, `streams_differ`, `other_model`, `other_width`.
    """

    def __init__(
        self,
        descriptor: int,
        recognizer: Recognizer,
        settings: DetectorSettings,
        *,
        head: Head | None = None,
        stall_s: float = 30.0,
        jobs: int = 1,
    ) -> None:
        ready = recognizer.streams[0]
        if len(recognizer.streams) > 1 or ready.stream.modality != "rgb" or ready.stream.convention:
            raise UsageError(
                "not_for_streams",
                f"model '{recognizer.model.name}' needs optical flow or the whole video: streams take models "
                "with a single RGB stream, packaged ones or those of `vpipe train`",
            )
        self._recognizer = recognizer
        grid = detection_grid(recognizer) if head is None else head.grid(recognizer)
        assert grid.fps is not None
        spacing = {"step_s": float(grid.stride / grid.fps), "span_s": float(grid.window / grid.fps)}
        self._skipped = 0 if head is None else len(recognizer.labels)  # columns before the features
        if head is None:
            self._detector = Detector(recognizer.labels, recognizer.model.background, settings, **spacing)
        else:
            _check(head, recognizer)
            self._detector = PyramidDetector(head, settings, **spacing)
        self.source = StreamSource(descriptor, size=ready.stream.size, threads=jobs, stall_s=stall_s)
        self._pass = OnePass(self.source, ready, grid, batch_size=recognizer.batch_size, jobs=jobs)

    @property
    def frames(self) -> int:
        return self._pass.frames

    @property
    def duration_s(self) -> float:
        return self._pass.duration_s

    @property
    def warnings(self) -> list[Warning_]:
        short = short_video(self.duration_s, self._recognizer.streams)
        return [*self.source.warnings, *([short] if short else [])]

    def events(self) -> Iterator[Event]:
        """Segments and shots, as they are known."""
        begun, seen_s = Cut(0, 0.0), 0.0
        for part in self._pass.parts():
            seen_s = float(part.frame_times_s[-1]) if len(part.frame_times_s) else seen_s
            ends = (
                [*part.cuts, Cut(self.frames, part.duration_s)] if part.duration_s is not None else part.cuts
            )
            for end in ends:
                yield _event(Shot(begun.time_s, end.time_s, begun.frame, end.frame), seen_s)
                begun = end
            rows = part.probabilities[:, self._skipped :]
            for segment in self._detector.add(replace(part, probabilities=rows)):
                yield _event(segment, seen_s)


def _check(head: Head, recognizer: Recognizer) -> None:
    header = head.header
    if not isinstance(head.network, STPP):
        raise UsageError(
            "not_for_streams", f"head '{header.name}': {header.kind} looks at whole videos; `stpp` does not"
        )
    assert isinstance(recognizer, FeatureRecognizer)
    channels = sum(recognizer.channels.values())
    if channels != header.channels:
        raise UsageError(
            "other_width",
            f"head '{header.name}' learnt on {header.channels} channels, '{recognizer.model.name}' gives "
            f"{channels}: give the --model that made its features",
        )


def _event(what: Segment | Shot, seen_s: float) -> Event:
    return Event(what, max(0.0, seconds(seen_s - what.end_s)))
