"""Snippet features: what a model's last layer is given, averaged over segments and picture.

They are taken on the way while the model scores snippets, by a hook on the layer that gives the scores, so
every architecture has them, whatever it is made of. Rows of scores are then followed by rows of features:
(S, labels + C) goes wherever (S, labels) would.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from vpipe.errors import UsageError
from vpipe.models import Model
from vpipe.recognition.features_file import Features, Spacing
from vpipe.recognition.grid import SnippetGrid
from vpipe.recognition.recognizer import ReadyStream, Recognizer
from vpipe.recognition.scores import SnippetScores


@dataclass(frozen=True)
class FeatureStream(ReadyStream):
    """A stream whose probabilities are followed by the features they were made of."""

    labels: int

    @property
    def channels(self) -> int:
        return classifier(self.network, self.labels).in_features

    def run(self, batch: Tensor) -> np.ndarray:
        """Normalised clips (N, T, C, H, W) -> (N, labels + channels) float32."""
        given: list[Tensor] = []
        thread = threading.get_ident()

        def take(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            if threading.get_ident() == thread:  # clips may be scored by several threads at once
                given.append(inputs[0])

        with classifier(self.network, self.labels).register_forward_pre_hook(take):
            probabilities = super().run(batch)
        # (clips * places, C) or (clips, places, C), where a place is a segment or a step in time.
        features = given[0].reshape(len(batch), -1, given[0].shape[-1]).float().mean(1)
        return np.concatenate([probabilities, features.cpu().numpy()], axis=1)


class FeatureRecognizer(Recognizer):
    """A Recognizer whose rows of scores are followed by features, those of RGB streams before those of flow.

    Takes what Recognizer takes. Raises UsageError as it does, and `no_features`.
    """

    def __init__(self, model: Model, **options: Any) -> None:
        super().__init__(model, **options)
        self.streams: list[FeatureStream] = [  # type: ignore[assignment]
            _with_features(ready, len(self.labels)) for ready in self.streams
        ]
        self.channels: dict[str, int] = {}  # by modality, in order
        for ready in self._in_order(self.streams):
            modality = str(ready.stream.modality)
            self.channels[modality] = self.channels.get(modality, 0) + ready.channels

    def fused(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """Rows (S, labels + channels of the stream) of all streams -> (S, labels + all channels)."""
        labels = len(self.labels)
        probabilities = super().fused([one[..., :labels] for one in scores])
        features = [one[..., labels:] for one in self._in_order(scores)]
        return np.concatenate([probabilities, *features], axis=-1)

    def _in_order(self, of_streams: Sequence[Any]) -> list[Any]:
        """One thing for each stream, as the streams stand -> RGB first."""
        pairs = zip(self.streams, of_streams, strict=True)
        return [one for ready, one in sorted(pairs, key=lambda pair: pair[0].stream.modality != "rgb")]


def _with_features(ready: ReadyStream, labels: int) -> FeatureStream:
    channels = classifier(ready.network, labels).in_features
    # Features have no mirror image that is known: they stay where they are.
    columns = np.r_[ready.mirrored, np.arange(labels, labels + channels)]
    return FeatureStream(**(vars(ready) | {"mirrored": columns}), labels=labels)


def split_features(
    rows: SnippetScores, path: Path, recognizer: FeatureRecognizer, grid: SnippetGrid, fps: Fraction
) -> tuple[SnippetScores, Features]:
    """What `scan` gives for a FeatureRecognizer, as the scores (S, labels) and the features (S, C).

    fps: of the video, for a grid that is its own frames.
    """
    labels, model = len(recognizer.labels), recognizer.model
    spacing = Spacing(grid.window, grid.stride, float(grid.fps or fps), float(grid.offset))
    features = Features(
        np.ascontiguousarray(rows.probabilities[:, labels:]),
        spacing,
        rows.start_s,
        rows.centre_s,
        rows.end_s,
        rows.duration_s,
        rows.frame_times_s,
        {"name": model.name, "hash": model.hash, "labels": recognizer.labels, "background": model.background},
        path,
    )
    return replace(rows, probabilities=rows.probabilities[:, :labels]), features


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
