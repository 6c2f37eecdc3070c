"""What a short precision costs: the first clip goes through the network in float32 too."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Say = Callable[[str], None]


class FirstClip:
    """Says once how far the probabilities of the first clip are from those of float32."""

    def __init__(self, network: nn.Module, dtype: str, modality: str, say: Say) -> None:
        self._network, self._dtype, self._modality, self._say = network, dtype, modality, say
        self._told = False

    def compare(self, batch: Tensor, probabilities: Tensor) -> None:
        """batch (N, T, C, H, W) as it went in, and what came out, (N, labels) float32."""
        if self._told or not len(batch):
            return
        self._told = True
        first = batch[:1].to(next(self._network.parameters(), probabilities))  # its device and type
        exact = self._network(first).softmax(1).to(probabilities.device)
        apart = float((exact - probabilities[:1]).abs().max())
        same = torch.equal(exact.argmax(1), probabilities[:1].argmax(1))
        self._say(
            f"{self._dtype}: probabilities of the first {self._modality} clip are at most {apart:.1e} off "
            f"fp32's, {'the same' if same else 'ANOTHER'} label first"
        )
