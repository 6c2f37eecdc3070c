"""One process a GPU (or a share of the cores), started by torchrun: who this process is, and how it joins."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from vpipe.errors import UsageError, VpipeError

_PATIENCE = timedelta(days=7)  # ranks wait for each other while one of them decodes a large data set


@dataclass(frozen=True)
class Job:
    """This process among those of a run; a run without torchrun is one of one."""

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    local_world: int = 1
    restarts: int = 0  # how often torchrun has started the whole job again

    @classmethod
    def from_environment(cls) -> Job:
        """What torchrun says in its variables."""
        if "TORCHELASTIC_RUN_ID" not in os.environ:
            return cls()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
        return cls(*(int(os.environ[name]) for name in names))

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and reports."""
        return self.rank == 0

    def device(self, named: str, resolved: str) -> str:
        """The device of this rank: the local rank's GPU where the run is on GPUs."""
        if self.world == 1 or resolved == "cpu":
            return resolved
        count = torch.cuda.device_count()
        if ":" in named:
            raise UsageError(
                "bad_device", f"--device {named}: under torchrun each rank takes its own; say cuda"
            )
        if self.local_rank >= count:
            raise UsageError(
                "no_such_device",
                f"{self.local_world} processes on this machine, but {count} CUDA devices: "
                f"torchrun --nproc-per-node {count}",
            )
        return f"cuda:{self.local_rank}"


@contextmanager
def joined(job: Job, device: str) -> Iterator[None]:
    """Joins the other processes of the run (NCCL between GPUs, gloo between CPUs) for the `with` block."""
    if job.world == 1:
        yield
        return
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    store, rank, world = next(rendezvous("env://", timeout=_PATIENCE))
    # torchrun keeps one store for all attempts. Without a name for each, a process that is started again may
    # read where one of the last attempt could be reached, and wait for what is gone.
    store = dist.PrefixStore(  # type: ignore[attr-defined]
        f"attempt-{job.restarts}", store
    )
    backend = "nccl" if device.startswith("cuda") else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        yield
    finally:
        gc.collect()  # a parallel network is a cycle, and its threads must not outlive the interpreter
        dist.destroy_process_group()


def parallel(network: nn.Module, device: str) -> nn.Module:
    """The network with gradients averaged over all ranks."""
    devices = [torch.device(device)] if device.startswith("cuda") else None
    return DistributedDataParallel(network, device_ids=devices)


def total(values: list[float], job: Job, device: str) -> list[float]:
    """Sums over all ranks."""
    if job.world == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64, device=device)
    dist.all_reduce(tensor)
    return [float(value) for value in tensor]


def gathered(value: Any, job: Job) -> list[Any]:
    """The value of every rank, in their order; also where all wait for the last one."""
    if job.world == 1:
        return [value]
    values: list[Any] = [None] * job.world
    dist.all_gather_object(values, value)
    return values


@contextmanager
def losses_named(job: Job, checkpoint: object) -> Iterator[None]:
    """Another rank that dies breaks a connection here: says so, and how to go on."""
    try:
        yield
    except RuntimeError as error:
        text = str(error)
        broken = isinstance(error, dist.DistError) or "gloo" in text or "Connection" in text
        if job.world == 1 or not broken:
            raise
        raise VpipeError(
            "rank_lost",
            f"rank {job.rank} of {job.world}: another process of this run has ended, so this one stops too; "
            f"the last checkpoint is {checkpoint}: run the same command with --resume to go on",
        ) from error


class SyncedBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over the batches of all ranks (Peng et al. 2018, MegDet, section 3.3), on CPU as on GPU.

    In training, mean and variance are those of all ranks' inputs together; in eval mode it is the plain one.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError("at least (N, C) is needed")

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and dist.is_initialized()):
            return super().forward(x)
        # Here, because torch takes a while to import it.
        from torch.distributed.nn.functional import all_reduce

        over = [d for d in range(x.dim()) if d != 1]
        shape = [1, -1] + [1] * (x.dim() - 2)
        wide, count = x.float(), x.numel() / x.shape[1]
        own = wide.mean(over)
        sums = all_reduce(torch.cat([own * count, torch.full((1,), count, device=x.device)]))
        number = sums[-1]
        mean = sums[:-1] / number
        # Squares of what is left around the mean: those of the inputs themselves would cancel.
        apart = wide - mean.view(shape)
        variance = all_reduce((apart * apart).sum(over)) / number
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            with torch.no_grad():
                self.num_batches_tracked.add_(1)  # type: ignore[union-attr]
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)  # type: ignore[arg-type]
                self.running_mean.lerp_(mean.detach(), share)
                self.running_var.lerp_(variance.detach() * number.detach() / (number.detach() - 1), share)
        out = apart * torch.rsqrt(variance + self.eps).view(shape)
        if self.affine:
            out = out * self.weight.view(shape) + self.bias.view(shape)
        return out.to(x.dtype)


def synced(network: nn.Module) -> nn.Module:
    """The network with every batch norm that is not frozen synchronised; names of parameters stay."""
    for name, child in network.named_children():
        if isinstance(child, nn.modules.batchnorm._BatchNorm) and child.training:
            norm = SyncedBatchNorm(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            norm.load_state_dict(child.state_dict())
            setattr(network, name, norm.to(next(child.parameters(), torch.empty(0)).device))
        else:
            synced(child)
    return network
