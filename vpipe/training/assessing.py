"""What a trained model is worth on videos that it did not see: accuracy and confusions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from vpipe.models.weights import StreamSpec
from vpipe.recognition.classify_published import consensus
from vpipe.training.distributed import Job, total
from vpipe.training.loop import Normalisation
from vpipe.training.own_clips import as_input, centred
from vpipe.training.pieces import Piece
from vpipe.training.windows import validation_windows


@dataclass(frozen=True)
class Assessment:
    """confusion[i, j]: pieces that show labels[i] and were called labels[j]."""

    labels: tuple[str, ...]
    confusion: np.ndarray

    @property
    def pieces(self) -> int:
        return int(self.confusion.sum())

    @property
    def right(self) -> int:
        return int(np.trace(self.confusion))

    @property
    def majority(self) -> tuple[str, int]:
        """The most frequent label, and how many pieces one who always says it has right."""
        counts = self.confusion.sum(1)
        return self.labels[int(counts.argmax())], int(counts.max())

    def to_json(self) -> dict[str, Any]:
        """Accuracies in percent, with the 95 % interval; None where nothing was held out."""
        if not self.pieces:
            return {"pieces": 0, "accuracy": None}
        label, frequent = self.majority
        return {
            "pieces": self.pieces,
            "accuracy": round(100 * self.right / self.pieces, 2),
            "interval_95": list(wilson(self.right, self.pieces)),
            "majority_class": {"label": label, "accuracy": round(100 * frequent / self.pieces, 2)},
            "confusion": {
                name: dict(zip(self.labels, map(int, row), strict=True))
                for name, row in zip(self.labels, self.confusion, strict=True)
            },
        }


def wilson(right: int, count: int) -> tuple[float, float]:
    """95 % interval of a proportion, percent (Wilson 1927)."""
    z, share = 1.959964, right / count
    middle = share + z * z / (2 * count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 100 / (1 + z * z / count)
    return round(scale * (middle - half), 2), round(scale * (middle + half), 2)


def score(
    network: nn.Module,
    spec: StreamSpec,
    pieces: Sequence[Piece],
    labels: int,
    normalisation: Normalisation,
    *,
    device: str,
    job: Job,
) -> np.ndarray:
    """Probabilities float64 (pieces, labels) of each piece, as `vpipe classify` would give them.

    Each rank scores its share of the pieces; all have the result.
    """
    found = np.zeros((len(pieces), labels))
    network.eval()
    for place in range(job.rank, len(pieces), job.world):
        windows = validation_windows(pieces[place], spec)
        clips = np.stack([as_input(centred(pieces[place].video.read(w), spec), spec) for w in windows])
        with torch.inference_mode():
            logits = network(normalisation.apply(torch.from_numpy(clips).to(device)))
        per_window = logits.float().softmax(1).cpu().numpy()
        if spec.convention is not None:
            found[place] = consensus(per_window, spec.convention)
        else:
            found[place] = per_window.mean(0, dtype=np.float64)
    return np.array(total(list(found.ravel()), job, device)).reshape(found.shape)


def assess(pieces: Sequence[Piece], probabilities: np.ndarray, labels: tuple[str, ...]) -> Assessment:
    """The confusions of the best label of each piece."""
    confusion = np.zeros((len(labels), len(labels)), int)
    for piece, row in zip(pieces, probabilities, strict=True):
        confusion[piece.label, int(row.argmax())] += 1
    return Assessment(labels, confusion)
