"""Temporal kernels against closed forms, and networks whose kernels are known."""

import math
from typing import Any

import pytest
import torch
from torch import nn

from vpipe.comparison.temporal_kernels import FREQUENCIES, analyse, describe, lines, temporal_kernels
from vpipe.models.registry import build

from ..models.test_networks import TINY


def response(*taps: float) -> tuple[float, ...]:
    return analyse("layer", "kind", torch.tensor([taps])).response


def energy(*taps: float) -> float:
    return math.sqrt(sum(tap * tap for tap in taps))


def test_a_moving_average_lets_through_what_stands_still() -> None:
    third = 1 / 3
    expected = [abs(1 + 2 * math.cos(2 * math.pi * f)) / 3 / energy(third, third, third) for f in FREQUENCIES]
    assert response(third, third, third) == pytest.approx(expected, abs=1e-6)
    found = analyse("layer", "kind", torch.tensor([[third, third, third]]))
    assert (found.smoothing, found.differences, found.taps) == (1.0, 0.0, 3)
    assert found.correlation == pytest.approx((1.0, 1.0))


def test_differences_let_through_what_changes() -> None:
    central = [2 * abs(math.sin(2 * math.pi * f)) / math.sqrt(2) for f in FREQUENCIES]
    assert response(-1, 0, 1) == pytest.approx(central, abs=1e-6)
    assert analyse("layer", "kind", torch.tensor([[-1.0, 0, 1]])).correlation == pytest.approx((0.0, -1.0))
    neighbours = [2 * abs(math.sin(math.pi * f)) / math.sqrt(2) for f in FREQUENCIES]
    assert response(-1, 1) == pytest.approx(neighbours, abs=1e-6)
    found = analyse("layer", "kind", torch.tensor([[-1.0, 1]]))
    assert (found.smoothing, found.differences) == (0.0, 1.0)
    assert found.correlation == pytest.approx((-1.0,))


def test_a_single_tap_answers_to_everything_alike() -> None:
    assert response(0, 0.3, 0) == pytest.approx([1.0] * len(FREQUENCIES))
    assert analyse("layer", "kind", torch.tensor([[0, 0.3, 0]])).correlation == (0.0, None)
    assert analyse("layer", "kind", torch.zeros(2, 3)).response == (0.0,) * len(FREQUENCIES)


def test_several_kernels_share_the_response() -> None:
    found = analyse("layer", "kind", torch.tensor([[1.0, 1], [-1, 1]]))
    assert found.response == pytest.approx([1.0] * len(FREQUENCIES))  # cos^2 + sin^2
    assert (found.kernels, found.smoothing, found.differences) == (2, 0.5, 0.5)
    assert found.correlation == pytest.approx((0.0,))


def test_kernels_are_taken_along_time() -> None:
    conv = nn.Conv3d(2, 3, (3, 1, 1), bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([-1.0, 0, 1]).view(1, 1, 3, 1, 1))
    (found,) = temporal_kernels(nn.Sequential(conv, nn.Conv3d(3, 3, (1, 3, 3)), nn.Conv2d(3, 3, 3)))
    assert (found.layer, found.kind, found.kernels) == ("0", "temporal convolution", 6)
    assert found.response == pytest.approx(response(-1, 0, 1))


def network(name: str, **changes: Any) -> nn.Module:
    torch.manual_seed(1)
    return build(name, {**TINY[name], **changes}).eval()


@pytest.mark.parametrize(
    ("name", "kinds", "fixed"),
    [
        ("tsn-resnet", set(), ""),
        ("tsm", set(), "temporal shift in 4 blocks"),
        ("tsm-mobilenetv2", set(), "temporal shift"),
        ("tsm-diff", {"frames and their differences"}, "temporal shift in 3 blocks"),
        ("tea", {"depthwise temporal convolution"}, ""),
        ("stm", {"depthwise temporal convolution"}, ""),
        ("tdn", {"depthwise temporal convolution", "frame differences"}, ""),
        ("tanet", {"temporal convolution"}, "adaptive convolution in 4 blocks"),
        ("r3d", {"3-D convolution", "temporal convolution"}, ""),
        ("i3d", {"3-D convolution"}, ""),
        ("slowfast", {"3-D convolution", "temporal convolution"}, ""),
    ],
)
def test_every_network_says_what_it_has(name: str, kinds: set[str], fixed: str) -> None:
    found = describe(network(name))
    assert {layer["kind"] for layer in found["layers"]} == kinds
    assert found["none"] == (not kinds)
    assert any(sentence.startswith(fixed) for sentence in found["fixed"]) == bool(fixed)
    said = "\n".join(lines(found))
    assert ("no learned temporal kernel: no layer" in said) == (not kinds)


def test_stacked_flows_are_taps_of_the_first_layer() -> None:
    plain = network("tsn-resnet", segments=1, channels=2, stack=4)
    (found,) = temporal_kernels(plain, stack=4)
    assert (found.layer, found.taps, found.kernels) == ("backbone.conv1.conv", 4, 16 * 2 * 49)
    weight = plain.get_parameter("backbone.conv1.conv.weight")
    expected = analyse("", "", torch.stack([weight[:, k * 2 : k * 2 + 2].flatten() for k in range(4)], -1))
    assert found.response == pytest.approx(expected.response)


def test_tdn_sees_differences_alone() -> None:
    found = next(layer for layer in temporal_kernels(network("tdn")) if layer.kind == "frame differences")
    assert found.taps == 5
    assert found.response[0] == pytest.approx(0, abs=1e-6)
    assert (found.smoothing, found.differences) == (0.0, 1.0)


def test_the_taps_of_tsm_diff_are_what_its_first_layer_does_to_grey_frames() -> None:
    """An impulse in one of three grey frames gives the tap of that frame."""
    built = network("tsm-diff", frames=3)
    first = next(module for module in built.modules() if isinstance(module, nn.Conv2d))
    seen: list[torch.Tensor] = []
    first.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    side, at = 16, 8
    taps = []
    for frame in range(3):
        clip = torch.zeros(1, 3, 3, side, side)
        clip[0, frame, :, at, at] = 1
        with torch.inference_mode():
            built(clip)
        taps.append(seen.pop()[1])  # of the middle frame: (out, H, W)
    # At output place p the impulse meets the kernel's place at - 2 p + 2; every place comes once in both.
    at_centre = torch.stack([tap[:, at // 2, at // 2] for tap in taps], -1)
    from vpipe.comparison.temporal_kernels import _of_tsm_diff

    kernels = _of_tsm_diff(built).unflatten(0, (first.out_channels, *first.kernel_size))
    assert torch.allclose(kernels[:, 2, 2], at_centre, atol=1e-5)
