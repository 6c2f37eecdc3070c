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
PRESETS = ("parity", "accurate", "fast")

# OpenCV's defaults: what `parity` is, and what a number means where it switches something off.
_PARITY: dict[str, Any] = {
    "tau": 0.25,
    "lambda_": 0.15,
    "theta": 0.3,
    "scales": 5,
    "scale_step": 0.8,
    "warps": 5,
    "epsilon": 0.01,
    "outer_iterations": 10,
    "inner_iterations": 30,
    "median": 5,
    "gamma": 0.0,
    "median_after": 0,
    "derivative": 3,
    "blend": 0.0,
    "edge": 0.0,
    "pyramid_blur": 0.0,
    "zero_outside": 1,
    "noise": 0.0,
}
# Our engine, down to 16 px: 5 scales of 0.8 reach only 0.41x, too shallow for motion beyond about 10 px.
# docs/flow.md has what each number is worth.
_DEEP: dict[str, Any] = {
    "lambda_": 0.25,
    "scales": 32,
    "warps": 2,
    "epsilon": 0.0,
    "outer_iterations": 1,
    "median_after": 1,
    "derivative": 5,
    "blend": 0.3,
    "edge": 12.0,
    "pyramid_blur": 0.6,
    "zero_outside": 0,
    "noise": 3.5,
}
# OpenCV's engine with a pyramid as deep: a larger theta lets few iterations go far enough.
_OPENCV_DEEP: dict[str, Any] = {"scales": 8, "scale_step": 0.5, "theta": 0.5, "outer_iterations": 1}
_PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "tvl1": {
        "parity": _PARITY,
        "accurate": _PARITY | _DEEP,
        "fast": _PARITY | _DEEP | {"scale_step": 0.65, "inner_iterations": 20, "noise": 1.6},
    },
    "opencv-tvl1": {
        "parity": _PARITY,
        "accurate": _PARITY | _OPENCV_DEEP | {"warps": 4, "inner_iterations": 7},
        "fast": _PARITY | _OPENCV_DEEP | {"warps": 3, "inner_iterations": 6},
    },
}
_SHARED = (
    "tau", "lambda_", "theta", "scales", "scale_step", "warps", "epsilon",
    "outer_iterations", "inner_iterations", "median",
)  # fmt: skip
# The numbers of each method; the library methods have presets only.
_NUMBERS: dict[str, tuple[str, ...]] = {
    "tvl1": (
        *_SHARED,
        "median_after",
        "derivative",
        "blend",
        "edge",
        "pyramid_blur",
        "zero_outside",
        "noise",
    ),
    "opencv-tvl1": (*_SHARED, "gamma"),
    "dis": (),
    "farneback": (),
}


@dataclass(frozen=True)
class _Allowed:
    """The range of a number."""

    low: float
    high: float
    whole: bool = False
    choice: tuple[int, ...] = ()

    def checked(self, name: str, value: Any) -> Any:
        # int before float: 5.0 scales and 5 scales must not become two keys of one recipe.
        if isinstance(value, bool) or not isinstance(value, int if self.whole else (int, float)):
            kind = "an integer" if self.whole else "a number"
            raise UsageError("bad_flow_params", f"{name}={value!r}: give {kind}")
        if not self.low <= value <= self.high or (self.choice and value not in self.choice):
            allowed = ", ".join(map(str, self.choice)) or f"{self.low} to {self.high}"
            raise UsageError("bad_flow_params", f"{name}={value}: allowed are {allowed}")
        return value if self.whole else float(value)


_ALLOWED = {
    "tau": _Allowed(1e-6, 10),
    "lambda_": _Allowed(1e-6, 100),
    "theta": _Allowed(1e-6, 100),
    "scales": _Allowed(1, 32, whole=True),
    "scale_step": _Allowed(0.1, 0.95),
    "warps": _Allowed(1, 100, whole=True),
    "epsilon": _Allowed(0, 1),
    "outer_iterations": _Allowed(1, 1000, whole=True),
    "inner_iterations": _Allowed(1, 1000, whole=True),
    "median": _Allowed(1, 5, whole=True, choice=(1, 3, 5)),  # 1: none
    "gamma": _Allowed(0, 100),
    "median_after": _Allowed(0, 1, whole=True),
    "derivative": _Allowed(3, 5, whole=True, choice=(3, 5)),
    "blend": _Allowed(0, 1),
    "edge": _Allowed(0, 1000),
    "pyramid_blur": _Allowed(0, 10),
    "zero_outside": _Allowed(0, 1, whole=True),
    "noise": _Allowed(0, 1000),
}
_PRESET: Any = None  # a number left out is the preset's
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
    tau: float = _PRESET
    lambda_: float = _PRESET
    theta: float = _PRESET
    scales: int = _PRESET
    scale_step: float = _PRESET
    warps: int = _PRESET
    epsilon: float = _PRESET
    outer_iterations: int = _PRESET
    inner_iterations: int = _PRESET
    median: int = _PRESET
    gamma: float = _PRESET
    median_after: int = _PRESET
    derivative: int = _PRESET
    blend: float = _PRESET
    edge: float = _PRESET
    pyramid_blur: float = _PRESET
    zero_outside: int = _PRESET
    noise: float = _PRESET
    short_side_px: int | None = None
    step: int = 1
    fps: Fraction | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError("bad_flow_method", f"flow method '{self.method}': choose {', '.join(METHODS)}")
        if self.preset_name is not None:
            _check_preset(self.preset_name)
        mine = _NUMBERS[self.method]
        given = sorted(n for n in _ALLOWED if n not in mine and getattr(self, n) is not None)
        if given:
            raise UsageError("bad_flow_params", f"{self.method} has no {', '.join(given)}")
        if mine:
            self._fill_numbers(mine)
        elif self.preset_name is None:
            object.__setattr__(self, "preset_name", "accurate")
        self._check_frames()

    def _fill_numbers(self, mine: tuple[str, ...]) -> None:
        presets = _PRESETS[self.method]
        for name in mine:
            value = getattr(self, name)
            if value is None:
                value = presets[self.preset_name or "accurate"][name]
            object.__setattr__(self, name, _ALLOWED[name].checked(name, value))
        numbers = {name: getattr(self, name) for name in mine}
        matching = [p for p in PRESETS if all(numbers[n] == presets[p][n] for n in mine)]
        found = matching[0] if matching else None
        if self.preset_name not in (None, found):
            raise UsageError("bad_flow_params", f"these numbers are not those of preset '{self.preset_name}'")
        object.__setattr__(self, "preset_name", found)

    def _check_frames(self) -> None:
        object.__setattr__(self, "step", _Allowed(1, 10_000, whole=True).checked("step", self.step))
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
        method = overrides.get("method", "tvl1")
        if not _NUMBERS.get(method):
            return cls(**({"preset_name": name} | overrides))
        numbers = {n: _PRESETS[method][name][n] for n in _NUMBERS[method]}
        return cls(**(numbers | overrides))

    def with_frames(self, *, short_side_px: int | None, step: int, fps: Fraction | None) -> FlowParams:
        """The same method and numbers on other frames."""
        return replace(self, short_side_px=short_side_px, step=step, fps=fps)

    def to_dict(self) -> dict[str, Any]:
        """JSON-safe dict of all that matters to this method; `fps` is a string such as "30000/1001"."""
        numbers = _NUMBERS[self.method]
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
            numbers = _NUMBERS[method]
            taken = {"method", "preset", *_FRAMES, *(n.rstrip("_") for n in numbers)}
            if set(values) != taken:
                wrong = ", ".join(sorted(set(values) ^ taken))
                raise UsageError("bad_flow_params", f"flow recipe with missing or unknown fields: {wrong}")
            missing = [name for name in numbers if values[name.rstrip("_")] is None]
            if missing:
                raise UsageError("bad_flow_params", f"flow recipe without {', '.join(missing)}")
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
        if _NUMBERS[self.method]:
            del recipe["preset"]
        return json.dumps(recipe, sort_keys=True, separators=(",", ":"), ensure_ascii=True)

    def engine(self) -> dict[str, str]:
        """What computes it: {"id", "version"}; for library methods the version holds the library's.

        OpenCV 4.13 and 5.0 give different TV-L1 flow on the same frames (mean 0.013 px).
        """
        from vpipe.flow.methods import engine_version  # cv2 only where a version is asked for (start-up)

        return {"id": self.method, "version": engine_version(self.method)}


def _check_preset(name: str) -> None:
    if name not in PRESETS:
        raise UsageError("bad_flow_preset", f"flow preset '{name}': choose one of {', '.join(PRESETS)}")


# The recipe of the packaged two-stream model, and of `vpipe flow` where nothing else is said.
PACKAGED = FlowParams.preset("accurate", short_side_px=128, fps=Fraction(8))
