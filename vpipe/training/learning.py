"""`vpipe train DATA`: a user's labelled videos in, a self-describing weight file and what it is worth out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import vpipe
from vpipe.errors import InputError, UsageError, VpipeError, Warning_
from vpipe.models.weights import Model, ModelHeader, StreamSpec, write_weights
from vpipe.recognition.recognizer import fuse
from vpipe.training.assessing import Assessment, assess, score
from vpipe.training.clip_store import ClipStore
from vpipe.training.distributed import Job, gathered
from vpipe.training.labelled import LabelledData, LabelledVideo
from vpipe.training.loop import Normalisation, seed_torch, train
from vpipe.training.own_clips import OwnClips
from vpipe.training.pieces import Pieces, cut
from vpipe.training.preparing import PreparedVideo, Preparer
from vpipe.training.recipe import Recipe
from vpipe.training.starting import network_of, specs_of

LEAST_EPOCHS = 10  # where the recipe counts clips
LICENCE = "that of the videos, and of the model it started from: "

Said = Callable[[str, dict[str, Any]], None]  # (stage, facts): "decode" done, total; "train" a row of the log


@dataclass(frozen=True)
class Learnt:
    """What a run did. `assessment` is None where it was interrupted."""

    labels: tuple[str, ...]
    background: str | None
    videos: int
    training: int  # pieces
    epochs: int
    clips: int  # seen
    finished: bool
    written: bool  # whether there is a weight file
    assessment: Assessment | None
    warnings: list[Warning_]
    failures: list[tuple[Path, VpipeError]]


def learn(
    data: LabelledData,
    recipe: Recipe,
    output: Path,
    *,
    init: Model | None,
    store: ClipStore,
    device: str = "cpu",
    jobs: int = 1,
    job: Job = Job(),  # noqa: B008 (frozen)
    resume: bool = False,
    checkpoint_every_s: float = 60.0,
    said: Said = lambda stage, facts: None,
) -> Learnt:
    """Trains on the videos of `data` and writes `output`; checkpoint and log go to `output`.run/.

    A video that cannot be used is a failure and stops nothing. Raises UsageError: `too_few`, as `specs_of`,
    `network_of` and `train` do; VpipeError as `train` does; EnvironmentFault as the store does.
    """
    # The labels are known only once it is known which videos can be used; what they are does not matter here.
    first = specs_of(recipe, init, 2)[0]
    videos, failures = _prepared(data, Preparer(first, store, jobs=jobs, device=device), job, said)
    span_s = first.frames / float(first.fps)
    try:
        pieces = cut(videos, shortest_s=span_s, seed=recipe.seed)
    except UsageError as fault:
        if not (lost := [*data.failures, *failures]):
            raise
        text = f"{fault.message}; {len(lost)} videos cannot be used, the first: {lost[0][1].message}"
        raise UsageError(fault.code, text) from None
    warnings = [*data.warnings, *pieces.warnings, *_video_warnings(videos)]
    count = len(pieces.labels)
    recipe = _with_length(recipe, len(pieces.training), job)
    networks: list[tuple[StreamSpec, Any]] = []
    scores: list[np.ndarray] = []
    finished = True
    for number, spec in enumerate(specs_of(recipe, init, count)):
        parts = (
            pieces if number == 0 else _for_stream(pieces, Preparer(spec, store, jobs=jobs, device=device))
        )
        seed_torch(recipe.seed)  # of the new last layer
        network, new = network_of(spec, init, number)
        if init is not None and new:
            text = f"--init {init.name}: {new} tensors of {spec.architecture} are not in it and start anew"
            warnings.append(Warning_("partial_init", text, {"tensors": new}))
        normalisation = Normalisation(spec.mean, spec.std)
        clips = OwnClips(spec, recipe, count, parts.training, clips=recipe.clips)
        folder = Path(f"{output}.run") / ("" if number == 0 else f"stream-{number}")
        network, steps, finished = train(
            recipe,
            clips,
            count,
            folder,
            network=network,
            normalisation=normalisation,
            device=device,
            workers=max(1, jobs),
            job=job,
            identity={"data": _fingerprint(parts), "init": init.hash if init else None},
            resume=resume,
            report=lambda row: said("train", row),
            log_every=10,
            checkpoint_every_s=checkpoint_every_s,
        )
        networks.append((spec, network))
        if not finished:
            break
        found = score(network, spec, parts.validation, count, normalisation, device=device, job=job)
        scores.append(found)
    seen = steps * recipe.batch * recipe.accumulate * job.world
    expected = 1 if recipe.architecture or init is None else len(init.streams)
    written = len(networks) == expected
    if written and job.first:
        states = [(spec, network.state_dict()) for spec, network in networks]
        write_weights(output, _header(output, pieces, recipe, init, seen), states)
    assessment = None
    if finished:
        weights = [spec.weight for spec, _ in networks]
        fused = fuse(scores, weights, init.header.fusion if init and len(scores) > 1 else "softmax")
        assessment = assess(pieces.validation, fused, pieces.labels)
    return Learnt(
        labels=pieces.labels,
        background=pieces.background,
        videos=pieces.videos,
        training=len(pieces.training),
        epochs=recipe.epochs,
        clips=seen,
        finished=finished,
        written=written,
        assessment=assessment,
        warnings=warnings,
        failures=[*data.failures, *failures],
    )


def _prepared(
    data: LabelledData, preparer: Preparer, job: Job, said: Said
) -> tuple[list[tuple[LabelledVideo, PreparedVideo]], list[tuple[Path, VpipeError]]]:
    """Every video in the store: each rank decodes its share, then all look at all."""
    mine = data.videos[job.rank :: job.world]
    faults: dict[Path, VpipeError] = {}

    def fault_of(labelled: LabelledVideo) -> InputError | None:
        try:
            preparer.prepare(labelled.path, verify=True)
        except InputError as fault:
            return fault
        except VpipeError:
            raise
        except Exception as error:
            text = f"{labelled.path}: unexpected {type(error).__name__}: {error} (a bug in vpipe)"
            return InputError("internal_error", text)
        return None

    # Flow is computed by threads of its own.
    threads = 1 if preparer.spec.modality == "flow" else preparer.jobs
    with ThreadPoolExecutor(threads, "vpipe-decode") as pool:
        try:
            for done, (labelled, fault) in enumerate(zip(mine, pool.map(fault_of, mine), strict=True), 1):
                if fault is not None:
                    faults[labelled.path] = fault
                said("decode", {"done": done, "total": len(mine)})
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    for others in gathered(faults, job):
        faults |= others
    prepared = []
    for labelled in data.videos:
        if labelled.path not in faults:
            try:
                prepared.append((labelled, preparer.prepare(labelled.path)))
            except InputError as fault:  # gone since
                faults[labelled.path] = fault
    return prepared, list(faults.items())


def _video_warnings(videos: Sequence[tuple[LabelledVideo, PreparedVideo]]) -> list[Warning_]:
    return [
        replace(warning, message=f"{labelled.path}: {warning.message}")
        for labelled, prepared in videos
        for warning in prepared.warnings
    ]


def _for_stream(pieces: Pieces, preparer: Preparer) -> Pieces:
    """The same pieces with the frames of another stream."""
    videos = {p.video.digest: p.video.path for p in (*pieces.training, *pieces.validation)}
    prepared = {digest: preparer.prepare(path, verify=True) for digest, path in videos.items()}
    return replace(
        pieces,
        training=[replace(p, video=prepared[p.video.digest]) for p in pieces.training],
        validation=[replace(p, video=prepared[p.video.digest]) for p in pieces.validation],
    )


def _with_length(recipe: Recipe, pieces: int, job: Job) -> Recipe:
    """The recipe with epochs and clips that agree; an epoch has as many clips as there are pieces."""
    epochs = recipe.epochs or max(LEAST_EPOCHS, -(-recipe.clips // pieces))
    return replace(recipe, epochs=epochs, clips=epochs * pieces)


def _fingerprint(pieces: Pieces) -> str:
    """Of what is trained on: contents, labels and times, not where the files lie."""
    facts = [
        [(p.video.digest, p.label, round(p.start_s, 6), round(p.end_s, 6)) for p in part]
        for part in (pieces.training, pieces.validation)
    ]
    return hashlib.sha256(json.dumps([pieces.labels, facts]).encode()).hexdigest()


def _header(output: Path, pieces: Pieces, recipe: Recipe, init: Model | None, clips: int) -> ModelHeader:
    start = f"from {init.name} ({init.hash[:12]})" if init else "from random weights"
    source = (
        f"vpipe {vpipe.__version__} train, recipe {recipe.name}, {start}, seed {recipe.seed}, "
        f"{clips} clips of {pieces.videos} videos"
    )
    fusion = init.header.fusion if init and not recipe.architecture else "softmax"
    licence = LICENCE + (init.header.licence if init else "none")
    return ModelHeader(output.stem, pieces.labels, pieces.background, source, licence, fusion)
