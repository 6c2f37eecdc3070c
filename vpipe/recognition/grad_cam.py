"""Where in its input a network sees a label, by autograd: any architecture, imported or trained.

Selvaraju et al., "Grad-CAM", 2017, section 3: the last feature maps, weighted by how much the label's score
grows with each channel, negative parts cut off. With a mean over the picture before a linear layer that is
the class activation map of Zhou et al. 2016.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def class_activation(network: nn.Module, clip: Tensor, label: int) -> Tensor:
    """(T', h, w) float32, at least 0: where the network sees `label` in a clip (1, T, C, H, W).

    T' are the places in time that its last maps have. The network stays as it was.
    """
    kept: list[Tensor] = []

    def cut(module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        # What comes before needs no gradient, and so no memory for one.
        kept.append(output.detach().requires_grad_())
        return kept[0]

    handle = _last_maps(network).register_forward_hook(cut)
    try:
        with torch.inference_mode(False), torch.enable_grad():
            score = network(clip.clone())[0, label]
            (gradient,) = torch.autograd.grad(score, kept[0])
    finally:
        handle.remove()
    maps = kept[0].detach()
    strength = gradient.mean((-2, -1), keepdim=True)
    seen = (strength * maps).sum(1).relu()  # 2-D: (T', h, w); 3-D: (1, T', h, w)
    return (seen[0] if seen.ndim == 4 else seen).float()


def _last_maps(network: nn.Module) -> nn.Module:
    """The part of a network that gives its last maps: (T', C, h, w), or (1, C, T', h, w) of a 3-D one."""
    found = getattr(network, "backbone", None)
    if found is None:  # SlowFast: its slow path
        found = network.get_submodule("slow.layer4")
    assert isinstance(found, nn.Module)
    return found
