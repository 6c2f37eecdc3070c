"""What a layout is: how one repository names the weights of an architecture, and how we name them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from vpipe.errors import UsageError

State = Mapping[str, Tensor]

# mmaction2's heads, those of 2-D and of 3-D networks.
MMACTION_HEAD = ((r"^cls_head\.fc_cls\.", "fc."),)
# tsn-pytorch and what grew from it: `base_model` and `new_fc`; without dropout the last layer stays inside.
# Files of the `base_model` alone are known too.
MIT = r"^(?:base_model\.)?"  # before the names of a layout's mark
MIT_NAMES = (
    (r"^base_model\.", ""),
    (r"^(new_fc|last_linear)\.", "fc."),
    (r"^(?!fc\.)", "backbone."),
)
# torchvision's names of a residual network, in the form `conv.weight` and `bn.weight` side by side.
RESNET_NAMES = (
    (r"\b(conv\d)\.(weight|bias)$", r"\1.conv.\2"),
    (r"\bbn(\d)\.", r"conv\1.bn."),
    (r"\bdownsample\.0\.", "downsample.conv."),
    (r"\bdownsample\.1\.", "downsample.bn."),
)
# Non-local blocks as temporal-shift-module and mmaction2 have them.
NON_LOCAL = (
    (r"\.(nl|non_local_block)\.", ".after."),
    (r"\.after\.(g|phi|theta)\.(0\.)?(conv\.)?(weight|bias)$", r".after.\1.\4"),
    (r"\.after\.W\.0\.", ".after.out.conv."),
    (r"\.after\.W\.1\.", ".after.out.bn."),
    (r"\.after\.conv_out\.", ".after.out."),
)


@dataclass(frozen=True)
class Choices:
    """What the keys of a checkpoint cannot tell; None: the layout's convention."""

    segments: int | None = None
    alpha: float | None = None
    beta: float | None = None
    share: int | None = None  # TSM's shift_div
    temporal_pool: bool = False
    sampling: str | None = None  # "dense": TSM's dense sampling
    frames: int | None = None  # of a clip, where the network takes any number
    stride: int | None = None  # frames between two of a clip
    slow_ratio: int | None = None  # SlowFast's alpha: fast frames for one slow frame
    non_local: str | None = None  # the pairwise function, where two of them have the same weights


@dataclass(frozen=True)
class Layout:
    """A repository's naming of an architecture.

    `mark` and `absent` are searched for in the keys: the layout fits where a key has the first and none has
    the second. `renames` are applied in order to every key and give ours. `dead` are weights that the
    reference's forward pass does not use. `hyper` reads hyper-parameters from the renamed state and from the
    keys as they were.
    """

    name: str
    architecture: str
    mark: str
    renames: tuple[tuple[str, str], ...]
    hyper: Callable[[State, list[str], Choices], dict[str, Any]]
    inputs: str  # the convention of its pictures, in importer.inputs
    absent: str | None = None
    dead: tuple[str, ...] = ()
    dimensions: int | None = None  # of the convolution that `mark` names, where names alone do not tell
    told: bool = False  # its keys are another layout's: only for a reader who names the architecture
    flat: bool = False  # its 2-D kernels are 3-D ones of one tap in time
    _rules: tuple[tuple[re.Pattern[str], str], ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "_rules", tuple((re.compile(a), b) for a, b in self.renames))

    def fits(self, tensors: State) -> bool:
        marked = [tensor for key, tensor in tensors.items() if re.search(self.mark, key)]
        if self.dimensions and any(tensor.ndim != self.dimensions + 2 for tensor in marked):
            return False
        return bool(marked) and not (self.absent and any(re.search(self.absent, key) for key in tensors))

    def renamed(self, tensors: State) -> tuple[dict[str, Tensor], list[str]]:
        """(our keys with their tensors, the dead ones left out).

        Raises UsageError where two keys would become one.
        """
        state: dict[str, Tensor] = {}
        dropped = []
        for key, tensor in tensors.items():
            if any(re.search(pattern, key) for pattern in self.dead):
                dropped.append(key)
                continue
            ours = key
            for rule, to in self._rules:
                ours = rule.sub(to, ours)
            if ours in state:
                raise UsageError("bad_checkpoint", f"two of its keys mean {ours}; '{key}' is one of them")
            # A convolution of 1x1 over pooled features is a linear layer.
            state[ours] = tensor.flatten(1) if ours == "fc.weight" and tensor.ndim > 2 else tensor
            if self.flat and tensor.ndim == 4:
                state[ours] = tensor.unsqueeze(2)
        return state, dropped


def count_blocks(state: State, prefix: str) -> int:
    """How many blocks follow `prefix`, as in `backbone.layer1.` and then 0, 1, 2."""
    pattern = re.compile(re.escape(prefix) + r"(\d+)\.")
    return len({match[1] for key in state if (match := pattern.match(key))})


def non_local(
    state: State, keys: list[str], prefix: str, blocks: list[int], choices: Choices, *, softmax: bool = True
) -> dict[str, Any]:
    """Hyper-parameters of the non-local blocks after residual blocks; empty where there are none.

    Embedded Gaussian and dot product have the same weights: without a choice, `softmax` says which.
    """
    places = [
        [place for place in range(count) if f"{prefix}layer{stage}.{place}.after.g.weight" in state]
        for stage, count in enumerate(blocks, start=1)
    ]
    if not any(places):
        return {}
    told = "embedded-gaussian" if softmax else "dot-product"
    embedded = any(".after.theta." in key for key in state)
    pyslowfast = any("_nonlocal" in key for key in keys)
    halved = "inputs" if pyslowfast else "none"
    if any(re.search(r"\.g\.0\.(conv\.)?weight$", key) for key in keys):
        halved = "values"
    return {
        "non_local": places,
        "non_local_kind": (choices.non_local or told) if embedded else "gaussian",
        "non_local_bias": any(key.endswith(".after.out.conv.bias") for key in state),
        "non_local_pool": halved,
        "non_local_scale": pyslowfast,
    }


def shape(state: State, key: str) -> tuple[int, ...]:
    """The shape of a kernel or matrix. Raises UsageError where it is missing or neither of them."""
    if key not in state:
        raise UsageError("missing_keys", f"the checkpoint has no weight for {key}")
    if state[key].ndim < 2:
        raise UsageError("bad_shapes", f"{key} {tuple(state[key].shape)} is neither a kernel nor a matrix")
    return tuple(state[key].shape)


def stacked(channels: int) -> tuple[int, int]:
    """(channels of a frame, frames in a stack) of a first convolution: 3 is RGB, an even number flow."""
    if channels == 3:
        return 3, 1
    if channels % 2 == 0:
        return 2, channels // 2
    differences = ": differences of RGB frames (RGBDiff) are not supported" if channels % 3 == 0 else ""
    raise UsageError(
        "unknown_layout",
        f"its first convolution takes {channels} channels, neither RGB's 3 nor flow's pairs{differences}",
    )
