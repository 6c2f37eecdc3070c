"""The architectures by name: how a weight file's hyper-parameters become a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from vpipe.errors import UsageError
from vpipe.models.tsm_diff import TSMDiff, TSMDiffDims
from vpipe.models.tsn import TSN, TSNDims


def _tuples(hyper: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in hyper.items()}


ARCHITECTURES: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "tsn": lambda hyper: TSN(TSNDims(**_tuples(hyper))),
    "tsm-diff": lambda hyper: TSMDiff(TSMDiffDims(**_tuples(hyper))),
}


def build(architecture: str, hyper: dict[str, Any]) -> nn.Module:
    """A network with fresh weights. Raises UsageError for an unknown architecture or hyper-parameter."""
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UsageError("unknown_architecture", f"unknown architecture '{architecture}'; known: {known}")
    try:
        return ARCHITECTURES[architecture](hyper)
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError("bad_hyper_parameter", f"{architecture}: {error}") from None
