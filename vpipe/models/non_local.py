"""Non-local blocks: every place of a clip looks at every other.

Wang et al., "Non-local Neural Networks", 2018, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from vpipe.models.layers import ConvBN

KINDS = ("embedded-gaussian", "gaussian", "dot-product")
POOLS = ("values", "inputs", "none")


@dataclass(frozen=True, kw_only=True)
class NonLocalDims:
    """Where a residual network has non-local blocks, and of which form; the repositories differ in it."""

    non_local: tuple[tuple[int, ...], ...] = ((), (), (), ())  # for each stage: blocks followed by one
    non_local_kind: str = "embedded-gaussian"
    non_local_bias: bool = True  # of their last convolution
    non_local_pool: str = "values"  # what is halved: keys and values, the input that they come from, "none"
    non_local_scale: bool = False  # by the root of the channels, before the softmax

    def __post_init__(self) -> None:
        if self.non_local_kind not in KINDS or self.non_local_pool not in POOLS:
            raise ValueError(
                f"non_local_kind is one of {', '.join(KINDS)}, non_local_pool of {', '.join(POOLS)}"
            )
        if len(self.non_local) != 4:
            raise ValueError("non_local names blocks of four stages")


class NonLocal(nn.Module):
    """x (N, C, T, H, W) -> the same shape (equation 6; the kinds are equations 2, 3 and 4)."""

    def __init__(self, channels: int, dims: NonLocalDims) -> None:
        super().__init__()
        inner = channels // 2
        self.kind, self.pooled = dims.non_local_kind, dims.non_local_pool
        self.scale = inner**-0.5 if dims.non_local_scale else 1.0
        self.g = nn.Conv3d(channels, inner, 1)
        if self.kind != "gaussian":
            self.theta, self.phi = nn.Conv3d(channels, inner, 1), nn.Conv3d(channels, inner, 1)
        self.pool = nn.MaxPool3d((1, 2, 2))
        self.out = ConvBN(inner, channels, (1, 1, 1), bias=dims.non_local_bias, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        told = self.pool(x) if self.pooled == "inputs" else x
        query, key, value = (x, told, self.g(told)) if self.kind == "gaussian" else self._embedded(x, told)
        if self.pooled == "values":
            key, value = self.pool(key), self.pool(value)
        pairs = query.flatten(2).transpose(1, 2) @ key.flatten(2)  # N, places, places that are looked at
        attention = pairs / pairs.shape[2] if self.kind == "dot-product" else (pairs * self.scale).softmax(-1)
        seen = value.flatten(2) @ attention.transpose(1, 2)
        return self.out(seen.unflatten(2, x.shape[2:])) + x

    def _embedded(self, x: Tensor, told: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.theta(x), self.phi(told), self.g(told)
