"""Who is compared: one network of every kind on small bodies, and the fusion of two of them.

All but one are residual networks of one block a stage and a quarter of the published width, on the eight
frames of a clip (flow: on the seven flows between them, as channels of one picture).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from vpipe.comparison.plan import FRAMES
from vpipe.errors import UsageError

BODY = {"blocks": [1, 1, 1, 1], "width": 16}
FEW = {"reduce": 4}  # of 16 channels and more; published networks have 64 and more, and reduce by 16
# The five frames of each of TDN's segments: the frame itself and two to each side, those of the clip's ends
# again where there are none. So TDN sees the same eight frames as the others.
NEIGHBOURS = tuple(min(max(k + step, 0), FRAMES - 1) for k in range(FRAMES) for step in (-2, -1, 0, 1, 2))


@dataclass(frozen=True)
class Contender:
    """A network as the zoo builds it. `take` are the clip's inputs that it gets, by number."""

    name: str
    title: str
    kind: str  # "RGB only", "flow", "flow-free" or "3-D"
    motion: str  # what it is taken from
    models: str  # what it models: space, motion, and whether in one
    architecture: str
    hyper: dict[str, Any] = field(default_factory=dict)
    modality: str = "rgb"
    take: tuple[int, ...] = tuple(range(FRAMES))


@dataclass(frozen=True)
class Fusion:
    """Late fusion: the weighted mean of the probabilities of two contenders (Simonyan and Zisserman 2014)."""

    name: str
    title: str
    kind: str
    motion: str
    models: str
    parts: tuple[str, ...]
    weights: tuple[float, ...]


_SEGMENTS = {"segments": FRAMES, **BODY}
_PLAIN = {"bottleneck": False}  # blocks of two 3x3 convolutions
_STACK = FRAMES - 1
CONTENDERS: tuple[Contender, ...] = (
    Contender("tsn", "TSN, RGB only", "RGB only", "nothing", "space", "tsn-resnet", _SEGMENTS | _PLAIN),
    Contender(
        "flow", "TSN, flow only", "flow", "flow", "motion", "tsn-resnet",
        {"segments": 1, "stack": _STACK, "channels": 2, **BODY, **_PLAIN}, "flow", tuple(range(_STACK)),
    ),
    Contender(
        "tsm", "TSM", "flow-free", "features", "spatiotemporal", "tsm",
        _SEGMENTS | _PLAIN | {"share": 4},  # of 16 channels, the published eighth would be two
    ),
    Contender("tea", "TEA", "flow-free", "features", "spatiotemporal and motion", "tea", _SEGMENTS | FEW),
    Contender("stm", "STM", "flow-free", "features", "spatiotemporal and motion", "stm", _SEGMENTS | FEW),
    Contender(
        "tdn", "TDN", "flow-free", "frames and features", "spatiotemporal and motion", "tdn",
        _SEGMENTS | FEW, take=NEIGHBOURS,
    ),
    Contender("tanet", "TANet", "flow-free", "features", "spatiotemporal", "tanet", _SEGMENTS),
    Contender(
        "tsm-diff", "TSM and frame differences", "flow-free", "frames and features",
        "spatiotemporal and motion", "tsm-diff", {"frames": FRAMES, "widths": [16, 32, 64, 128]},
    ),
    Contender("r2plus1d", "R(2+1)D", "3-D", "3-D kernels", "spatiotemporal", "r3d", BODY),
)  # fmt: skip
FUSIONS: tuple[Fusion, ...] = (
    Fusion(
        "two-stream", "two-stream: RGB and flow", "flow", "flow", "space and motion apart",
        ("tsn", "flow"), (1.0, 1.5),
    ),
)  # fmt: skip
# The order of the table.
ROWS = ("tsn", "flow", "two-stream", "tsm", "tea", "stm", "tdn", "tanet", "tsm-diff", "r2plus1d")


def choose(names: str | None) -> tuple[list[Contender], list[Fusion]]:
    """The contenders named (`tsm,two-stream`; None: all), with the parts of the fusions among them.

    Raises UsageError `unknown_contender`.
    """
    wanted = [name.strip() for name in names.split(",")] if names is not None else list(ROWS)
    unknown = [name for name in wanted if name not in ROWS]
    if unknown:
        raise UsageError(
            "unknown_contender", f"--only {names}: no such row as '{unknown[0]}'; there are {', '.join(ROWS)}"
        )
    fusions = [fusion for fusion in FUSIONS if fusion.name in wanted]
    needed = {part for fusion in fusions for part in fusion.parts} | set(wanted)
    return [contender for contender in CONTENDERS if contender.name in needed], fusions
