"""One rank of a run, for the tests: `torchrun --nproc-per-node 2 -m tests.training.ranks KIND FOLDER`.

Writes FOLDER/log.jsonl through the loop. KIND is what the batch norms do: frozen, synced or plain; or slow,
with time to kill a rank, and late, the same with a rank that is slow to start again.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tests.training.test_train import RECIPE, Moving
from vpipe.training.distributed import Job, joined
from vpipe.training.loop import train

STEPS = 20


class Single(Moving):
    """Clip p of all is the same however large a batch is."""

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        ones = Moving(replace(self.recipe, batch=1))
        first = number * self.recipe.batch
        clips, targets = zip(*(ones[first + k] for k in range(self.recipe.batch)), strict=True)
        return np.concatenate(clips), np.concatenate(targets)


class Slow(Single):
    """Leaves time to kill a rank."""

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        time.sleep(0.05)
        return super().__getitem__(number)


def recipe_for(kind: str, batch: int, steps: int = STEPS):
    return replace(
        RECIPE,
        clips=8 * steps,
        batch=batch,
        hyper={"widths": [8, 8, 16], "dropout": 0.0},
        freeze_bn="all" if kind == "frozen" else "none",
        sync_bn=kind == "synced",
        clip_gradient=1e9,
    )


def main() -> None:
    kind, folder = sys.argv[1], Path(sys.argv[2])
    torch.set_num_threads(1)
    job = Job.from_environment()
    slow = kind in ("slow", "late")
    recipe = recipe_for(kind, 8 // job.world, 200 if slow else STEPS)
    resume = job.restarts > 0 or "--resume" in sys.argv
    if kind == "late" and job.restarts and job.first:
        time.sleep(
            3
        )  # the other reads what the store has of the attempt before, unless that has its own name
    (folder / f"pid-{job.rank}").write_text(str(os.getpid()))
    with joined(job, "cpu"):
        train(
            recipe,
            (Slow if slow else Single)(recipe),
            2,
            folder / "run",
            workers=0,
            job=job,
            resume=resume,
            log_every=1,
            checkpoint_every_s=0.2 if slow else 60.0,
        )


if __name__ == "__main__":
    main()
