"""Safetensors files that describe themselves: JSON in the metadata, with a digest of all tensors.

Nothing in such a file is ever executed, and nothing it claims is believed before it fits.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor

from vpipe.errors import UsageError
from vpipe.whole_file import write_whole_file


def write_tensors(path: Path, description: dict[str, Any], tensors: dict[str, Tensor]) -> None:
    """Writes a file that is whole under its name. Raises EnvironmentFault `unwritable_output`."""
    described = json.dumps({**description, "digest": _digest(tensors)}, sort_keys=True)
    data = save_tensors(tensors, {"vpipe": described})
    write_whole_file(path, data, "choose another -o", lasting=True)


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a file whose `format` is `kind`. Raises UsageError `bad_weights`."""
    try:
        with safe_open(path, framework="pt") as file:
            description = json.loads((file.metadata() or {}).get("vpipe", "null"))
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise bad_weights(path, f"it is not a whole safetensors file ({error})") from None
    if not isinstance(description, dict) or description.get("format") != kind:
        raise bad_weights(path, f"its metadata does not say '{kind}'")
    if description.get("digest") != _digest(tensors):
        raise bad_weights(path, "its tensors are not those that were written (their digest differs)")
    return description, tensors


def bad_weights(path: Path, why: str) -> UsageError:
    return UsageError("bad_weights", f"{path}: not a usable weight file: {why}; fetch or train it again")


def _digest(tensors: dict[str, Tensor]) -> str:
    """SHA-256 of names, types, shapes and bytes of all tensors, hexadecimal."""
    found = hashlib.sha256()
    for key in sorted(tensors):
        value = tensors[key]
        found.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        found.update(value.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
