"""A model made ready to run: streams chosen, precision set, clips in batches, streams fused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from vpipe.errors import UsageError
from vpipe.models import Model, Stream
from vpipe.models.weights import INITIAL
from vpipe.recognition.exactness import FirstClip, Say
from vpipe.recognition.prepared import Recorded, compiled, filling_batch, prepare, tapped_channels
from vpipe.recognition.preprocess import Normalise, View, mirror_columns
from vpipe.recognition.rounding import Shape

Modality = Literal["rgb", "flow", "both"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
DEFAULT_BATCH_SIZE = 16


@dataclass(frozen=True)
class ReadyStream:
    """A stream on its device in its precision."""

    stream: Stream
    network: torch.nn.Module
    normalise: Normalise
    labels: int
    mirrored: np.ndarray  # (columns,) of `scores`: those of a mirrored clip
    call: Callable[[Tensor], Tensor]  # the network, recorded or compiled
    always: int | None  # clips that `call` is given each time, where it takes just so many
    first: FirstClip | None  # that hears of what a short precision gives

    @property
    def clip_length(self) -> int:
        """Grid frames that a clip spans: flows go between them."""
        return int(self.stream.frames) + (self.stream.modality == "flow")

    def scores(self, batch: Tensor) -> Tensor:
        """Normalised clips (N, T, C, H, W) -> probabilities (N, labels), and what is tapped after them.

        float32 on the device, which may still be at work on it.
        """
        with torch.inference_mode():
            rows = self._rows(batch).float()
            probabilities = rows[:, : self.labels].softmax(1)
            if self.first is not None:
                self.first.compare(batch, probabilities)
            return torch.cat([probabilities, rows[:, self.labels :]], 1)

    def run(self, batch: Tensor) -> np.ndarray:
        """The same as an array, float32."""
        return self.scores(batch).cpu().numpy()

    def _rows(self, batch: Tensor) -> Tensor:
        if self.always is None:
            return self.call(batch)
        parts = []
        for part in batch.split(self.always):
            rest = part[-1:].expand(self.always - len(part), *part.shape[1:])
            parts.append(self.call(torch.cat([part, rest]))[: len(part)])
        return torch.cat(parts)


class Recognizer:
    """Runs the streams of a model that `modality` asks for (None: all that it has).

    dtype: fp32, bf16 or fp16, of weights and activations; the last layer and the softmax are always fp32.
    batch_size: clips that go through the network together; None: 16, and on a GPU as many as fill it.
    compile_: through torch.compile, where a batch is always filled up. say: hears one line for each stream,
    how far a short precision is from fp32 on the first clip.

    Raises UsageError: `no_such_stream`, `bad_dtype`, `only_initial` for weights that are no model yet,
    `no_compiler`.
    """

    tapped = False  # rows of scores are followed by the features they were made of

    def __init__(
        self,
        model: Model,
        *,
        device: str = "cpu",
        dtype: str = "fp32",
        batch_size: int | None = None,
        modality: Modality | None = None,
        compile_: bool = False,
        say: Say | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise UsageError("bad_dtype", f"--dtype {dtype}: choose one of {', '.join(DTYPES)}")
        if batch_size is not None and batch_size < 1:
            raise UsageError("bad_batch_size", f"--batch-size {batch_size}: give at least 1")
        if model.header.source.startswith(INITIAL):
            raise UsageError(
                "only_initial",
                f"model '{model.name}': {model.header.source}; `vpipe train DATA --init` takes it",
            )
        if device != "cpu":
            torch.backends.cudnn.allow_tf32 = False  # fp32 means it, and gives the CPU's answers
        self.model, self.device = model, device
        self.labels = list(model.labels)
        chosen = choose_streams(model, modality)
        usual = DEFAULT_BATCH_SIZE if device == "cpu" else filling_batch(device, [_shape(s) for s in chosen])
        self.batch_size = batch_size or usual
        self.streams = [self._ready(stream, dtype, compile_, say) for stream in chosen]

    def _ready(self, stream: Stream, precision: str, compile_: bool, say: Say | None) -> ReadyStream:
        classes, dtype = len(self.labels), DTYPES[precision]
        network = prepare(stream.network, self.device, dtype, classes, _shape(stream), tapped=self.tapped)
        columns = mirror_columns(stream, self.labels)
        if self.tapped:  # features have no mirror image that is known: they stay where they are
            columns = np.r_[columns, np.arange(classes, classes + tapped_channels(network))]
        call: Callable[[Tensor], Tensor] = compiled(network, self.device) if compile_ else network
        first = None
        if say is not None and dtype != torch.float32:
            first = FirstClip(stream.network, precision, str(stream.modality), say)
        return ReadyStream(
            stream,
            network,
            Normalise(stream, self.device, dtype),
            classes,
            columns,
            call if self.device == "cpu" else Recorded(call),
            self.batch_size if compile_ else None,
            first,
        )

    @property
    def needs_flow(self) -> bool:
        return any(ready.stream.modality == "flow" for ready in self.streams)

    def fused(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """Probabilities of all streams, in their order, as one: (..., labels)."""
        weights = [ready.stream.weight for ready in self.streams]
        return fuse(scores, weights, self.model.header.fusion)

    def score_views(self, ready: ReadyStream, views: Iterable[View]) -> np.ndarray:
        """Probabilities (N, labels) of clips, in batches; those of mirrored clips are named back.

        A GPU works on a batch while the next one is decoded.
        """
        scores, turned = [], []
        for batch in _batches(views, self.batch_size):
            scores.append(ready.scores(ready.normalise.clips([view.inputs for view in batch])))
            turned += [view.mirrored for view in batch]
        if not scores:
            return np.zeros((0, len(ready.mirrored)), dtype=np.float32)
        found = torch.cat(scores).cpu().numpy()
        found[turned] = found[turned][:, ready.mirrored]
        return found


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


def _shape(stream: Stream) -> Shape:
    """(T, C, H, W) of its clips."""
    width, height = stream.size
    return int(stream.frames), 3 if stream.modality == "rgb" else 2, height, width


def _batches(items: Iterable[View], size: int) -> Iterator[list[View]]:
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
