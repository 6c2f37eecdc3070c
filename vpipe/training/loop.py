"""The training loop on one device: one-cycle AdamW, a JSONL log, checkpoints that survive a kill.

A run is a folder with `log.jsonl` and `checkpoint.pt` (network, optimiser, schedule, step, recipe).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vpipe.errors import UsageError, VpipeError
from vpipe.models.registry import build
from vpipe.training.allocator import keep_freed_memory
from vpipe.training.recipe import Recipe

LOG_EVERY = 50  # steps
CHECKPOINT_EVERY = 500

Report = Callable[[dict[str, Any]], None]


@dataclass(frozen=True)
class Normalisation:
    """Of RGB in 0..1, or of flow in px of the input picture."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def apply(self, clips: Tensor) -> Tensor:
        """uint8 RGB (N, T, H, W, 3) or float32 flow (N, T, 2, H, W) -> float32 (N, T, C, H, W)."""
        if clips.dtype == torch.uint8:
            clips = clips.permute(0, 1, 4, 2, 3).float() / 255
        shape = (1, 1, -1, 1, 1)
        return (clips - torch.tensor(self.mean).view(shape)) / torch.tensor(self.std).view(shape)


NORMALISATION = {
    "rgb": Normalisation((0.45, 0.45, 0.45), (0.25, 0.25, 0.25)),
    "flow": Normalisation((0.0, 0.0), (1.0, 1.0)),
}


def fast_bfloat16(device: str) -> bool:
    """Whether this device multiplies bfloat16 in hardware."""
    if device.startswith("cuda"):
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text()
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def train(
    recipe: Recipe,
    dataset: Any,
    classes: int,
    folder: Path,
    *,
    device: str = "cpu",
    workers: int = 1,
    resume: bool = False,
    report: Report | None = None,
) -> tuple[nn.Module, int, bool]:
    """Trains recipe.architecture on `dataset` (batches by number): (network, steps done, finished).

    Stops early, with finished False, on KeyboardInterrupt. Raises VpipeError `not_finite` when the loss is no
    longer a number, naming the step; the last checkpoint is kept.
    """
    keep_freed_memory()
    torch.manual_seed(recipe.seed)
    folder.mkdir(parents=True, exist_ok=True)
    network = build(recipe.architecture, {"classes": classes, "frames": recipe.inputs, **recipe.hyper})
    network = network.to(memory_format=torch.channels_last).to(device)  # type: ignore[call-overload]
    steps = len(dataset)
    optimiser = torch.optim.AdamW(_groups(network, recipe.weight_decay), lr=recipe.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=max(steps, 2), pct_start=0.2, final_div_factor=1e3
    )
    state = _Checkpoint(folder / "checkpoint.pt", recipe, network, optimiser, schedule)
    step = state.load() if resume else 0
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=range(step, steps),
        collate_fn=None,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        prefetch_factor=8 if workers else None,
        worker_init_fn=keep_freed_memory,
    )
    normalisation = NORMALISATION[recipe.modality]
    bfloat16 = recipe.precision == "bfloat16" or (recipe.precision == "auto" and fast_bfloat16(device))
    network.train()
    losses: list[float] = []
    hits: list[float] = []
    try:
        with (folder / "log.jsonl").open("a" if step else "w") as log:
            for batch in loader:
                clips, targets = (torch.as_tensor(part).to(device) for part in batch)
                with torch.autocast(device.split(":")[0], torch.bfloat16, enabled=bfloat16):
                    logits = network(normalisation.apply(clips))
                loss = nn.functional.cross_entropy(
                    logits.float(), targets, label_smoothing=recipe.label_smoothing
                )
                if not torch.isfinite(loss):
                    raise VpipeError(
                        "not_finite",
                        f"the loss is not finite at step {step} (batch {step} of seed "
                        f"{recipe.seed}); lower learning_rate; {state.path} holds the last good state",
                    )
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(network.parameters(), recipe.clip_gradient)
                optimiser.step()
                schedule.step()
                step += 1
                losses.append(float(loss.detach()))
                hits.append(float((logits.argmax(1) == targets.argmax(1)).float().mean()))
                if step % LOG_EVERY == 0 or step == steps:
                    row = {
                        "step": step,
                        "steps": steps,
                        "loss": round(float(np.mean(losses)), 4),
                        "accuracy": round(float(np.mean(hits)), 4),
                        "learning_rate": schedule.get_last_lr()[0],
                    }
                    log.write(json.dumps(row) + "\n")
                    log.flush()
                    losses, hits = [], []
                    if report:
                        report(row)
                if step % CHECKPOINT_EVERY == 0 or step == steps:
                    state.save(step)
    except KeyboardInterrupt:
        state.save(step)
        return network.eval(), step, False
    return network.eval(), step, True


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay on matrices and kernels only, not on biases and batch norm."""
    decayed = [p for p in network.parameters() if p.ndim > 1]
    plain = [p for p in network.parameters() if p.ndim <= 1]
    return [{"params": decayed, "weight_decay": decay}, {"params": plain, "weight_decay": 0.0}]


class _Checkpoint:
    """All that a run needs to go on, written beside and renamed."""

    def __init__(self, path: Path, recipe: Recipe, network: nn.Module, optimiser: Any, schedule: Any) -> None:
        self.path, self.recipe = path, recipe
        self.parts = {"network": network, "optimiser": optimiser, "schedule": schedule}

    def save(self, step: int) -> None:
        beside = self.path.with_suffix(".tmp")
        values = {name: part.state_dict() for name, part in self.parts.items()}
        with beside.open("wb") as file:
            torch.save(
                {"step": step, "recipe": json.dumps(self.recipe.to_json(), sort_keys=True), **values}, file
            )
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, self.path)

    def load(self) -> int:
        """The step reached; 0 without a checkpoint. Raises UsageError where it is of another recipe."""
        if not self.path.is_file():
            return 0
        try:
            values = torch.load(self.path, map_location="cpu", weights_only=True)
            same = values["recipe"] == json.dumps(self.recipe.to_json(), sort_keys=True)
        except Exception as error:  # torch raises many types on a damaged file
            raise UsageError(
                "bad_checkpoint",
                f"{self.path}: not a usable checkpoint ({type(error).__name__}); "
                "start again without --resume",
            ) from None
        if not same:
            raise UsageError(
                "other_recipe",
                f"{self.path}: made by another recipe; choose another folder or start again without --resume",
            )
        for name, part in self.parts.items():
            part.load_state_dict(values[name])
        return int(values["step"])
