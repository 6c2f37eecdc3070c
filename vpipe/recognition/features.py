"""Snippet features: what a model's last layer is given, averaged over segments and picture.

They are taken on the way while the model scores snippets, by a hook on the layer that gives the scores, so
every architecture has them, whatever it is made of.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from vpipe.errors import UsageError
from vpipe.recognition.clips import Progress
from vpipe.recognition.grid import SnippetGrid
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.snippets import ScannedVideo, scan


@dataclass(frozen=True)
class FeatureScan:
    """A video that a model has gone over, with the features of its snippets."""

    video: ScannedVideo
    features: np.ndarray  # (S, C) float32; streams side by side, RGB before flow
    channels: dict[str, int]  # by modality, in that order; they add up to C


def scan_features(
    path: Path,
    recognizer: Recognizer,
    grid: SnippetGrid,
    *,
    cache_dir: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> FeatureScan:
    """Scores and features of every snippet of a video in one pass. Raises as `scan` and `classifier` do."""
    with ExitStack() as stack:
        taps = [
            (ready.stream.modality, stack.enter_context(FeatureTap(ready.network, len(recognizer.labels))))
            for ready in recognizer.streams
        ]
        video = scan(path, recognizer, grid=grid, cache_dir=cache_dir, jobs=jobs, progress=progress)
    count = len(video.scores.centre_s)
    channels: dict[str, int] = {}
    tables = []
    for modality, tap in sorted(taps, key=lambda pair: pair[0] != "rgb"):
        tables.append(tap.features()[:count])
        channels[modality] = channels.get(modality, 0) + tables[-1].shape[1]
    return FeatureScan(video, np.concatenate(tables, axis=1), channels)


def classifier(network: nn.Module, classes: int) -> nn.Linear:
    """The layer that gives the scores: the last linear one with `classes` outputs. Raises UsageError."""
    found = [m for m in network.modules() if isinstance(m, nn.Linear) and m.out_features == classes]
    if not found:
        raise UsageError(
            "no_features",
            f"{type(network).__name__}: no linear layer gives its {classes} scores, so it has no features "
            "before one; choose another --model",
        )
    return found[-1]


class FeatureTap:
    """Collects features while the network scores clips: `with FeatureTap(network, classes) as tap`."""

    def __init__(self, network: nn.Module, classes: int) -> None:
        self._network, self._last = network, classifier(network, classes)
        self._clips = 0  # in the batch that is under way
        self._rows: list[np.ndarray] = []
        self._hooks: list[Any] = []

    def __enter__(self) -> FeatureTap:
        self._hooks = [
            self._network.register_forward_pre_hook(self._begin),
            self._last.register_forward_pre_hook(self._given),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def features(self) -> np.ndarray:
        """(clips, C) float32 of all clips so far, in the order they were scored."""
        if not self._rows:
            return np.zeros((0, self._last.in_features), dtype=np.float32)
        return np.concatenate(self._rows)

    def _begin(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        self._clips = len(inputs[0])

    def _given(self, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        # (clips * places, C) or (clips, places, C), where a place is a segment or a step in time.
        x = inputs[0].detach().float()
        self._rows.append(x.reshape(self._clips, -1, x.shape[-1]).mean(1).cpu().numpy())
