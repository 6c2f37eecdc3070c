"""Training contenders by the plan, or taking them from the cache folder where they were trained before.

cache/comparison/NAME-DIGEST.safetensors    trained
                 NAME-DIGEST.run/           being trained: log and checkpoint
                 clips-DIGEST/              training clips and their flow, while something is being trained
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import vpipe
from vpipe.comparison.clips import Clips, Pictures, flow_codes, make_clips
from vpipe.comparison.contenders import Contender
from vpipe.comparison.labels import LABELS
from vpipe.comparison.plan import FLOW, FPS, FRAMES, MADE_PX, SIZE_PX, STORAGE, TRAINING, VERSION, Plan
from vpipe.comparison.shown import Shown
from vpipe.comparison.workers import Workers
from vpipe.errors import UsageError
from vpipe.models.registry import build
from vpipe.models.weights import ModelHeader, StreamSpec, read_weights, write_weights
from vpipe.training.loop import NORMALISATION, train
from vpipe.training.recipe import Recipe

Say = Callable[[str, int, int], None]  # what is done, done, of
LOOK_EVERY_S = 0.5  # how far the processes are


def recipe_of(contender: Contender, plan: Plan) -> Recipe:
    hyper = {"classes": len(LABELS), **contender.hyper}
    return plan.recipe(contender.name, contender.modality, contender.architecture, hyper)


@dataclass(frozen=True)
class Trained:
    contender: Contender
    network: nn.Module  # in eval mode, float32
    path: Path  # of its weight file


def weight_file(contender: Contender, plan: Plan, cache: Path) -> Path:
    """Where the network trained by this plan is kept: another plan or another network is another file."""
    flow = {**FLOW.to_dict(), "storage": STORAGE.to_dict()} if contender.modality == "flow" else None
    what = {
        "version": VERSION,
        "training": {"seed": plan.seed, "seen": plan.seen, **TRAINING},
        "clip": [FRAMES, str(FPS), SIZE_PX, flow],
        "network": [contender.architecture, contender.hyper],
    }
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:12]
    return cache / "comparison" / f"{contender.name}-{digest}.safetensors"


def trained(
    contenders: Sequence[Contender],
    plan: Plan,
    cache: Path,
    device: str,
    workers: Workers,
    *,
    again: bool,
    say: Say,
) -> dict[str, Trained]:
    """The contenders' networks by name, from the cache folder or trained now and kept there.

    Each is trained by one thread, so that the result does not depend on the number of jobs.
    Raises KeyboardInterrupt where it was interrupted; the next call goes on from there. Raises VpipeError.
    """
    paths = {one.name: weight_file(one, plan, cache) for one in contenders}
    if again:
        for path in paths.values():
            path.unlink(missing_ok=True)
            shutil.rmtree(path.with_suffix(".run"), ignore_errors=True)
    found = {one.name: _read(one, paths[one.name], device) for one in contenders}
    missing = [one for one in contenders if found[one.name] is None]
    if missing:
        clips = _clip_folder(plan, cache)
        for modality in sorted({one.modality for one in missing}, reverse=True):  # flow is that of the frames
            _make(modality, plan, clips, workers, say)
        tasks = [_Task(one, plan, clips / f"{one.modality}.npy", paths[one.name], device) for one in missing]
        _learn_all(tasks, workers, say)
        shutil.rmtree(clips, ignore_errors=True)
        found |= {one.name: _read(one, paths[one.name], device) for one in missing}
    return {name: one for name, one in found.items() if one is not None}


def _read(contender: Contender, path: Path, device: str) -> Trained | None:
    """None where there is no such file, or it is damaged, or of an older network."""
    if not path.is_file():
        return None
    try:
        return Trained(contender, read_weights(path, device).streams[0].network, path)
    except UsageError:
        return None


def _clip_folder(plan: Plan, cache: Path) -> Path:
    what = [VERSION, plan.seed, plan.made(len(LABELS)), FRAMES, str(FPS), MADE_PX, FLOW.to_dict()]
    digest = hashlib.sha256(json.dumps([*what, STORAGE.to_dict()], sort_keys=True).encode()).hexdigest()[:12]
    return cache / "comparison" / f"clips-{digest}"


def _make(modality: str, plan: Plan, folder: Path, workers: Workers, say: Say) -> None:
    """rgb.npy or flow.npy of the training clips, where it is not there yet."""
    path, each = folder / f"{modality}.npy", plan.made(len(LABELS))
    if path.is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    count = each * len(LABELS)
    made: Pictures
    if modality == "rgb":
        told = "training clips"
        made = make_clips(each, [plan.seed, 1], workers, done=lambda n: say(told, n, count)).frames
    else:
        _make("rgb", plan, folder, workers, say)
        told = "flow of the training clips"
        clips = Clips(np.load(folder / "rgb.npy", mmap_mode="c"), _labels(plan))
        made = flow_codes(clips, workers, done=lambda n: say(told, n, count))
    beside = folder / f".{modality}.{os.getpid()}.npy"
    np.save(beside, made)
    os.replace(beside, path)


def _labels(plan: Plan) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.tile(np.arange(len(LABELS)), plan.made(len(LABELS)))


@dataclass(frozen=True)
class _Task:
    contender: Contender
    plan: Plan
    clips: Path
    path: Path  # of the weight file
    device: str

    @property
    def run(self) -> Path:
        return self.path.with_suffix(".run")

    @property
    def steps(self) -> int:
        return -(-self.plan.seen // self.plan.batch)

    def done(self) -> int:
        """Steps, as far as the log has them."""
        if self.path.is_file():
            return self.steps
        with suppress(OSError, ValueError, KeyError, IndexError):
            return int(json.loads((self.run / "log.jsonl").read_text().splitlines()[-1])["step"])
        return 0


def _learn_all(tasks: Sequence[_Task], workers: Workers, say: Say) -> None:
    if workers.jobs == 1 or len(tasks) == 1:
        for task in tasks:
            _learn(task, partial(_tell, say, task))
        return
    waiting = {workers.submit(_learn_in_process, task) for task in tasks}
    told, steps = f"training of {len(tasks)} networks", sum(task.steps for task in tasks)
    while waiting:
        done, waiting = wait(waiting, timeout=LOOK_EVERY_S)
        for future in done:
            future.result()
        say(told, sum(task.done() for task in tasks), steps)


def _tell(say: Say, task: _Task, row: dict[str, Any]) -> None:
    say(task.contender.title, row["step"], task.steps)


def _learn_in_process(task: _Task) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends after the step, with a checkpoint
    _learn(task, None)


def _learn(task: _Task, report: Callable[[dict[str, Any]], None] | None) -> None:
    """Trains and writes the weight file; goes on where there is a checkpoint."""
    contender, plan = task.contender, task.plan
    try:
        network = _fit(task, report)
    except UsageError:  # the checkpoint of a run that was killed is not usable
        shutil.rmtree(task.run, ignore_errors=True)
        network = _fit(task, report)
    source = f"vpipe {vpipe.__version__} bench, {contender.title}, seed {plan.seed}, {plan.seen} clips"
    header = ModelHeader(f"bench-{contender.name}", LABELS, "static", source, "Apache-2.0")
    write_weights(task.path, header, [(_spec(contender), network.cpu().state_dict())], half=False)
    shutil.rmtree(task.run, ignore_errors=True)


def _fit(task: _Task, report: Callable[[dict[str, Any]], None] | None) -> nn.Module:
    recipe = recipe_of(task.contender, task.plan)
    inputs = torch.from_numpy(np.load(task.clips, mmap_mode="c")).to(task.device)
    shown = Shown(inputs, _labels(task.plan), recipe, task.contender.take)
    torch.manual_seed(recipe.seed)
    network, _, finished = train(
        recipe,
        shown,
        len(LABELS),
        task.run,
        network=build(recipe.architecture, recipe.hyper),
        device=task.device,
        workers=0,  # the clips are in memory
        resume=True,
        report=report,
        log_every=10,
    )
    if not finished:
        raise KeyboardInterrupt
    return network


def _spec(contender: Contender) -> StreamSpec:
    normalisation = NORMALISATION[contender.modality]
    flow = contender.modality == "flow"
    return StreamSpec(
        architecture=contender.architecture,
        hyper={"classes": len(LABELS), **contender.hyper},
        modality=contender.modality,
        frames=len(contender.take),
        fps=FPS,
        size=(SIZE_PX, SIZE_PX),
        mean=normalisation.mean,
        std=normalisation.std,
        flow_params=FLOW if flow else None,
        bound=STORAGE.bound_px,
    )
