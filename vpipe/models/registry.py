"""The architectures by name: how a weight file's hyper-parameters become a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, get_type_hints

from torch import nn

from vpipe.errors import UsageError

ARCHITECTURES: dict[str, type[nn.Module]] = {}
_Network = TypeVar("_Network", bound=type[nn.Module])


def register(name: str) -> Callable[[_Network], _Network]:
    """Makes a network known by `name`. Its constructor takes one dataclass of hyper-parameters, `dims`."""

    def known(network: _Network) -> _Network:
        if name in ARCHITECTURES:
            raise ValueError(f"architecture '{name}' is registered twice")
        ARCHITECTURES[name] = network
        return network

    return known


def build(architecture: str, hyper: dict[str, Any]) -> nn.Module:
    """A network with fresh weights. Raises UsageError for an unknown architecture or hyper-parameter."""
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise UsageError("unknown_architecture", f"unknown architecture '{architecture}'; known: {known}")
    network = ARCHITECTURES[architecture]
    try:
        dims = get_type_hints(network.__init__)["dims"]
        return network(dims(**{name: _tuples(value) for name, value in hyper.items()}))
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise UsageError("bad_hyper_parameter", f"{architecture}: {error}") from None


def _tuples(value: Any) -> Any:
    """JSON's lists as the tuples they were written from."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
