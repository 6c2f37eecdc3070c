"""What moves the weights: parameters with rates of their own, frozen batch norms, a moving average."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from vpipe.training.recipe import Recipe

BatchNorm = nn.modules.batchnorm._BatchNorm


def make_optimiser(network: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum. Weight decay is for matrices and kernels only."""
    groups = _groups(network, recipe)
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=recipe.learning_rate, momentum=recipe.momentum)
    return torch.optim.AdamW(groups, lr=recipe.learning_rate)


def set_rate(optimiser: torch.optim.Optimizer, rate: float, momentum: float | None) -> None:
    """The rate of every group, times its own factor, and the momentum where the schedule moves it."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["factor"]
        if momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif momentum is not None:
            group["momentum"] = momentum


def _groups(network: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """By decay and by rate: the last layer's is times `head_rate`, biases' times `bias_rate`."""
    found: dict[tuple[float, float], list[nn.Parameter]] = {}
    head = {id(p) for p in head_of(network).parameters()}
    norms = {id(p) for layer in network.modules() if isinstance(layer, BatchNorm) for p in layer.parameters()}
    for parameter in network.parameters():
        if not parameter.requires_grad:
            continue
        matrix = parameter.ndim > 1
        decay = recipe.weight_decay if matrix else 0.0
        factor = recipe.head_rate if id(parameter) in head else 1.0
        if not matrix and id(parameter) not in norms:
            factor *= recipe.bias_rate
        found.setdefault((decay, factor), []).append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "factor": factor}
        for (decay, factor), parameters in found.items()
    ]


def head_of(network: nn.Module) -> nn.Module:
    """The layer whose rows are the labels: `fc` in most networks, else the last linear one."""
    linear = [layer for layer in network.modules() if isinstance(layer, (nn.Linear, nn.Conv2d, nn.Conv3d))]
    found = getattr(network, "fc", linear[-1])
    assert isinstance(found, nn.Module)
    return found


def freeze(network: nn.Module, which: str) -> None:
    """Train mode, with batch norms that keep their statistics and scales.

    which: "none"; "all"; "partial": all but the first (TSN, section 3.4).
    """
    network.train()
    norms = [layer for layer in network.modules() if isinstance(layer, BatchNorm)]
    for norm in norms[{"none": len(norms), "all": 0, "partial": 1}[which] :]:
        norm.eval()
        for parameter in norm.parameters():
            parameter.requires_grad_(False)


def drop_inputs_of_head(network: nn.Module, share: float) -> None:
    """In train mode, `share` of what the last layer sees is zero (Srivastava et al. 2014)."""

    def drop(head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (nn.functional.dropout(inputs[0], share, head.training), *inputs[1:])

    head_of(network).register_forward_pre_hook(drop)


class Average:
    """An exponential moving average of the weights, which then is the model (Tarvainen and Valpola 2017).

    Its memory is short at first: after n steps `decay` is at most (1 + n) / (10 + n).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay, self.steps = decay, 0
        self._weights = {name: p.detach().clone() for name, p in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        share = 1 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        self.steps += 1
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self._weights[name].lerp_(value, share)
            else:
                self._weights[name].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps = int(state["steps"])
        for name, value in state["weights"].items():
            self._weights[name].copy_(value)

    def weights(self) -> dict[str, Tensor]:
        return self._weights
