"""Training a contender by the plan, or taking it from the cache folder where it was trained before."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

import vpipe
from vpipe.comparison.clips import Clips, Shown, flow_codes, make_clips
from vpipe.comparison.contenders import Contender
from vpipe.comparison.labels import LABELS
from vpipe.comparison.plan import FLOW, FPS, FRAMES, SIZE_PX, STORAGE, TRAINING, VERSION, Plan
from vpipe.errors import UsageError
from vpipe.models.registry import build
from vpipe.models.weights import ModelHeader, StreamSpec, read_weights, write_weights
from vpipe.training.loop import NORMALISATION, train
from vpipe.training.recipe import Recipe

Say = Callable[[str, int, int], None]  # what is done, done, of


def recipe_of(contender: Contender, plan: Plan) -> Recipe:
    hyper = {"classes": len(LABELS), **contender.hyper}
    return plan.recipe(contender.name, contender.modality, contender.architecture, hyper)


class TrainingClips:
    """The training clips and their flow, made when somebody first needs them."""

    def __init__(self, plan: Plan, jobs: int, say: Say) -> None:
        self.plan, self.jobs, self.say = plan, jobs, say
        self._clips: Clips | None = None
        self._codes: npt.NDArray[np.uint8] | None = None

    def shown_to(self, contender: Contender) -> Shown:
        each = self.plan.made(len(LABELS))
        count = each * len(LABELS)
        if self._clips is None:
            told = "training clips"
            self._clips = make_clips(each, [self.plan.seed, 1], done=lambda n: self.say(told, n, count))
        inputs = self._clips.frames
        if contender.modality == "flow":
            if self._codes is None:
                told = "flow of the training clips"
                self._codes = flow_codes(self._clips, jobs=self.jobs, done=lambda n: self.say(told, n, count))
            inputs = self._codes
        return Shown(inputs, self._clips.labels, recipe_of(contender, self.plan), contender.take)


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
    contender: Contender, plan: Plan, clips: TrainingClips, cache: Path, device: str, *, again: bool, say: Say
) -> Trained:
    """The contender's network, from the cache folder or trained now and kept there.

    Raises KeyboardInterrupt where it was interrupted; the next call goes on from there. Raises VpipeError.
    """
    path = weight_file(contender, plan, cache)
    if path.is_file() and not again:
        try:
            return Trained(contender, read_weights(path, device).streams[0].network, path)
        except UsageError:
            pass  # damaged, or of an older network: train it again
    run = path.with_suffix(".run")
    if again:
        shutil.rmtree(run, ignore_errors=True)
    try:
        network = _learn(contender, plan, clips, run, device, say)
    except UsageError:  # the checkpoint of a run that was killed is not usable
        shutil.rmtree(run, ignore_errors=True)
        network = _learn(contender, plan, clips, run, device, say)
    source = f"vpipe {vpipe.__version__} bench, {contender.title}, seed {plan.seed}, {plan.seen} clips"
    header = ModelHeader(f"bench-{contender.name}", LABELS, "static", source, "Apache-2.0")
    write_weights(path, header, [(_spec(contender), network.state_dict())], half=False)
    shutil.rmtree(run, ignore_errors=True)
    return Trained(contender, network, path)


def _learn(
    contender: Contender, plan: Plan, clips: TrainingClips, run: Path, device: str, say: Say
) -> nn.Module:
    recipe, shown = recipe_of(contender, plan), clips.shown_to(contender)
    torch.manual_seed(recipe.seed)
    network, _, finished = train(
        recipe,
        shown,
        len(LABELS),
        run,
        network=build(recipe.architecture, recipe.hyper),
        device=device,
        workers=0,  # the clips are in memory
        resume=True,
        report=lambda row: say(contender.title, row["step"], len(shown)),
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
