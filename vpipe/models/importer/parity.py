"""Parity fixtures: the reference's logits for weights and inputs that a rule makes anywhere.

A fixture is JSON: key names and shapes, the wrapping of the published file, inputs, and what the reference's
network gives. Weights and inputs come from `filled` and `made_input`, so nothing large is stored.
"""

from __future__ import annotations

import json
import math
import re
import tempfile
import zlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vpipe.errors import UsageError
from vpipe.models.importer.checkpoint import read_checkpoint
from vpipe.models.importer.layout import Choices
from vpipe.models.importer.recognise import Mapped, recognise
from vpipe.models.layers import VideoNetwork
from vpipe.models.registry import build

TOLERANCE = 1e-4  # of the largest difference between logits, float32
_ARCHITECTURE_CHOICES = {
    "num_segments": "segments",
    "alpha": "alpha",
    "beta": "beta",
    "shift_div": "share",
    "temporal_pool": "temporal_pool",
}


@dataclass(frozen=True)
class Parity:
    """How far our network is from the reference on a fixture."""

    name: str
    layout: str
    architecture: str
    difference: float  # largest absolute, of logits
    notes: tuple[str, ...]

    @property
    def holds(self) -> bool:
        return self.difference <= TOLERANCE


@dataclass(frozen=True)
class Rebuilt:
    """A fixture as a network of ours with its weights, float32 on the CPU; its inputs; the wanted logits."""

    name: str
    mapped: Mapped
    network: VideoNetwork
    inputs: list[Tensor]
    layout: str  # of the inputs
    wanted: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(T, C, H, W) of a clip; SlowFast's fast one."""
        frames, channels, height, width = _as_clip(self.network, self.inputs[-1], self.layout).shape[1:]
        return frames, channels, height, width

    def logits(self, network: VideoNetwork, inputs: list[Tensor]) -> Tensor:
        """What `network`, the one here or a copy elsewhere, says of `inputs`, in the reference's shape."""
        return _run(network, inputs, self.layout, self.wanted)


def check_fixture(path: Path) -> Parity:
    """Writes the checkpoint as the reference would, imports that file, runs it and compares.

    Raises UsageError `bad_fixture` for a file that is no fixture, and whatever the importer raises.
    """
    made = rebuild(path)
    difference = float((made.logits(made.network, made.inputs) - made.wanted).abs().max())
    mapped = made.mapped
    return Parity(made.name, mapped.layout.name, mapped.layout.architecture, difference, mapped.notes)


def rebuild(path: Path) -> Rebuilt:
    """The network of a fixture, by way of the file that the reference would have written. Raises as above."""
    try:
        fixture = json.loads(path.read_text(encoding="utf-8"))
        name = str(fixture["name"])
        container, prefix = fixture["checkpoint"]["container"], fixture["checkpoint"]["prefix"]
        gain = float(fixture["fill"]["conv_gain"])
        state = OrderedDict(
            (prefix + key, torch.from_numpy(filled(key, tuple(shape), dtype, gain)))
            for key, shape, dtype in fixture["state_dict"]
        )
        inputs = [
            torch.from_numpy(made_input(tuple(one["shape"]), one["cell"], one["name"]))
            for one in fixture["inputs"]
        ]
        wanted = torch.tensor(fixture["outputs"]["logits"]).view(*fixture["outputs"]["shape"])
        choices = _choices(fixture, inputs)
        # mmaction2 names the weights of C2D as those of TSN.
        told = "resnet3d" if re.search("c2d", json.dumps([name, fixture["arch"]]), re.IGNORECASE) else None
        if not isinstance(container, (str, type(None))):
            raise TypeError("its container is no name")
    except (
        OSError,
        ArithmeticError,
        MemoryError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
    ) as error:
        raise UsageError("bad_fixture", f"{path}: not a parity fixture ({error!r:.200})") from None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "checkpoint.pth"  # a name from the fixture may be no file's
        torch.save(state if container is None else {container: state}, file)
        del state
        mapped = recognise(read_checkpoint(file), choices, told)
    with torch.device("meta"):
        network = build(mapped.layout.architecture, mapped.hyper)
    network.load_state_dict(mapped.state, assign=True)
    network.eval()
    assert isinstance(network, VideoNetwork)
    return Rebuilt(name, mapped, network, inputs, str(fixture.get("input_layout", "")), wanted)


def _choices(fixture: dict[str, Any], inputs: list[Tensor]) -> Choices:
    """What the fixture says of things that keys do not tell."""
    known = {
        ours: fixture["arch"][theirs]
        for theirs, ours in _ARCHITECTURE_CHOICES.items()
        if theirs in fixture["arch"]
    }
    layout = str(fixture.get("input_layout", ""))
    if "segments" not in known and layout.startswith("N,segments,"):
        known["segments"] = inputs[0].shape[1]
    told = json.dumps([fixture["name"], fixture["arch"]])
    if re.search("dot.product", told):
        known["non_local"] = "dot-product"
    if len(inputs) == 2:  # slow, fast
        known["slow_ratio"] = inputs[1].shape[2] // inputs[0].shape[2]
    elif ratio := re.search(r"(?:resample_rate|speed_ratio|slowfast_alpha)\W+(\d+)", told):
        known["slow_ratio"] = int(ratio[1])
    return Choices(**known)


def _run(network: VideoNetwork, inputs: list[Tensor], layout: str, wanted: Tensor) -> Tensor:
    """The network's logits in the shape that the reference gives them."""
    clips = [_as_clip(network, tensor, layout) for tensor in inputs]
    with torch.inference_mode():
        if len(clips) == 2:  # SlowFast with its two inputs made apart: slow, fast
            scores = network.scores(clips[1], slow=clips[0])  # type: ignore[call-arg]
        else:
            scores = network.scores(clips[0])
    if wanted.ndim == 3:  # the reference leaves the mean over time to its caller
        return scores.transpose(1, 2)
    # Rows are clips; or single frames, or parts of a clip, where the reference leaves consensus outside.
    return scores.flatten(0, 1).unflatten(0, (len(wanted), -1)).mean(1)


def _as_clip(network: VideoNetwork, tensor: Tensor, layout: str) -> Tensor:
    """(N, T, C, H, W) of what the reference's loader would have given."""
    if "N,C,T,H,W" in layout:
        return tensor.transpose(1, 2)
    if tensor.ndim == 5:
        return tensor
    segments = getattr(network, "segments", 1)
    if layout.startswith("(N*T)"):
        return tensor.unflatten(0, (-1, segments))
    return tensor.unflatten(1, (segments, -1))


def _unit(key: str, count: int) -> np.ndarray:
    """`count` doubles in [0, 1): the words of PCG64, seeded with the CRC-32 of the key, top 53 bits."""
    words = np.random.PCG64(zlib.crc32(key.encode())).random_raw(count)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _centred(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """Zero mean, unit variance, uniform; float64."""
    return ((2 * _unit(key, math.prod(shape)) - 1) * math.sqrt(3)).reshape(shape)


def filled(key: str, shape: tuple[int, ...], dtype: str, conv_gain: float) -> np.ndarray:
    """The weight of this key by the fill rule: computed in float64, rounded once."""
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var") or (key.endswith("weight") and len(shape) < 2):
        value = 0.5 + _unit(key, math.prod(shape)).reshape(shape)
    elif key.endswith("weight"):
        value = _centred(key, shape) * (conv_gain / math.sqrt(math.prod(shape[1:])))
    else:
        value = 0.1 * _centred(key, shape)
    return value.astype(dtype)


def made_input(shape: tuple[int, ...], cell: int, name: str) -> np.ndarray:
    """An input by the rule, float32: fine noise over coarse, of which a cell of the picture has one value."""
    height, width = shape[-2:]
    coarse = _centred(f"{name}:coarse", (*shape[:-2], -(-height // cell), -(-width // cell)))
    coarse = coarse.repeat(cell, -2).repeat(cell, -1)[..., :height, :width]
    return (0.5 * _centred(f"{name}:fine", shape) + coarse).astype(np.float32)
