"""The training loop: one process, or one of several that torchrun started; a JSONL log, checkpoints.

A run is a folder with `log.jsonl` and `checkpoint.pt` (weights, optimiser, what is done, what run it is of).

batch numbers   0 1 2 3 4 5 6 7 ...     2 ranks, accumulate 2: step 0 is batches 0-3
rank 0          0   2   4   6           each rank reads its own; gradients are averaged over ranks
rank 1            1   3   5   7         and over the batches of a step
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vpipe.allocator import keep_freed_memory
from vpipe.errors import EnvironmentFault, UsageError, VpipeError
from vpipe.models.layers import channels_last
from vpipe.models.registry import build
from vpipe.training.checkpoint import Checkpoint
from vpipe.training.distributed import Job, gathered, losses_named, parallel, synced, total
from vpipe.training.optimiser import Average, drop_inputs_of_head, freeze, make_optimiser, set_rate
from vpipe.training.reading import Batches, describe, read_ahead
from vpipe.training.recipe import Recipe
from vpipe.training.schedule import Schedule
from vpipe.training.signals import BetweenSteps

LOG_EVERY = 50  # steps
CHECKPOINT_EVERY_S = 60.0

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
        mean, std = (torch.tensor(part, device=clips.device).view(shape) for part in (self.mean, self.std))
        return (clips - mean) / std


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
    dataset: Batches,
    classes: int,
    folder: Path,
    *,
    network: nn.Module | None = None,
    normalisation: Normalisation | None = None,
    device: str = "cpu",
    workers: int = 1,
    job: Job | None = None,
    identity: Mapping[str, Any] | None = None,
    resume: bool = False,
    report: Report | None = None,
    log_every: int = LOG_EVERY,
    checkpoint_every_s: float = CHECKPOINT_EVERY_S,
) -> tuple[nn.Module, int, bool]:
    """Trains on `dataset`: (network in eval mode, steps done, finished).

    network: to start from; None builds `recipe.architecture`. identity: what tells this run from others, for
    --resume, beside the recipe. Stops early, with finished False, on Ctrl-C or SIGTERM: at once, in the state
    of the last step; one process of several, after the step.
    Raises VpipeError: `not_finite`, naming the batch, where the loss is no longer a number (the
    last checkpoint is kept); `rank_lost` where another process of the run died.
    """
    keep_freed_memory()
    job = job or Job.from_environment()
    seed_torch(recipe.seed)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EnvironmentFault(
            "unwritable_output", f"{folder}: cannot be made ({error.strerror}); choose another -o"
        ) from None
    if network is None:
        network = build(recipe.architecture, {"classes": classes, "frames": recipe.inputs, **recipe.hyper})
    network = channels_last(network).to(device)
    freeze(network, recipe.freeze_bn)
    if recipe.dropout:
        drop_inputs_of_head(network, recipe.dropout)
    if recipe.sync_bn and job.world > 1:
        network = synced(network)
    run = _Run(recipe, network, normalisation or NORMALISATION[recipe.modality], device, job)
    known = {"recipe": recipe.to_json(), **(identity or {})}
    state = Checkpoint(folder / "checkpoint.pt", known, run.parts())
    step, done = _agreed(state.load() if resume else (0, 0), job, state.path)
    group = job.world * recipe.accumulate
    steps = step + max(0, -(-(len(dataset) - done) // group))
    mine = range(done + job.rank, done + (steps - step) * group, job.world)
    log = _Log(folder / "log.jsonl", keep=step) if job.first else None
    meter = _Meter(recipe.batch, job, device)
    saved = time.monotonic()
    batches = read_ahead(dataset, mine, workers)
    alone = job.world == 1  # others wait for this one's part of a step
    with BetweenSteps(lambda: state.save(step, done)) as signals, losses_named(job, state.path):
        try:
            while step < steps:
                signals.check()
                rate = run.begin(step, steps)
                with signals.may_be_given_up() if alone else nullcontext():
                    run.gradients(step, done, batches, dataset, meter, state.path)
                with signals.whole():
                    run.update()
                    step, done = step + 1, done + group
                if step % log_every == 0 or step == steps:
                    row = {"step": step, "steps": steps, **meter.row(), "learning_rate": rate}
                    if log:
                        log.write(row)
                    if report:
                        report(row)
                if job.first and (step == steps or time.monotonic() - saved > checkpoint_every_s):
                    state.save(step, done)
                    saved = time.monotonic()
        except KeyboardInterrupt:
            if job.first:
                signals.save()
            return run.result(), step, False
        finally:
            getattr(batches, "close", lambda: None)()
    return run.result(), step, True


def seed_torch(seed: int) -> None:
    """Torch's random numbers from any whole number from 0 on."""
    torch.manual_seed(seed % 2**63)


def _agreed(position: tuple[int, int], job: Job, path: Path) -> tuple[int, int]:
    """Where to go on from. Raises UsageError where processes see different checkpoints."""
    if len(set(gathered(position, job))) > 1:
        raise UsageError(
            "bad_checkpoint",
            f"{path}: not the same for all processes; copy the run's folder to every machine",
        )
    return position


class _Run:
    """The network with what trains it."""

    def __init__(
        self, recipe: Recipe, network: nn.Module, normalisation: Normalisation, device: str, job: Job
    ) -> None:
        self.recipe, self.network, self.normalisation, self.device = recipe, network, normalisation, device
        self.job = job
        self.buffers: dict[str, Tensor] = {}  # before the step under way
        self.forward = parallel(network, device) if job.world > 1 else network
        self.optimiser = make_optimiser(network, recipe)
        self.schedule = Schedule(recipe.schedule, recipe.warmup, recipe.milestones, recipe.decay)
        self.average = Average(network, recipe.ema) if recipe.ema else None
        kind = device.split(":")[0]
        half = recipe.precision
        if half == "auto":
            half = "bfloat16" if fast_bfloat16(device) else "float32"
        self.cast = torch.autocast(kind, getattr(torch, half), enabled=half != "float32")
        self.scaler = torch.amp.GradScaler(kind, enabled=half == "float16")

    def parts(self) -> dict[str, Any]:
        """For the checkpoint."""
        parts = {"network": self, "optimiser": self.optimiser, "scaler": self.scaler}
        return parts | ({"average": self.average} if self.average else {})

    def state_dict(self) -> dict[str, Tensor]:
        """The network's as of the last whole step: in between, batch norms have counted more."""
        values = self.network.state_dict()
        return values | {name: value for name, value in self.buffers.items() if name in values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.network.load_state_dict(state)

    def begin(self, step: int, steps: int) -> float:
        """The learning rate of the next step."""
        rate = self.recipe.learning_rate * self.schedule.rate(step, steps)
        set_rate(self.optimiser, rate, self.schedule.momentum(step, steps))
        return rate

    def gradients(
        self, step: int, done: int, batches: Any, dataset: Batches, meter: _Meter, kept: Path
    ) -> None:
        """Those of a step, from the next `accumulate` batches. Raises VpipeError `not_finite`."""
        recipe = self.recipe
        self.buffers = {name: value.clone() for name, value in self.network.named_buffers()}
        self.optimiser.zero_grad(set_to_none=True)
        for turn in range(recipe.accumulate):
            number = done + turn * self.job.world + self.job.rank
            clips, targets = meter.timed(batches)
            # Dropout too depends on the batch alone, so that a resumed run goes on exactly as it would have.
            seed_torch(recipe.seed * 1_000_003 + number)
            last = turn == recipe.accumulate - 1
            wait = nullcontext() if last or self.job.world == 1 else self.forward.no_sync()  # type: ignore[operator]
            with wait:
                with self.cast:
                    logits = self.forward(self.normalisation.apply(clips.to(self.device)))
                targets = targets.to(self.device)
                loss = nn.functional.cross_entropy(
                    logits.float(), targets, label_smoothing=recipe.label_smoothing
                )
                if not torch.isfinite(loss):
                    raise VpipeError(
                        "not_finite",
                        f"the loss is not finite at step {step}: {describe(dataset, number, recipe.seed)}; "
                        f"look at these, or lower learning_rate; {kept} holds the last good state",
                    )
                self.scaler.scale(loss / recipe.accumulate).backward()
            meter.add(float(loss.detach()), float((logits.argmax(1) == targets.argmax(1)).float().mean()))

    def update(self) -> None:
        """The step itself, by the gradients."""
        recipe = self.recipe
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_gradient)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        if self.average:
            self.average.update(self.network)
        self.buffers = {}

    def result(self) -> nn.Module:
        """The trained network in eval mode, as of the last whole step: the average where one was kept."""
        self.network.load_state_dict(self.state_dict())
        if self.average:
            self.network.load_state_dict(self.average.weights())
        return self.network.eval()


class _Meter:
    """Loss, accuracy and throughput since the last row, over all ranks."""

    def __init__(self, batch: int, job: Job, device: str) -> None:
        self.batch, self.job, self.device = batch, job, device
        self._reset()

    def _reset(self) -> None:
        self.loss, self.hits, self.batches, self.waited = 0.0, 0.0, 0, 0.0
        self.begin = time.perf_counter()

    def timed(self, batches: Any) -> tuple[Tensor, Tensor]:
        """The next batch; notes how long it was waited for."""
        begin = time.perf_counter()
        clips, targets = next(batches)
        self.waited += time.perf_counter() - begin
        return torch.as_tensor(clips), torch.as_tensor(targets)

    def add(self, loss: float, hits: float) -> None:
        self.loss, self.hits, self.batches = self.loss + loss, self.hits + hits, self.batches + 1

    def row(self) -> dict[str, float]:
        """The means since the last row, clips a second of all ranks, the share of the time without data."""
        took = time.perf_counter() - self.begin
        sums = total([self.loss, self.hits, self.batches, self.waited, took], self.job, self.device)
        loss, hits, batches, waited, spent = sums
        self._reset()
        return {
            "loss": round(loss / batches, 6),
            "accuracy": round(hits / batches, 4),
            "clips_per_s": round(batches * self.batch * self.job.world / spent, 2),
            "data_wait": round(waited / spent, 4),
        }


class _Log:
    """`log.jsonl`: rows beyond the step that a resumed run goes on from are dropped."""

    def __init__(self, path: Path, keep: int) -> None:
        self.path = path
        rows = []
        if keep and path.is_file():
            for line in path.read_text(errors="replace").splitlines():
                try:
                    if json.loads(line)["step"] <= keep:
                        rows.append(line + "\n")
                except (ValueError, KeyError, TypeError):
                    continue  # a line that a killed run did not finish
        path.write_text("".join(rows))

    def write(self, row: dict[str, Any]) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")
