"""`classify --explain`: which clip spoke loudest for the answer, and where in its frames.

A picture holds a row for each stream: inputs of the clip that gives the answered label its best score, under
the class activation of that label (see grad_cam): warm is where the network sees it. A video a stream shows
all its clips so. Flow is drawn in the colour wheel. The JSON beside it holds every clip's scores.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from vpipe.flow.color import display_max_px, flow_to_rgb
from vpipe.media import VideoWriter
from vpipe.recognition.grad_cam import class_activation
from vpipe.recognition.preprocess import View
from vpipe.recognition.recognizer import ReadyStream
from vpipe.whole_file import write_whole_file

CELL_PX = 144
STRIP_PX = 22
MOST_CELLS = 16  # of a row; of longer clips, as many inputs spread over them
VIDEO_PX = 288
VIDEO_FPS = Fraction(8)


@dataclass
class _Seen:
    """What one stream looked at, clip by clip; only unmirrored first views are kept."""

    ready: ReadyStream
    spans_s: list[tuple[float, float]]  # (start, end) of each clip
    clips: list[np.ndarray] = field(default_factory=list)  # (T, H, W, C)
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # (clips, labels)


class Explanation:
    """Collects while a video is classified; `write` draws."""

    def __init__(self) -> None:
        self.streams: list[_Seen] = []

    def watch(
        self,
        ready: ReadyStream,
        spans_s: list[tuple[float, float]],
        views_of_clips: Iterable[Iterable[View]],
    ) -> Iterator[View]:
        """Passes views through and remembers the first one of each clip."""
        seen = _Seen(ready, spans_s)
        self.streams.append(seen)
        for views in views_of_clips:
            for number, view in enumerate(views):
                if number == 0:
                    seen.clips.append(view.inputs)
                yield view

    def scored(self, per_view: np.ndarray) -> None:
        """The probabilities (views, labels) of what was watched last; views of a clip stand together."""
        seen = self.streams[-1]
        seen.probabilities = per_view.reshape(len(seen.clips), -1, per_view.shape[1]).mean(1)

    def write(self, folder: Path, video_id: str, labels: list[str], answer: str) -> None:
        """Writes <video_id>.png, .json and .mp4 (with several streams one .mp4 for each, named by modality).

        Raises EnvironmentFault where that cannot be done.
        """
        label = labels.index(answer)
        rows = [_row(seen, label, answer) for seen in self.streams]
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        picture = cv2.imencode(".png", cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))[1].tobytes()
        scores = [
            {
                "modality": seen.ready.stream.modality,
                "weight": seen.ready.stream.weight,
                "clips": [
                    {
                        "start_s": round(start, 6),
                        "end_s": round(end, 6),
                        "scores": {k: round(float(v), 6) for k, v in zip(labels, clip, strict=True)},
                    }
                    for (start, end), clip in zip(seen.spans_s, seen.probabilities, strict=True)
                ],
            }
            for seen in self.streams
        ]
        document = {"schema": "vpipe.explanation/1", "answer": answer, "streams": scores}
        text = json.dumps(document, indent=1) + "\n"
        for suffix, data in ((".png", picture), (".json", text.encode())):
            write_whole_file(folder / f"{video_id}{suffix}", data, "choose another --explain folder")
        for number, seen in enumerate(self.streams):
            part = "" if len(self.streams) == 1 else f".{number}-{seen.ready.stream.modality}"
            _write_video(folder / f"{video_id}{part}.mp4", seen, label, answer)


def _row(seen: _Seen, label: int, answer: str) -> np.ndarray:
    """The best clip of a stream for this label: uint8 RGB (STRIP_PX + CELL_PX, cells * CELL_PX, 3)."""
    best = int(seen.probabilities[:, label].argmax())
    warmth, pictures = activation(seen.ready, seen.clips[best], label), _pictures(seen, best)
    shown = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), MOST_CELLS)).astype(int))
    cells = [_warmed(pictures[n], warmth[n * len(warmth) // len(pictures)], CELL_PX) for n in shown]
    return np.vstack([_caption(seen, best, label, answer, CELL_PX * len(cells)), np.hstack(cells)])


def activation(ready: ReadyStream, clip: np.ndarray, label: int) -> np.ndarray:
    """(T', h, w) float32 in 0..1, the largest 1: where a stream sees `label` in a clip (T, H, W, C)."""
    maps = class_activation(ready.network, ready.normalise(clip)[None], label).cpu().numpy()
    return np.asarray(maps / max(float(maps.max()), 1e-12))


def _warmed(picture: np.ndarray, warmth: np.ndarray, side_px: int) -> np.ndarray:
    cell = cv2.resize(picture, (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    heat = cv2.resize(warmth, (side_px, side_px))
    colour = cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_JET)
    return np.asarray(cv2.addWeighted(cell, 0.65, cv2.cvtColor(colour, cv2.COLOR_BGR2RGB), 0.35, 0))


def _caption(seen: _Seen, clip: int, label: int, answer: str, width: int) -> np.ndarray:
    strip = np.zeros((STRIP_PX, width, 3), np.uint8)
    score, start = seen.probabilities[clip, label], seen.spans_s[clip][0]
    text = f"{seen.ready.stream.modality}: {answer} {score:.3f} in the clip from {start:.2f} s"
    cv2.putText(strip, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return strip


def _write_video(path: Path, seen: _Seen, label: int, answer: str) -> None:
    """All clips one after the other, each input VIDEO_PX wide under what the stream sees in it."""
    with VideoWriter(path, VIDEO_PX, VIDEO_PX + STRIP_PX, fps=VIDEO_FPS) as writer:
        for number, clip in enumerate(seen.clips):
            warmth, pictures = activation(seen.ready, clip, label), _pictures(seen, number)
            strip = _caption(seen, number, label, answer, VIDEO_PX)
            for n, picture in enumerate(pictures):
                warm = _warmed(picture, warmth[n * len(warmth) // len(pictures)], VIDEO_PX)
                writer.write(np.vstack([strip, warm]))


def _pictures(seen: _Seen, number: int) -> list[np.ndarray]:
    """The inputs of a clip as RGB pictures."""
    clip, convention = seen.clips[number], seen.ready.stream.convention
    if clip.shape[-1] == 3:
        backwards = convention is not None and convention.order == "bgr"
        return [np.ascontiguousarray(one[..., ::-1]) if backwards else one for one in clip]
    flows = clip.transpose(0, 3, 1, 2)
    longest = display_max_px(list(flows))
    return [flow_to_rgb(flow, longest) for flow in flows]
