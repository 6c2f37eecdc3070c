"""Kernels recorded as CUDA graphs, so that starting them from Python does not bound the speed."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

import torch

Result = TypeVar("Result")


class Recordings:
    """What was recorded on one device, by key."""

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._graphs: dict[Hashable, tuple[torch.cuda.CUDAGraph, Any]] = {}
        self._compiled: set[Hashable] = set()

    def replay(self, key: Hashable, launch: Callable[[], Result]) -> Result:
        """`launch` starts work on the device, the same for this key each time, and never waits for it.

        The first time it is called, as kernels may compile, which cannot be recorded; the second time a recording
        of it is made, and from then on replayed. Returns what it returned: tensors of a recording are filled anew
        by every replay. Without a GPU it is called each time.
        """
        if not self._on_gpu or key not in self._compiled:
            self._compiled.add(key)
            return launch()
        if key not in self._graphs:
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the device meanwhile.
            graph.capture_begin(capture_error_mode="thread_local")
            try:
                result = launch()
            finally:
                graph.capture_end()
            self._graphs[key] = graph, result
        graph, result = self._graphs[key]
        graph.replay()
        return cast(Result, result)
