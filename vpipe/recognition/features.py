"""Snippet features: what a model's last layer is given, averaged over segments and picture.

They are taken on the way while the model scores snippets, by the layer that gives the scores, so every
architecture has them, whatever it is made of. Rows of scores are then followed by rows of features:
(S, labels + C) goes wherever (S, labels) would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vpipe.models import Model
from vpipe.recognition.features_file import Features, Spacing
from vpipe.recognition.grid import SnippetGrid
from vpipe.recognition.prepared import tapped_channels
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.scores import SnippetScores


class FeatureRecognizer(Recognizer):
    """A Recognizer whose rows of scores are followed by features, those of RGB streams before those of flow.

    Takes what Recognizer takes. Raises UsageError as it does, and `no_features`.
    """

    tapped = True

    def __init__(self, model: Model, **options: Any) -> None:
        super().__init__(model, **options)
        self.channels: dict[str, int] = {}  # by modality, in order
        for ready in self._in_order(self.streams):
            modality = str(ready.stream.modality)
            self.channels[modality] = self.channels.get(modality, 0) + tapped_channels(ready.network)

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
