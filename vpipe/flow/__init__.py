"""Optical flow: the recipe, how it is computed, how it is rounded for storage, how it is drawn.

From Python: `FlowParams`, `tvl1` and `tvl1_sequence`, as docs/flow.md shows.
"""

from typing import TYPE_CHECKING, Any

from vpipe.flow.params import FlowParams

if TYPE_CHECKING:
    from vpipe.flow.tvl1_engine import tvl1, tvl1_sequence

__all__ = ["FlowParams", "tvl1", "tvl1_sequence"]


def __getattr__(name: str) -> Any:
    if name in ("tvl1", "tvl1_sequence"):
        from vpipe.flow import tvl1_engine  # numba only for who computes (start-up)

        return getattr(tvl1_engine, name)
    raise AttributeError(f"module 'vpipe.flow' has no attribute '{name}'")
