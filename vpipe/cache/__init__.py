"""The flow cache: content-addressed, crash-safe, shared by processes, verified whenever it is read."""

from vpipe.cache.store import Counts, FlowCache, FlowEntry

__all__ = ["Counts", "FlowCache", "FlowEntry"]
