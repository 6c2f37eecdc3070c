"""From the keys of a checkpoint to a network of ours that holds its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from vpipe.errors import UsageError
from vpipe.models.importer import layouts_2d, layouts_2d_other, layouts_3d, layouts_3d_resnet
from vpipe.models.importer.checkpoint import Checkpoint
from vpipe.models.importer.layout import Choices, Layout
from vpipe.models.registry import build

LAYOUTS: tuple[Layout, ...] = (
    layouts_2d.LAYOUTS + layouts_2d_other.LAYOUTS + layouts_3d.LAYOUTS + layouts_3d_resnet.LAYOUTS
)
_NAMED = 12  # keys that an error message lists


@dataclass(frozen=True)
class Mapped:
    """A checkpoint understood."""

    layout: Layout
    hyper: dict[str, Any]
    state: dict[str, Tensor]  # by our keys, complete
    notes: tuple[str, ...]


def recognise(checkpoint: Checkpoint, choices: Choices, architecture: str | None = None) -> Mapped:
    """Finds the layout, maps every key and reads the hyper-parameters.

    Raises UsageError: `unknown_layout`, `missing_keys`, `unexpected_keys`, `bad_shapes`,
    `bad_types`.
    """
    checkpoint, layout = _layout(checkpoint, architecture)
    try:
        state, dropped = layout.renamed(checkpoint.tensors)
        hyper = layout.hyper(state, list(checkpoint.tensors), choices)
        with torch.device("meta"):  # names and shapes only: nothing is allocated from what a file says
            wanted = build(layout.architecture, hyper).state_dict()
    except UsageError as error:
        raise UsageError(error.code, f"{checkpoint.path}: {layout.name}: {error.message}") from None
    except (IndexError, ValueError):  # of a size that a weight's shape does not have
        raise UsageError(
            "bad_shapes",
            f"{checkpoint.path}: {layout.name}: weights that it is told by have too few dimensions; give "
            "the checkpoint as it was published",
        ) from None
    notes = [*checkpoint.notes]
    if dropped:
        notes.append(f"dropped, the reference does not use them: {', '.join(dropped)}")
    counters = [
        key for key in wanted if key.endswith(".num_batches_tracked") and key not in state
    ]  # files from before PyTorch 0.4
    if counters:
        state.update((key, torch.tensor(0)) for key in counters)
        notes.append(f"{len(counters)} num_batches_tracked were missing and are 0")
    where = f"{checkpoint.path}: {layout.name}"
    _complain("missing_keys", f"{where}: weights are missing", sorted(set(wanted) - set(state)))
    _complain(
        "unexpected_keys", f"{where}: weights that no layer of it takes", sorted(set(state) - set(wanted))
    )
    wrong = [
        f"{key} {tuple(state[key].shape)}, not {tuple(wanted[key].shape)}"
        for key in wanted
        if state[key].shape != wanted[key].shape
    ]
    _complain("bad_shapes", f"{where}: weights of another shape", wrong)
    whole = [
        f"{key} {str(state[key].dtype).removeprefix('torch.')}"
        for key in wanted
        if wanted[key].is_floating_point() and not state[key].is_floating_point()
    ]
    _complain("bad_types", f"{where}: weights that are whole numbers", whole)
    return Mapped(layout, hyper, state, tuple(notes))


def _layout(checkpoint: Checkpoint, architecture: str | None) -> tuple[Checkpoint, Layout]:
    """The layout that fits, and the checkpoint without a wrapper that nobody knows by name."""
    possible = [layout for layout in LAYOUTS if architecture in (None, layout.architecture)]
    if not possible:
        known = ", ".join(sorted({layout.architecture for layout in LAYOUTS}))
        raise UsageError("unknown_architecture", f"--arch {architecture}: importable are {known}")
    tried: Checkpoint | None = checkpoint
    while tried is not None:
        for layout in possible:
            if layout.fits(tried.tensors) and (architecture or not layout.told):
                return tried, layout
        tried = _unwrapped(tried)
    keys = list(checkpoint.tensors)
    hint = "" if architecture is None else f" of {architecture}; leave --arch out"
    raise UsageError(
        "unknown_layout",
        f"{checkpoint.path}: its keys ({', '.join(keys[:3])}, ...) are those of no layout{hint}; "
        "known are: " + "; ".join(layout.name for layout in possible),
    )


def _unwrapped(checkpoint: Checkpoint) -> Checkpoint | None:
    """Without the first part of every key where all have the same; None where they do not."""
    firsts = {key.partition(".")[0] for key in checkpoint.tensors}
    if len(firsts) > 1 or not all("." in key for key in checkpoint.tensors):
        return None
    first = firsts.pop()
    tensors = {key.partition(".")[2]: value for key, value in checkpoint.tensors.items()}
    return replace(
        checkpoint,
        tensors=tensors,
        notes=(*checkpoint.notes, f"prefix '{first}.' taken off every key"),
    )


def _complain(code: str, what: str, keys: Sequence[str]) -> None:
    if keys:
        more = f" and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
        raise UsageError(code, f"{what}: {', '.join(keys[:_NAMED])}{more}")
