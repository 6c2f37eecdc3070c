"""Strided 1x1 convolutions of few channels: the same numbers, and a heap that stays whole."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from vpipe.models.layers import ThinnedConv2d, conv2d

# The heap is looked at whenever something is freed.
TRAINED = """
import torch
from vpipe.models.layers import channels_last
from vpipe.models.registry import build

torch.set_num_threads(1)
for architecture, hyper in (
    ("tsn", {"frames": 8, "channels": 3, "widths": [4, 8, 8, 8]}),
    ("tsn-resnet", {"segments": 8, "blocks": [1, 1, 1, 1], "width": 4, "bottleneck": False}),
    ("tsm", {"segments": 8, "blocks": [1, 1, 1, 1], "width": 4, "share": 4}),
):
    torch.manual_seed(0)
    network = channels_last(build(architecture, {"classes": 2, **hyper})).train()
    for _ in range(20):
        network(torch.rand(8, 8, 3, 32, 32)).sum().backward()
print("whole")
"""


@pytest.mark.parametrize("few", [1, 3, 4, 7, 15])
@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_it_is_the_convolution(few: int, size: tuple[int, int]) -> None:
    torch.manual_seed(few)
    ours = conv2d(few, 8, 1, 2, bias=True).double()
    assert type(ours) is ThinnedConv2d
    plain = nn.Conv2d(few, 8, 1, 2).double()
    plain.load_state_dict(ours.state_dict())
    x = torch.randn(3, few, *size, dtype=torch.float64)
    torch.testing.assert_close(ours(x), plain(x), atol=1e-12, rtol=1e-12)
    for conv in (ours, plain):
        conv(x).square().sum().backward()
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, atol=1e-10, rtol=1e-10)


def test_published_networks_have_the_plain_one() -> None:
    assert type(conv2d(64, 256, 1, 2, bias=False)) is nn.Conv2d
    assert type(conv2d(4, 8, 3, 2, 1, bias=False)) is nn.Conv2d


def test_training_keeps_the_heap_whole_without_avx512() -> None:
    kept = os.environ | {"ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(
        [sys.executable, "-c", TRAINED], env=kept, capture_output=True, text=True, check=False, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
