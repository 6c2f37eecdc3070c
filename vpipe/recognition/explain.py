"""`classify --explain`: which clip spoke loudest for the answer, and where in its frames.

A picture holds a row for each stream: the inputs of the clip that gives the answered label its best score,
under the class activation map of that label (Zhou et al. 2016): warm is where the network sees it. Flow is
drawn in the colour wheel. The JSON beside it holds every clip's scores.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch

from vpipe.errors import EnvironmentFault
from vpipe.flow.color import display_max_px, flow_to_rgb
from vpipe.recognition.preprocess import View
from vpipe.recognition.recognizer import ReadyStream
from vpipe.recognition.sampling import ClipPlan

CELL_PX = 144
STRIP_PX = 22


@dataclass
class _Seen:
    """What one stream looked at, in the order of the plan; only unmirrored first views are kept."""

    ready: ReadyStream
    plan: ClipPlan
    clips: list[np.ndarray] = field(default_factory=list)  # (T, H, W, C)
    probabilities: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))  # (clips, labels)


class Explanation:
    """Collects while a video is classified; `write` draws."""

    def __init__(self) -> None:
        self._streams: list[_Seen] = []

    def watch(
        self, ready: ReadyStream, plan: ClipPlan, views_of_clips: Iterator[Iterator[View]]
    ) -> Iterator[View]:
        """Passes views through and remembers the first one of each clip."""
        seen = _Seen(ready, plan)
        self._streams.append(seen)
        for views in views_of_clips:
            for number, view in enumerate(views):
                if number == 0:
                    seen.clips.append(view.inputs)
                yield view

    def scored(self, per_view: np.ndarray) -> None:
        """The probabilities (views, labels) of what was watched last; views of a clip stand together."""
        seen = self._streams[-1]
        seen.probabilities = per_view.reshape(len(seen.clips), -1, per_view.shape[1]).mean(1)

    def write(self, folder: Path, video_id: str, labels: list[str], answer: str) -> None:
        """Writes <video_id>.png and <video_id>.json. Raises EnvironmentFault where that cannot be done."""
        rows = [_row(seen, labels.index(answer), answer) for seen in self._streams]
        width = max(row.shape[1] for row in rows)
        rows = [np.pad(row, ((0, 0), (0, width - row.shape[1]), (0, 0))) for row in rows]
        picture = cv2.imencode(".png", cv2.cvtColor(np.vstack(rows), cv2.COLOR_RGB2BGR))[1].tobytes()
        scores = [
            {
                "modality": seen.ready.stream.modality,
                "weight": seen.ready.stream.weight,
                "clips": [
                    {
                        "start_s": round(float(start / seen.ready.stream.fps), 6),
                        "end_s": round(float((start + seen.ready.clip_length) / seen.ready.stream.fps), 6),
                        "scores": {k: round(float(v), 6) for k, v in zip(labels, clip, strict=True)},
                    }
                    for start, clip in zip(seen.plan.starts, seen.probabilities, strict=True)
                ],
            }
            for seen in self._streams
        ]
        document = {"schema": "vpipe.explanation/1", "answer": answer, "streams": scores}
        _write(folder / f"{video_id}.png", picture)
        _write(folder / f"{video_id}.json", (json.dumps(document, indent=1) + "\n").encode())


def _row(seen: _Seen, label: int, answer: str) -> np.ndarray:
    """The best clip of a stream for this label: uint8 RGB (STRIP_PX + CELL_PX, T * CELL_PX, 3)."""
    best = int(seen.probabilities[:, label].argmax())
    clip, stream = seen.clips[best], seen.ready.stream
    tensor = seen.ready.normalise(clip)[None]
    pictures = _pictures(clip)
    with torch.inference_mode():
        maps = seen.ready.network.class_activation(tensor)[0, :, label].float().cpu().numpy()  # type: ignore[operator]
    low, high = float(maps.min()), float(maps.max())
    warmth = (maps - low) / max(high - low, 1e-6)
    cells = []
    for number, picture in enumerate(pictures):
        cell = cv2.resize(picture, (CELL_PX, CELL_PX), interpolation=cv2.INTER_LINEAR)
        heat = cv2.resize(warmth[number * len(warmth) // len(pictures)], (CELL_PX, CELL_PX))
        colour = cv2.cvtColor(
            cv2.applyColorMap((heat * 255).astype(np.uint8), cv2.COLORMAP_JET), cv2.COLOR_BGR2RGB
        )
        cells.append(cv2.addWeighted(cell, 0.65, colour, 0.35, 0))
    strip = np.zeros((STRIP_PX, CELL_PX * len(cells), 3), np.uint8)
    start = float(seen.plan.starts[best] / stream.fps)
    text = f"{stream.modality}: {answer} {seen.probabilities[best, label]:.3f} in the clip from {start:.2f} s"
    cv2.putText(strip, text, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([strip, np.hstack(cells)])


def _pictures(clip: np.ndarray) -> list[np.ndarray]:
    if clip.shape[-1] == 3:
        return list(clip)
    flows = clip.transpose(0, 3, 1, 2)
    longest = display_max_px(list(flows))
    return [flow_to_rgb(flow, longest) for flow in flows]


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise EnvironmentFault(
            "unwritable_output", f"{path}: cannot write ({error.strerror}); choose another --explain folder"
        ) from None
