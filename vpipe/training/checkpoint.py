"""The checkpoint of a run: all it needs to go on, written beside and renamed, never half under its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from vpipe.errors import EnvironmentFault, UsageError
from vpipe.whole_file import whole


class Stateful(Protocol):
    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state: Any, /) -> Any: ...


class Checkpoint:
    """`parts` by name, and the number of steps and batches done. `identity` says what run it belongs to."""

    def __init__(self, path: Path, identity: Mapping[str, Any], parts: Mapping[str, Stateful]) -> None:
        self.path, self.parts = path, parts
        self.identity = json.dumps(identity, sort_keys=True)

    def save(self, step: int, batches: int) -> None:
        """Raises EnvironmentFault `unwritable_output`; the checkpoint before stays."""
        beside = self.path.with_suffix(".tmp")  # the same for every run: what a killed one left goes
        values = {name: part.state_dict() for name, part in self.parts.items()}
        try:
            with whole(self.path, beside=beside, lasting=True), beside.open("wb") as file:
                torch.save({"step": step, "batches": batches, "identity": self.identity, **values}, file)
        except (OSError, RuntimeError) as error:  # torch says a full disk as a RuntimeError
            raise EnvironmentFault(
                "unwritable_output",
                f"{self.path}: cannot write the checkpoint ({error}); make room, then go on with --resume",
            ) from None

    def load(self) -> tuple[int, int]:
        """(steps, batches) done; zeros without a checkpoint. Raises UsageError where it is of another run."""
        if not self.path.is_file():
            return 0, 0
        try:
            values = torch.load(self.path, map_location="cpu", weights_only=True)
            same = values["identity"] == self.identity
        except Exception as error:  # torch raises many types on a damaged file
            raise UsageError(
                "bad_checkpoint",
                f"{self.path}: not a usable checkpoint ({type(error).__name__}); "
                "start again without --resume",
            ) from None
        if not same:
            raise UsageError(
                "other_recipe",
                f"{self.path}: made by another recipe or from other data; choose another -o or start again "
                "without --resume",
            )
        for name, part in self.parts.items():
            part.load_state_dict(values[name])
        return int(values["step"]), int(values["batches"])
