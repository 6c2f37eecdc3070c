"""FlowParams: the whole recipe of a flow, from which frames to the last number of the method.

Two equal FlowParams on the same video give the same flow; anything that changes the flow is in here or in
`engine()`. Storage (how the numbers are rounded on disk) is no part of it: see `vpipe.flow.quantise`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

from vpipe.errors import UsageError

METHODS = ("tvl1", "opencv-tvl1", "dis", "farneback")
TVL1_METHODS = ("tvl1", "opencv-tvl1")
PRESETS = ("parity", "accurate", "fast")

# What each preset of TV-L1 sets; the numbers not named here are OpenCV's defaults in all three.
# `parity` is OpenCV's default: 5 scales of 0.8 reach only 0.41x, too shallow for motion beyond about 10 px.
# The other two halve the picture down to 16 px, which finds large motion with a hundredth of the iterations;
# a larger theta lets so few of them go far enough.
_DEEP: dict[str, Any] = {"scales": 8, "scale_step": 0.5, "theta": 0.5, "outer_iterations": 1}
_TVL1_PRESETS: dict[str, dict[str, Any]] = {
    "parity": {
        "scales": 5,
        "scale_step": 0.8,
        "theta": 0.3,
        "warps": 5,
        "outer_iterations": 10,
        "inner_iterations": 30,
    },
    "accurate": _DEEP | {"warps": 4, "inner_iterations": 7},
    "fast": _DEEP | {"warps": 3, "inner_iterations": 6},
}
_NUMBERS = (
    "tau", "lambda_", "theta", "scales", "scale_step", "warps", "epsilon",
    "outer_iterations", "inner_iterations", "median", "gamma",
)  # fmt: skip
_FRAMES = ("short_side_px", "step", "fps")


@dataclass(frozen=True)
class FlowParams:
    """A flow recipe; hashable. Flow is in pixels of the scaled frame, u (right) then v (down).

    `preset_name` is derived for TV-L1: the preset whose numbers these are, or None. For `dis` and `farneback`
    it chooses the library's settings, and the TV-L1 numbers do not apply (giving one raises UsageError).

    Frames: scaled so that the short side is `short_side_px` (None: as decoded), shown at k/fps (None: every
    decoded frame), of which every `step`-th is kept; flow k goes from kept frame k to kept frame k+1.
    """

    method: str = "tvl1"
    preset_name: str | None = None
    tau: float = 0.25
    lambda_: float = 0.15
    theta: float = 0.5
    scales: int = 8
    scale_step: float = 0.5
    warps: int = 4
    epsilon: float = 0.01
    outer_iterations: int = 1
    inner_iterations: int = 7
    median: int = 5
    gamma: float = 0.0
    short_side_px: int | None = None
    step: int = 1
    fps: Fraction | None = None

    def __post_init__(self) -> None:
        self._check()
        numbers = {name: getattr(self, name) for name in _NUMBERS}
        if self.method in TVL1_METHODS:
            matching = [p for p in PRESETS if numbers == _defaults() | _TVL1_PRESETS[p]]
            name = matching[0] if matching else None
            if self.preset_name not in (None, name):
                raise UsageError(
                    "bad_flow_params",
                    f"these numbers are not those of the preset '{self.preset_name}'",
                )
        else:
            given = sorted(n for n in _NUMBERS if numbers[n] != _defaults()[n])
            if given:
                raise UsageError("bad_flow_params", f"{self.method} has no {', '.join(given)}")
            name = self.preset_name or "accurate"
        object.__setattr__(self, "preset_name", name)

    def _check(self) -> None:
        if self.method not in METHODS:
            raise UsageError("bad_flow_method", f"flow method '{self.method}': choose {', '.join(METHODS)}")
        if self.preset_name is not None:
            _check_preset(self.preset_name)
        ranges: dict[str, tuple[float, float]] = {
            "tau": (1e-6, 10), "lambda_": (1e-6, 100), "theta": (1e-6, 100), "scales": (1, 32),
            "scale_step": (0.1, 0.95), "warps": (1, 100), "epsilon": (0, 1), "outer_iterations": (1, 1000),
            "inner_iterations": (1, 1000), "gamma": (0, 100), "step": (1, 10_000),
        }  # fmt: skip
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            # int before float: 5.0 scales and 5 scales must not become two keys of one recipe.
            whole = isinstance(FlowParams.__dataclass_fields__[name].default, int)
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
                kind = "an integer" if whole else "a number"
                raise UsageError("bad_flow_params", f"{name}={value!r}: give {kind}")
            if not low <= value <= high:
                raise UsageError("bad_flow_params", f"{name}={value}: allowed are {low} to {high}")
            if not whole:
                object.__setattr__(self, name, float(value))
        if self.median not in (1, 3, 5):
            raise UsageError("bad_flow_params", f"median={self.median}: allowed are 1 (none), 3 and 5")
        side = self.short_side_px
        if side is not None and not (isinstance(side, int) and 16 <= side <= 16384):
            raise UsageError("bad_flow_params", f"short_side_px={side!r}: allowed are 16 to 16384, or none")
        if self.fps is not None:
            if not isinstance(self.fps, (int, Fraction)) or self.fps <= 0:
                raise UsageError("bad_flow_params", f"fps={self.fps!r}: give a positive Fraction, or none")
            object.__setattr__(self, "fps", Fraction(self.fps))

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> FlowParams:
        """The preset `name` with fields replaced. Raises UsageError for an unknown preset, field or value."""
        _check_preset(name)
        unknown = sorted(set(overrides) - {f.name for f in fields(cls)})
        if unknown:
            raise UsageError("bad_flow_params", f"{', '.join(unknown)}: a flow recipe has no such field")
        if overrides.get("method", "tvl1") in TVL1_METHODS:
            return cls(**(_TVL1_PRESETS[name] | overrides))
        return cls(**({"preset_name": name} | overrides))

    def with_frames(self, *, short_side_px: int | None, step: int, fps: Fraction | None) -> FlowParams:
        """The same method and numbers on other frames."""
        return replace(self, short_side_px=short_side_px, step=step, fps=fps)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe dict of all that matters to this method; `fps` is a string such as "30000/1001"."""
        numbers = _NUMBERS if self.method in TVL1_METHODS else ()
        return {
            "method": self.method,
            "preset": self.preset_name,
            **{name.rstrip("_"): getattr(self, name) for name in numbers},
            "short_side_px": self.short_side_px,
            "step": self.step,
            "fps": None if self.fps is None else str(self.fps),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> FlowParams:
        """The inverse of `to_dict`. Raises UsageError where a field is missing, unknown or out of range.

        For TV-L1 the numbers count, not the name they were once given: recipes outlive presets.
        """
        try:
            method = values["method"]
            numbers = _NUMBERS if method in TVL1_METHODS else ()
            taken = {"method", "preset", *_FRAMES, *(n.rstrip("_") for n in numbers)}
            if set(values) != taken:
                wrong = ", ".join(sorted(set(values) ^ taken))
                raise UsageError("bad_flow_params", f"flow recipe with missing or unknown fields: {wrong}")
            fps = values["fps"]
            return cls(
                method=method,
                preset_name=None if numbers else values["preset"],
                short_side_px=values["short_side_px"],
                step=values["step"],
                fps=None if fps is None else Fraction(fps),
                **{name: values[name.rstrip("_")] for name in numbers},
            )
        except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
            raise UsageError("bad_flow_params", f"not a flow recipe: {error!r}") from None

    def canonical_json(self) -> str:
        """One spelling per recipe: sorted keys, no spaces, ASCII; without the name of TV-L1 numbers."""
        recipe = self.to_dict()
        if self.method in TVL1_METHODS:
            del recipe["preset"]
        return json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    def engine(self) -> dict[str, str]:
        """What computes it: {"id", "version"}; for library methods the version holds the library's.

        OpenCV 4.13 and 5.0 give different TV-L1 flow on the same frames (mean 0.013 px).
        """
        from vpipe.flow.methods import engine_version  # cv2 only where a version is asked for (start-up)

        return {"id": self.method, "version": engine_version(self.method)}


def _defaults() -> dict[str, Any]:
    return {f.name: f.default for f in fields(FlowParams) if f.name in _NUMBERS}


def _check_preset(name: str) -> None:
    if name not in PRESETS:
        raise UsageError("bad_flow_preset", f"flow preset '{name}': choose one of {', '.join(PRESETS)}")


# The recipe of the packaged two-stream model, and of `vpipe flow` where nothing else is said.
PACKAGED = FlowParams.preset("accurate", short_side_px=128, fps=Fraction(8))
