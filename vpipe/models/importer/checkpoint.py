"""A checkpoint file as a flat table of tensors: wrappers taken off, prefixes too, nothing else touched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from vpipe.errors import UsageError
from vpipe.models.importer.unpickle import Inert, open_torch_file

# Where the repositories keep the weights in the dict they save, in the order of trust.
CONTAINERS = ("state_dict", "model_state", "model_state_dict", "model", "net")
# What wraps every key: DataParallel, and the attribute that a recogniser keeps its network in.
WRAPPERS = ("module.", "model.", "_orig_mod.")


@dataclass(frozen=True)
class Checkpoint:
    """Weights by key as the repository's network names them, and what a reader should know of the file."""

    path: Path
    tensors: dict[str, Tensor]
    notes: tuple[str, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads .pth, .pt, .tar and .safetensors files.

    Raises UsageError: `checkpoint_not_found`, `bad_checkpoint`.
    """
    if not path.is_file():
        raise UsageError("checkpoint_not_found", f"{path}: no such file; give a downloaded checkpoint")
    try:
        if path.suffix == ".safetensors":
            content: object = _safetensors(path)
            inert: tuple[str, ...] = ()
        else:
            opened = open_torch_file(path)
            content, inert = opened.content, opened.inert
    except OSError as error:
        raise UsageError("bad_checkpoint", f"{path}: cannot be read ({error.strerror})") from None
    notes = [f"not imported, only named in the file: {', '.join(inert)}"] if inert else []
    weights, where = _weights(path, content)
    if where:
        notes.append(f"weights taken from its entry '{where}'")
    tensors = _checked(path, weights)
    for prefix in _common_prefixes(tensors):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
        notes.append(f"prefix '{prefix}' taken off every key")
    return Checkpoint(path, tensors, tuple(notes))


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, ValueError) as error:
        raise UsageError("bad_checkpoint", f"{path}: not a whole safetensors file ({error})") from None


def _weights(path: Path, content: object) -> tuple[dict[object, object], str | None]:
    if not isinstance(content, dict):
        kind = content.name if isinstance(content, Inert) else type(content).__name__
        raise UsageError(
            "bad_checkpoint",
            f"{path}: it holds a {kind}, not a table of weights; save model.state_dict() instead",
        )
    for name in CONTAINERS:
        inner = content.get(name)
        if isinstance(inner, dict) and any(isinstance(value, Tensor) for value in inner.values()):
            return inner, name
    return content, None


def _checked(path: Path, weights: dict[object, object]) -> dict[str, Tensor]:
    tensors = {}
    for key, value in weights.items():
        if isinstance(value, Inert):
            raise UsageError(
                "bad_checkpoint",
                f"{path}: '{key}' among its weights is a {value.name}, which is not a tensor and was not "
                "imported; save a plain state dict",
            )
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise UsageError(
                "bad_checkpoint", f"{path}: its entry {key!r:.80} is not a tensor; give a state dict"
            )
        # First to float32: 8-bit numbers cannot be asked whether they are finite.
        number = value.float() if value.is_floating_point() else value
        if not torch.isfinite(number).all():
            raise UsageError("bad_checkpoint", f"{path}: '{key}' holds values that are not finite")
        tensors[key] = number
    if not tensors:
        raise UsageError("bad_checkpoint", f"{path}: it holds no weights")
    return tensors


def _common_prefixes(tensors: dict[str, Tensor]) -> list[str]:
    """The wrappers that stand before every key, outermost first."""
    found: list[str] = []
    keys = list(tensors)
    while fitting := [p for p in WRAPPERS if all(key.startswith(p) and key != p for key in keys)]:
        found.append(fitting[0])
        keys = [key.removeprefix(fitting[0]) for key in keys]
    return found
