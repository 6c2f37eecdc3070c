"""ImageNet weights of torchvision's 2-D ResNets as the beginning of a video network.

2-D kernels go into 3-D ones as means over time (Carreira and Zisserman 2017, section 2.4); the first layer of
a network that sees flow or differences takes the mean over the colours for each of its channels (Wang et al.,
"Temporal Segment Networks", 2016, section 3.2). What an image network has not, starts as the architecture
does.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vpipe.errors import UsageError
from vpipe.models.importer.checkpoint import read_checkpoint
from vpipe.models.importer.inputs import stream_spec
from vpipe.models.importer.layout import RESNET_NAMES, Choices, count_blocks, shape
from vpipe.models.registry import build
from vpipe.models.weights import INITIAL, ModelHeader, write_weights

# The networks that are residual ones of torchvision's kind, and the convention of their inputs.
CONVENTIONS = {
    "tsn-resnet": "tsm",
    "tsm": "tsm",
    "stm": "tsm",
    "tanet": "tsm",
    "tdn": "tsm",
    "resnet3d": "mmaction2-3d",
    "slowfast": "mmaction2-slowfast",
}
FLOWS = 5  # of a stack


@dataclass(frozen=True)
class Initial:
    path: Path
    taken: int  # tensors from the image network
    fresh: int  # that start as the architecture does
    unused: tuple[str, ...]  # of the image network


def import_initial(
    checkpoint: Path, output: Path, architecture: str, *, modality: str = "rgb", segments: int | None = None
) -> Initial:
    """Writes a weight file for `vpipe train --init` from a ResNet checkpoint of torchvision.

    Raises UsageError: `unknown_layout` for another checkpoint, `bad_choice` for an architecture that has
    nothing to take from it, and what read_checkpoint raises.
    """
    if architecture not in CONVENTIONS:
        raise UsageError(
            "bad_choice", f"--as-init {architecture}: choose one of {', '.join(sorted(CONVENTIONS))}"
        )
    read = read_checkpoint(checkpoint)
    image = _renamed(read.tensors)
    if "backbone.layer1.0.conv1.conv.weight" not in image or "fc.weight" not in image:
        raise UsageError(
            "unknown_layout", f"{checkpoint}: not an image ResNet of torchvision; leave --as-init out"
        )
    hyper = _hyper(image, architecture, modality, segments, checkpoint)
    network = build(architecture, hyper)
    state, taken, unused = initial_state(image, network.state_dict())
    network.load_state_dict(state)
    spec = stream_spec(CONVENTIONS[architecture], architecture, hyper, Choices(segments=segments))
    labels = tuple(f"ImageNet {number:04d}" for number in range(hyper["classes"]))
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    source = f"{INITIAL} {checkpoint.name}, SHA-256 {digest}"
    header = ModelHeader(output.stem, labels, None, source, "as its source says")
    write_weights(output, header, [(spec, network.state_dict())], half=False)
    return Initial(output, taken, len(state) - taken, unused)


def _renamed(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {}
    for key, tensor in tensors.items():
        ours = key if key.startswith("fc.") else f"backbone.{key}"
        for pattern, to in RESNET_NAMES:
            ours = re.sub(pattern, to, ours)
        state[ours] = tensor
    return state


def _hyper(
    image: dict[str, Tensor], architecture: str, modality: str, segments: int | None, path: Path
) -> dict[str, Any]:
    blocks = [count_blocks(image, f"backbone.layer{stage}.") for stage in (1, 2, 3, 4)]
    bottleneck = "backbone.layer1.0.conv3.conv.weight" in image
    hyper: dict[str, Any] = {
        "classes": shape(image, "fc.weight")[0],
        "width": shape(image, "backbone.conv1.conv.weight")[0],
    }
    if not bottleneck and architecture in ("stm", "tanet", "tdn"):
        raise UsageError("bad_choice", f"{path}: {architecture} needs ResNet-50 or a deeper one")
    if modality == "flow" and architecture in ("tdn", "resnet3d", "slowfast"):
        raise UsageError("bad_choice", f"--modality flow: {architecture} sees frames")
    if architecture == "slowfast":
        slow = [[[3 if stage > 1 else 1, 1]] * count for stage, count in enumerate(blocks)]
        fast = [[[3, 1]] * count for count in blocks]
        return hyper | {
            "slow_taps": slow, "fast_taps": fast, "bottleneck": bottleneck, "lateral_norm": False,
            "fast_first": True, "even": False, "fusion": 5, "alpha": 8, "fast_width": hyper["width"] // 8,
        }  # fmt: skip
    if architecture == "resnet3d":
        return hyper | {
            "taps": inflated_taps(blocks), "bottleneck": bottleneck, "stem": 5, "stem_stride": 2,
            "pool_stride": 2, "halve": True,
        }  # fmt: skip
    hyper |= {"blocks": blocks, "segments": segments or 8}
    if modality == "flow":
        hyper |= {"channels": 2, "stack": FLOWS}
    if architecture in ("tsn-resnet", "tsm"):
        hyper["bottleneck"] = bottleneck
    return hyper


def inflated_taps(blocks: list[int]) -> list[list[list[int]]]:
    """I3D-ResNet's: three taps in all blocks of the first stage and in every second one of the others."""
    return [
        [[3 if stage == 0 or place % 2 == (stage == 3) else 1, 1] for place in range(count)]
        for stage, count in enumerate(blocks)
    ]


def initial_state(
    image: dict[str, Tensor], wanted: dict[str, Tensor]
) -> tuple[dict[str, Tensor], int, tuple[str, ...]]:
    """(complete state, tensors that came from the image network, its keys that nothing takes)."""
    slow = any(key.startswith("slow.") for key in wanted)
    image = {key.replace("backbone.", "slow.") if slow else key: value for key, value in image.items()}
    state, used = {}, set()
    for key, tensor in wanted.items():
        origin = _origin(key)
        state[key] = tensor
        if origin not in image:
            continue
        fitted = _fitted(image[origin], tensor)
        if fitted is not None:
            state[key] = fitted.to(tensor.dtype)
            used.add(origin)
    taken = sum(state[key] is not wanted[key] for key in wanted)
    return state, taken, tuple(sorted(set(image) - used))


def _origin(key: str) -> str:
    """Where a tensor comes from: TDN's difference path is a second copy of the first layers."""
    return key.replace("backbone.short_conv.conv.", "backbone.conv1.conv.").replace(
        "backbone.short_layer.", "backbone.layer1."
    )


def _fitted(image: Tensor, wanted: Tensor) -> Tensor | None:
    """A tensor of the image network in the shape that is wanted; None where that makes no sense."""
    if image.shape == wanted.shape:
        return image.clone()
    if image.ndim != 4 or wanted.ndim not in (4, 5) or image.shape[0] != wanted.shape[0]:
        return None
    if image.shape[2:] != wanted.shape[-2:]:
        return None
    channels = wanted.shape[1]
    if image.shape[1] == 3 and channels != 3:  # colours; flow or differences
        image = image.mean(1, keepdim=True).expand(-1, channels, -1, -1)
    elif channels > image.shape[1]:  # what SlowFast's lateral connections bring begins without weight
        nothing = image.new_zeros(image.shape[0], channels - image.shape[1], *image.shape[2:])
        image = torch.cat([image, nothing], 1)
    elif channels != image.shape[1]:
        return None
    if wanted.ndim == 5:
        taps = wanted.shape[2]
        image = image[:, :, None].expand(-1, -1, taps, -1, -1) / taps
    return image.contiguous().clone()
