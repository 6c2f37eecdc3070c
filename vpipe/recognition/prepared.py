"""A network made ready to run: folded, in its precision, its last layer in float32; on a GPU also recorded.

On a GPU a batch is some two hundred kernels, and small ones end before the next is started. A batch size that
comes a second time is therefore recorded as one CUDA graph and from then on started in one go.
"""

from __future__ import annotations

import copy
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vpipe.errors import UsageError
from vpipe.models.layers import VideoNetwork, channels_last
from vpipe.recognition.folding import fold, foldable
from vpipe.recognition.fused_blocks import fuse_blocks
from vpipe.recognition.rounding import Shape, round_weights

MOST_RECORDED = 4  # shapes; a graph keeps the memory of its activations
FILLING_PIXELS = 64 * 8 * 224 * 224  # of a batch; more is no faster
BYTES_A_PIXEL = 512  # of all activations that live at once, float32, ResNet-50
SHARE_OF_MEMORY = 0.25
MOST_CLIPS = 256
WARM_UP = 3  # runs before recording, in which cuDNN chooses its algorithms


class Classifier(nn.Module):
    """The layer that gives the scores, in float32 whatever the rest; `tapped`: its inputs follow its scores.

    What comes after, a mean over segments or time, then holds for features as it does for scores.
    """

    def __init__(self, linear: nn.Linear, tapped: bool) -> None:
        super().__init__()
        self.linear, self.tapped = linear, tapped

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> (..., labels), or (..., labels + C)."""
        x = x.float()
        scores: Tensor = self.linear(x)
        return torch.cat([scores, x], -1) if self.tapped else scores


def prepare(
    network: nn.Module,
    device: str,
    dtype: torch.dtype,
    classes: int,
    shape: Shape,
    *,
    tapped: bool = False,
) -> nn.Module:
    """The network itself where it fits as it is, else a copy: the caller's stays as it was.

    shape: (T, C, H, W) of the clips that it is for.
    Raises UsageError `no_features` where `tapped` has no linear layer to tap.
    """
    name = classifier_name(network, classes)
    if tapped and name is None:
        raise UsageError(
            "no_features",
            f"{type(network).__name__}: no linear layer gives its {classes} scores, so it has no features "
            "before one; choose another --model",
        )
    parameter = next(network.parameters(), torch.empty(0))
    same = parameter.dtype == dtype and parameter.device == torch.device(device)
    if same and not tapped and not foldable(network):
        return network.eval()
    ready = copy.deepcopy(network).to(device).eval()
    fold(ready)
    if dtype != torch.float32:
        round_weights(ready, dtype, shape)
    last = None if name is None else ready.get_submodule(name)
    if isinstance(last, nn.Linear) and name is not None:
        last = copy.deepcopy(last)  # as it is, float32
        ready.to(dtype).set_submodule(name, Classifier(last, tapped))
        if isinstance(ready, VideoNetwork):
            ready.pooling = torch.float32
    if last is None:
        ready.to(dtype)
    if dtype != torch.float32 and torch.device(device).type == "cuda":
        fuse_blocks(ready)
    return channels_last(ready)


def classifier_name(network: nn.Module, classes: int) -> str | None:
    """Of the layer that gives the scores: the last linear one with `classes` outputs."""
    found = [
        name
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear) and module.out_features == classes
    ]
    return found[-1] if found else None


def tapped_channels(network: nn.Module) -> int:
    """How many features follow the scores of a network that was prepared to give them."""
    return next(m.linear.in_features for m in network.modules() if isinstance(m, Classifier))


def compiled(network: nn.Module, device: str) -> nn.Module:
    """The network through torch.compile, for batches of one size. Raises UsageError `no_compiler`."""
    if device == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise UsageError(
            "no_compiler", "--compile needs a C++ compiler on the CPU: install g++, or leave it out"
        )
    return torch.compile(network, dynamic=False)  # type: ignore[return-value]


def filling_batch(device: str, inputs: list[Shape]) -> int:
    """Clips that fill a GPU, of the largest of `inputs`, and leave most of its memory to others."""
    memory = torch.cuda.get_device_properties(device).total_memory
    pixels = min(FILLING_PIXELS, memory * SHARE_OF_MEMORY / BYTES_A_PIXEL)
    return int(min(MOST_CLIPS, max(1, pixels // max(t * h * w for t, _, h, w in inputs))))


class Recorded:
    """Calls a network, from the second time on that a shape comes by a CUDA graph of its own."""

    def __init__(self, network: Callable[[Tensor], Tensor]) -> None:
        self._network = network
        self._seen: set[torch.Size] = set()
        self._graphs: dict[torch.Size, tuple[torch.cuda.CUDAGraph, Tensor, Tensor]] = {}
        self._one_at_a_time = threading.Lock()  # inputs of a graph lie where they lay when it was recorded

    def __call__(self, batch: Tensor) -> Tensor:
        """A batch on the device -> what the network gives, a tensor of the caller's own."""
        with self._one_at_a_time:
            if batch.shape not in self._graphs:
                if batch.shape not in self._seen or len(self._graphs) == MOST_RECORDED:
                    self._seen.add(batch.shape)
                    return self._network(batch)
                self._graphs[batch.shape] = self._record(batch)
            graph, inputs, outputs = self._graphs[batch.shape]
            inputs.copy_(batch)
            graph.replay()
            return outputs.clone()

    def _record(self, batch: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor, Tensor]:
        inputs, graph = batch.clone(), torch.cuda.CUDAGraph()
        side = torch.cuda.Stream(batch.device)
        side.wait_stream(torch.cuda.current_stream(batch.device))
        with _fastest_algorithms():
            with torch.cuda.stream(side):
                for _ in range(WARM_UP):
                    self._network(inputs)
            torch.cuda.current_stream(batch.device).wait_stream(side)
            # Other threads may go on: copies of the next batch are none of this graph's business.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                outputs = self._network(inputs)
        return graph, inputs, outputs


@contextmanager
def _fastest_algorithms() -> Iterator[None]:
    """cuDNN tries its algorithms on the sizes at hand, which pays for those that come again."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
