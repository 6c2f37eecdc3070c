"""How large the architectures are as published, and what is published of their accuracy.

`parameters` and `gmacs` (10^9 multiply-accumulates of one clip) are what `count` gives; a test compares them.
Accuracies are those of the page or paper in `source`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from vpipe.models.registry import build


@dataclass(frozen=True)
class Size:
    """An architecture as it was published; `shape` is (T, C, H, W) of a clip."""

    architecture: str
    shape: tuple[int, int, int, int]
    parameters: int
    gmacs: float
    accuracy: str = ""
    source: str = ""
    hyper: dict[str, Any] = field(default_factory=lambda: {"classes": 400})

    @property
    def input(self) -> str:
        return "x".join(str(n) for n in self.shape)


def count(network: nn.Module, shape: tuple[int, int, int, int]) -> tuple[int, float]:
    """(parameters, 10^9 multiply-accumulates of one clip of `shape`, T, C, H, W). The device may be meta."""
    device = next(network.parameters()).device
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network.eval()(torch.zeros(1, *shape, device=device))
    return sum(one.numel() for one in network.parameters()), counter.get_total_flops() / 2e9


def count_of(architecture: str, hyper: dict[str, Any], shape: tuple[int, int, int, int]) -> tuple[int, float]:
    """The same for a network that is not there."""
    with torch.device("meta"):
        network = build(architecture, hyper)
    return count(network, shape)


_R50 = (8, 3, 224, 224)
SIZES = (
    Size("c3d", (16, 3, 112, 112), 78_409_573, 38.5, "UCF101 83.1", "open-mmlab/mmaction2", {"classes": 101}),
    Size(
        "i3d",
        (64, 3, 224, 224),
        12_697_264,
        111.2,
        "Kinetics-400 RGB 71.1, flow 63.4, both 74.2",
        "Carreira and Zisserman 2017",
    ),
    Size("r3d", (16, 3, 112, 112), 31_505_325, 40.5, "Kinetics-400 67.5", "torchvision, R(2+1)D-18"),
    Size(
        "resnet3d", _R50, 32_454_096, 41.7, "Kinetics-400 74.6", "facebookresearch/pytorchvideo, Slow R50 8x8"
    ),
    Size(
        "slowfast",
        (32, 3, 224, 224),
        34_566_488,
        50.3,
        "Kinetics-400 76.4",
        "facebookresearch/pytorchvideo, R50 8x8",
    ),
    Size(
        "stm",
        _R50,
        24_498_740,
        33.0,
        "16 frames: Something v1 50.7, v2 64.2, Kinetics-400 73.7",
        "Jiang et al. 2019",
    ),
    Size(
        "tanet",
        _R50,
        25_590_320,
        32.7,
        "Kinetics-400 76.1, Something v1 46.5, v2 62.7",
        "liu-zhy/temporal-adaptive-module",
    ),
    Size(
        "tdn",
        (40, 3, 224, 224),
        24_873_648,
        35.6,
        "Kinetics-400 76.6, Something v1 52.3, v2 64.0",
        "MCG-NJU/TDN",
    ),
    Size("tea", _R50, 24_919_354, 34.5, "no checkpoint released", "Phoenix1327/tea-action-recognition"),
    Size(
        "tsm",
        _R50,
        24_327_632,
        32.7,
        "Kinetics-400 71.2, Something v1 45.6, v2 61.2",
        "mit-han-lab/temporal-shift-module",
    ),
    Size("tsm-mobilenetv2", _R50, 2_736_272, 2.4, "Kinetics-400 69.5", "mit-han-lab/temporal-shift-module"),
    Size(
        "tsn-bninception",
        (3, 3, 224, 224),
        10_373_765,
        6.1,
        "UCF101 94.2 and HMDB51 69.4 with flow",
        "Wang et al. 2016",
        {"classes": 101},
    ),
    Size("tsn-resnet", _R50, 24_327_632, 32.7, "Kinetics-400 68.8", "mit-han-lab/temporal-shift-module"),
    Size(
        "vgg16",
        (10, 2, 224, 224),
        134_684_133,
        16.0,
        "UCF101 85.7 (flow)",
        "bryanyzhu/two-stream-pytorch",
        {"classes": 101, "channels": 2, "stack": 10},
    ),
)
