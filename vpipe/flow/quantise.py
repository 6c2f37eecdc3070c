"""How flow is rounded for storage, and back.

standard  uint8   254 steps over [-bound, +bound]; code 127 is exactly zero; a step is bound/127 (0.157 px
                  at 20 px), so the error inside the bound is at most half a step: 0.079 px
high      int16   1/32 px; error at most 1/64 px; reaches +-1019.97 px. Zero is code 128: around it the upper
                  byte stays the same, so that the files are 5 % smaller than with code 0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vpipe.errors import UsageError

KINDS = ("standard", "high")
DEFAULT_BOUND_PX = 20.0
CLIPPED_LIMIT = 0.01  # more of the flow than this should not be beyond the bound
_HIGH_STEPS_PER_PX = 32
_HIGH_ZERO = 128
_HIGH_LIMIT = 32767 - _HIGH_ZERO  # steps from zero
_HIGH_BOUND_PX = _HIGH_LIMIT / _HIGH_STEPS_PER_PX


@dataclass(frozen=True)
class Storage:
    """What a stored flow number means: px = (code - zero) * scale. `bound_px` is used by `standard` only."""

    kind: str = "standard"
    bound_px: float = DEFAULT_BOUND_PX

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError("bad_storage", f"storage '{self.kind}': choose one of {', '.join(KINDS)}")
        if not 0.5 <= self.bound_px <= _HIGH_BOUND_PX:
            raise UsageError("bad_bound", f"bound {self.bound_px} px: allowed are 0.5 to 1019")
        # One spelling: 20 and 20.0 name the same file, and `high` has one bound only.
        bound = float(self.bound_px) if self.kind == "standard" else _HIGH_BOUND_PX
        object.__setattr__(self, "bound_px", bound)

    @property
    def dtype(self) -> np.dtype[Any]:
        """uint8, or little-endian int16."""
        return np.dtype("u1") if self.kind == "standard" else np.dtype("<i2")

    @property
    def zero(self) -> int:
        """The code of 0 px."""
        return 127 if self.kind == "standard" else _HIGH_ZERO

    @property
    def scale(self) -> float:
        """Pixels per code."""
        return self.bound_px / 127 if self.kind == "standard" else 1 / _HIGH_STEPS_PER_PX

    @property
    def name(self) -> str:
        """For file names: `standard-20`, `high`."""
        return f"standard-{self.bound_px:g}" if self.kind == "standard" else "high"

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe: {"kind", "dtype", "bound_px", "zero", "scale"}."""
        return {
            "kind": self.kind,
            "dtype": self.dtype.name,
            "bound_px": self.bound_px,
            "zero": self.zero,
            "scale": self.scale,
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Storage:
        """The inverse of `to_dict`. Raises UsageError where the numbers are not this storage's."""
        try:
            storage = cls(values["kind"], values["bound_px"])
        except (KeyError, TypeError):
            raise UsageError("bad_storage", f"not a storage: {values!r}") from None
        if storage.to_dict() != values:
            raise UsageError("bad_storage", f"a storage with numbers of its own: {values!r}")
        return storage

    def quantise(self, flow: npt.NDArray[np.floating[Any]]) -> npt.NDArray[Any]:
        """Finite flow in px, any shape -> codes of that shape (`dtype`), clipped at the bound."""
        codes = np.rint(np.asarray(flow, dtype=np.float32) * np.float32(1 / self.scale))
        limit = 127 if self.kind == "standard" else _HIGH_LIMIT
        np.clip(codes, -limit, limit, out=codes)
        codes += np.float32(self.zero)
        return codes.astype(self.dtype)

    def dequantise(
        self, codes: npt.NDArray[Any], out: npt.NDArray[np.float32] | None = None
    ) -> npt.NDArray[np.float32]:
        """Codes (any shape) -> float32 px of that shape, in `out` (C-contiguous) where it is given."""
        from vpipe.flow.quantise_kernel import (
            to_pixels,
        )  # here: numba takes a while, and only reading needs it

        flow = np.empty(codes.shape, np.float32) if out is None else out
        flat = np.ascontiguousarray(codes).reshape(-1)
        to_pixels(flat, np.float32(self.zero), np.float32(self.scale), flow.reshape(-1))
        return flow

    def clipped(self, flow: npt.NDArray[np.floating[Any]]) -> float:
        """The fraction (0..1) of the values of `flow` that lie beyond the bound by more than rounding."""
        limit = self.bound_px + self.scale / 2
        return float(np.count_nonzero(np.abs(flow) > limit)) / max(1, np.size(flow))

    def fitting_bound_px(self, flow: npt.NDArray[np.floating[Any]]) -> float:
        """0 where the bound clips at most 1 % of `flow`, else the bound (px) that would."""
        if self.clipped(flow) <= CLIPPED_LIMIT:
            return 0.0
        return float(np.quantile(np.abs(flow), 1 - CLIPPED_LIMIT))
