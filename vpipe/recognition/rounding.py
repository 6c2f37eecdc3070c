"""Weights in a short precision, rounded so that the errors of every filter cancel instead of adding up.

A filter's inputs have a mean that is not zero, above all after a ReLU, and its weights' errors times those
means are most of what bfloat16 does to a network. Each weight therefore takes over what the ones before it
have left of that sum (error diffusion, Floyd and Steinberg 1976, along a filter). The means are those of one
clip of noise that has as much of every scale, as natural pictures do.
"""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

SMALLEST_MEAN = 1e-3
HALF_STEP = 2.0**-9  # of a bfloat16 weight, as a share of it: what one weight takes over at most

Shape = tuple[int, int, int, int]  # (T, C, H, W) of a clip


def round_weights(network: nn.Module, dtype: torch.dtype, shape: Shape) -> None:
    """In place: weights of convolutions become values of `dtype`; their type stays. In eval mode, float32."""
    of_length: dict[int, list[tuple[Tensor, Tensor]]] = defaultdict(list)  # filters of a length go together
    for conv, means in input_means(network, shape).items():
        weight = conv.weight.data
        each = means.repeat_interleave(weight[0, 0].numel()) if conv.groups == 1 else None
        length = weight[0].numel()
        of_length[length].append((weight, torch.ones(length).to(weight) if each is None else each))
    for layers in of_length.values():
        filters = torch.cat([weight.flatten(1) for weight, _ in layers])
        means = torch.cat([each.expand(len(weight), -1) for weight, each in layers])
        sizes = [len(weight) for weight, _ in layers]
        for (weight, _), rounded in zip(layers, diffused(filters, means, dtype).split(sizes), strict=True):
            weight.copy_(rounded.view(weight.shape))


def diffused(filters: Tensor, means: Tensor, dtype: torch.dtype) -> Tensor:
    """(F, K) filters and the means of their inputs, float32 -> (F, K) values of `dtype`, float32."""
    most = filters.abs().amax(1) * HALF_STEP
    means = torch.where(means.abs() < SMALLEST_MEAN, SMALLEST_MEAN, means)
    left = torch.zeros_like(most)  # of the sum of errors times means
    columns = filters.t().contiguous()
    for column, mean in zip(columns, means.t(), strict=True):
        takes = torch.minimum(torch.maximum(left / mean, -most), most)
        rounded = (column + takes).to(dtype).to(column)
        left += (column - rounded) * mean
        column.copy_(rounded)
    return columns.t()


def input_means(network: nn.Module, shape: Shape) -> dict[nn.Conv2d | nn.Conv3d, Tensor]:
    """Of every convolution that a clip goes through: the mean of each input channel, (C,)."""
    found: dict[nn.Conv2d | nn.Conv3d, Tensor] = {}

    def look(conv: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(conv, nn.Conv2d | nn.Conv3d)
        found[conv] = inputs[0].transpose(0, 1).flatten(1).mean(1)

    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Conv3d)]
    if not convolutions:
        return found
    handles = [module.register_forward_pre_hook(look) for module in convolutions]
    try:
        with torch.inference_mode():
            network(natural_noise(shape).to(convolutions[0].weight.device))
    finally:
        for handle in handles:
            handle.remove()
    return found


def natural_noise(shape: Shape) -> Tensor:
    """(1, T, C, H, W) float32 of variance 1, the same each time: half of it stands still."""
    frames, channels, height, width = shape
    random = torch.Generator().manual_seed(0)
    clip = torch.zeros(frames, channels, height, width)
    side = 2
    while side <= max(height, width):
        for count in (1, frames):
            cells = torch.randn(count, channels, side, side, generator=random)
            clip += interpolate(cells, (height, width), mode="nearest")
        side *= 2
    return (clip / clip.std())[None]
