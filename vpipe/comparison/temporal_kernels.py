"""What the learned temporal kernels of a network do to time: smooth it, tell its changes, or neither.

A kernel is the row of taps w[t] along time that a convolution has for one input channel, output channel and
place of the picture.

correlation  of taps d frames apart: sum of w[t] w[t+d] over the mean of the energies of w[t] and w[t+d].
             1: the frames are averaged; 0: unrelated; below 0: their difference is taken.
response     |W(f)| = |sum of w[t] exp(-2 pi i f t)| at f cycles a frame: how strongly a kernel answers to
             what changes that fast. f = 0 stands still, f = 1/2 changes from every frame to the next.
             A moving average [1, 1, 1] / 3 has |1 + 2 cos(2 pi f)| / 3.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vpipe.models.blocks import ResidualBlock
from vpipe.models.layers import TemporalConv
from vpipe.models.networks.tanet import TAM
from vpipe.models.networks.tdn import TDNBackbone
from vpipe.models.networks.tsm import Shift
from vpipe.models.networks.tsm_diff import TSMDiff
from vpipe.models.networks.tsm_mobilenetv2 import InvertedResidual
from vpipe.models.non_local import NonLocal

FREQUENCIES = tuple(k / 16 for k in range(9))  # cycles a frame, up to the highest there is
HEAD = (
    "layer", "kind", "kernels", "taps", "correlation", "|W(0)|", "|W(1/4)|", "|W(1/2)|", "smooth", "change"
)  # fmt: skip
CHANGES = 0.1  # a kernel whose taps sum to less than this share of their absolute sum answers to change alone


@dataclass(frozen=True)
class KernelReport:
    """The temporal kernels of a layer, or of several.

    `response` is the root mean square over kernels at FREQUENCIES, as a multiple of that of kernels of the
    same energy that pass a single frame on (those have 1 everywhere).
    """

    layer: str
    kind: str
    kernels: int
    taps: int
    correlation: tuple[float | None, ...]  # of taps 1, 2, ... frames apart; None where one is zero always
    response: tuple[float, ...]
    smoothing: float  # share of kernels that answer more to what stands still than to the fastest change
    differences: float  # share of kernels that answer to change alone: their taps sum to nearly nothing

    def to_json(self) -> dict[str, Any]:
        return {
            "layer": self.layer,
            "kind": self.kind,
            "kernels": self.kernels,
            "taps": self.taps,
            "correlation": [None if value is None else round(value, 4) for value in self.correlation],
            "response": [round(value, 4) for value in self.response],
            "smoothing": round(self.smoothing, 4),
            "differences": round(self.differences, 4),
        }


def analyse(layer: str, kind: str, kernels: Tensor) -> KernelReport:
    """The report on `kernels` (K, taps)."""
    w = kernels.detach().double().cpu()
    spectrum = _spectrum(w)
    energy = w.square().sum().clamp_min(torch.finfo(torch.double).tiny)
    return KernelReport(
        layer,
        kind,
        kernels=len(w),
        taps=w.shape[1],
        correlation=tuple(_correlation(w, distance) for distance in range(1, w.shape[1])),
        response=tuple((spectrum.square().sum(0) / energy).sqrt().tolist()),
        smoothing=float((spectrum[:, 0] > spectrum[:, -1]).double().mean()),
        differences=float((w.sum(1).abs() < CHANGES * w.abs().sum(1)).double().mean()),
    )


def _spectrum(w: Tensor) -> Tensor:
    """|W(f)| (K, frequencies) of kernels (K, taps)."""
    times = torch.arange(w.shape[1], dtype=torch.double)
    angles = -2 * torch.pi * torch.outer(times, torch.tensor(FREQUENCIES, dtype=torch.double))
    return torch.complex(w @ angles.cos(), w @ angles.sin()).abs()


def _correlation(w: Tensor, distance: int) -> float | None:
    first, second = w[:, :-distance], w[:, distance:]
    energies = first.square().sum() * second.square().sum()
    if energies == 0:
        return None
    return float((first * second).sum() / ((first.square().sum() + second.square().sum()) / 2))


def temporal_kernels(network: nn.Module, stack: int = 1) -> list[KernelReport]:
    """A report on every layer with learned kernels of more than one tap along time, in the network's order.

    stack: inputs that are channels of one picture, as in a temporal stream: its first layer sees time then.
    """
    return [analyse(*found) for found in _found(network, stack)]


def _found(network: nn.Module, stack: int) -> Iterator[tuple[str, str, Tensor]]:
    """Name, kind and kernels (K, taps) of each layer."""
    if stack > 1 and not any(isinstance(module, TDNBackbone) for module in network.modules()):
        name, first = next(item for item in network.named_modules() if isinstance(item[1], nn.Conv2d))
        over_time = first.weight.unflatten(1, (stack, -1)).movedim(1, -1)
        yield name, "convolution over stacked inputs", over_time.flatten(0, -2)
    for name, module in network.named_modules():
        if isinstance(module, nn.Conv3d) and module.kernel_size[0] > 1:
            flat = module.kernel_size[1:] == (1, 1)
            kind = "temporal convolution" if flat else "3-D convolution"
            yield name, kind, module.weight.movedim(2, -1).flatten(0, -2)
        elif isinstance(module, nn.Conv1d) and module.kernel_size[0] > 1:
            yield name, "temporal convolution", module.weight.flatten(0, 1)
        elif isinstance(module, TemporalConv):
            yield name, "depthwise temporal convolution", module.weight.flatten(0, 1)
        elif isinstance(module, TSMDiff):
            yield "input", "frames and their differences", _of_tsm_diff(module)
        elif isinstance(module, TDNBackbone):
            yield f"{name}.short_conv", "frame differences", _of_tdn(module)


def _of_tsm_diff(network: TSMDiff) -> Tensor:
    """The taps of the first convolution on the grey frames before, now and after: (K, 3).

    It sees R, G, B, gain (g[t] - g[t-1]) and gain (g[t+1] - g[t]).
    """
    first = next(module for module in network.backbone.modules() if isinstance(module, nn.Conv2d))
    colour, behind, ahead = first.weight.split([3, 1, 1], 1)
    behind, ahead = network.dims.gain * behind[:, 0], network.dims.gain * ahead[:, 0]
    return torch.stack([-behind, colour.sum(1) + behind - ahead, ahead], -1).flatten(0, -2)


def _of_tdn(backbone: TDNBackbone) -> Tensor:
    """The taps of the short-term module on the frames of a segment: (K, 5), with sum 0."""
    conv = backbone.short_conv.conv
    assert isinstance(conv, nn.Conv2d)
    steps = conv.weight.unflatten(1, (-1, 3))  # of each frame minus the one before
    none = torch.zeros_like(steps[:, :1])
    return (torch.cat([none, steps], 1) - torch.cat([steps, none], 1)).movedim(1, -1).flatten(0, -2)


def fixed_mixing(network: nn.Module) -> list[str]:
    """What mixes frames without a learned kernel, a sentence each."""
    modules = list(network.modules())
    said = []
    shares = [module.share for module in modules if isinstance(module, Shift)]
    shares += [module.share for module in modules if isinstance(module, InvertedResidual) and module.shifted]
    shares += [8 for module in modules if isinstance(module, ResidualBlock) and module.frames]
    if shares:
        said.append(
            f"temporal shift in {len(shares)} blocks: 1/{shares[0]} of the channels come from the next frame "
            "and as many from the one before, a fixed delay; no temporal kernel is learned there"
        )
    adaptive = [module for module in modules if isinstance(module, TAM)]
    if adaptive:
        said.append(
            f"adaptive convolution in {len(adaptive)} blocks: its {adaptive[0].kernel} taps are made anew "
            "for every clip and channel; no fixed kernel, but always a weighted mean: positive, with sum 1"
        )
    distant = sum(isinstance(module, NonLocal) for module in modules)
    if distant:
        said.append(f"non-local blocks: {distant}, whose weights over frames are made anew for every clip")
    return said


def describe(network: nn.Module, stack: int = 1) -> dict[str, Any]:
    """For JSON: {"frequencies", "layers": [KernelReport], "fixed": [sentence], "none": bool}."""
    layers = temporal_kernels(network, stack)
    return {
        "frequencies": list(FREQUENCIES),
        "layers": [report.to_json() for report in layers],
        "fixed": fixed_mixing(network),
        "none": not layers,
    }


def lines(described: dict[str, Any]) -> list[str]:
    """What `describe` found, for people."""
    said = [f"  {sentence}" for sentence in described["fixed"]]
    if described["none"]:
        return [*said, "  no learned temporal kernel: no layer of this network has taps along time"]
    rows: list[tuple[str, ...]] = [HEAD]
    for layer in described["layers"]:
        response, correlation = layer["response"], layer["correlation"][0]
        rows.append(
            (
                layer["layer"],
                layer["kind"],
                str(layer["kernels"]),
                str(layer["taps"]),
                "-" if correlation is None else f"{correlation:+.2f}",
                *(f"{response[k]:.2f}" for k in (0, len(response) // 2, -1)),
                f"{layer['smoothing']:.0%}",
                f"{layer['differences']:.0%}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return [*said, *(f"  {line.rstrip()}" for line in table)]
