"""A model made ready to run: streams chosen, precision set, clips in batches, streams fused."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vpipe.errors import UsageError
from vpipe.models import Model, Stream
from vpipe.models.weights import INITIAL
from vpipe.recognition.folding import fold, foldable
from vpipe.recognition.preprocess import Normalise, View, mirror_columns

Modality = Literal["rgb", "flow", "both"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEFAULT_BATCH_SIZE = 16


@dataclass(frozen=True)
class ReadyStream:
    """A stream on its device in its precision."""

    stream: Stream
    network: torch.nn.Module
    normalise: Normalise
    mirrored: np.ndarray  # (C,) columns of the scores of a mirrored clip

    @property
    def clip_length(self) -> int:
        """Grid frames that a clip spans: flows go between them."""
        return int(self.stream.frames) + (self.stream.modality == "flow")

    def run(self, batch: Tensor) -> np.ndarray:
        """Normalised clips (N, T, C, H, W) -> probabilities (N, labels), float32."""
        with torch.inference_mode():
            return self.network(batch).float().softmax(1).cpu().numpy()


class Recognizer:
    """Runs the streams of a model that `modality` asks for (None: all that it has).

    dtype: fp32, bf16 or fp16, of weights and activations; the softmax is always fp32. batch_size: clips
    that go through the network together.

    Raises UsageError: `no_such_stream`, `bad_dtype`, `only_initial` for weights that are no model yet.
    """

    def __init__(
        self,
        model: Model,
        *,
        device: str = "cpu",
        dtype: str = "fp32",
        batch_size: int = DEFAULT_BATCH_SIZE,
        modality: Modality | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError("bad_dtype", f"--dtype {dtype}: choose one of {', '.join(DTYPES)}")
        if batch_size < 1:
            raise UsageError("bad_batch_size", f"--batch-size {batch_size}: give at least 1")
        if model.header.source.startswith(INITIAL):
            raise UsageError(
                "only_initial",
                f"model '{model.name}': {model.header.source}; `vpipe train DATA --init` takes it",
            )
        self.model, self.device = model, device
        self.labels = list(model.labels)
        self.batch_size = batch_size
        self.streams = [
            ReadyStream(
                stream,
                _in_precision(stream.network, device, DTYPES[dtype]),
                Normalise(stream, device, DTYPES[dtype]),
                mirror_columns(stream, self.labels),
            )
            for stream in choose_streams(model, modality)
        ]

    @property
    def needs_flow(self) -> bool:
        return any(ready.stream.modality == "flow" for ready in self.streams)

    def fused(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities of all streams, in their order, as one: (..., labels)."""
        weights = [ready.stream.weight for ready in self.streams]
        return fuse(scores, weights, self.model.header.fusion)

    def score_views(self, ready: ReadyStream, views: Iterable[View]) -> np.ndarray:
        """Probabilities (N, labels) of clips, in batches; those of mirrored clips are named back."""
        scores = []
        for batch in _batches(views, self.batch_size):
            found = ready.run(ready.normalise(np.stack([view.inputs for view in batch])))
            turned = np.array([view.mirrored for view in batch])
            found[turned] = found[turned][:, ready.mirrored]
            scores.append(found)
        return np.concatenate(scores) if scores else np.zeros((0, len(self.labels)), dtype=np.float32)


def choose_streams(model: Model, modality: Modality | None) -> list[Stream]:
    """The streams of `model` for `modality`. Raises UsageError `no_such_stream` for one that it lacks."""
    has = {str(stream.modality) for stream in model.streams}
    wanted = has if modality is None else {"rgb", "flow"} if modality == "both" else {modality}
    if missing := sorted(wanted - has):
        raise UsageError(
            "no_such_stream",
            f"--modality {modality}: model '{model.name}' has no {' and no '.join(missing)} stream "
            f"(it has {' and '.join(sorted(has))}); leave --modality out or choose another --model",
        )
    return [stream for stream in model.streams if stream.modality in wanted]


def fuse(scores: Sequence[np.ndarray], weights: Sequence[float], on: str = "softmax") -> np.ndarray:
    """Late fusion of probabilities (..., labels) of streams.

    on: "softmax", their weighted mean (Simonyan and Zisserman 2014); "logits", the softmax of the weighted
    sum of logits (Carreira and Zisserman 2017).
    """
    if on == "softmax":
        return np.asarray(np.average(np.stack(scores), axis=0, weights=weights))
    smallest = np.finfo(np.float64).tiny
    # The logarithm of a probability is its logit, less a number that the softmax does not see.
    logits = sum(
        weight * np.log(np.maximum(np.asarray(one, np.float64), smallest))
        for one, weight in zip(scores, weights, strict=True)
    )
    powers = np.exp(logits - np.max(logits, axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(-1, keepdims=True))


def _in_precision(network: torch.nn.Module, device: str, dtype: torch.dtype) -> torch.nn.Module:
    """The network itself where it fits, else a copy: the caller's model stays as it was.

    Batch norms that stand next to their convolution are folded into it.
    """
    parameter = next(network.parameters(), torch.empty(0))
    if parameter.dtype == dtype and parameter.device == torch.device(device) and not foldable(network):
        return network.eval()
    ready = copy.deepcopy(network).to(device=device).eval()
    fold(ready)
    return ready.to(dtype=dtype)


def _batches(items: Iterable[View], size: int) -> Iterator[list[View]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
