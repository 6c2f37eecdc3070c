"""Training learned heads on cached snippet features: minutes on two cores, nothing is decoded.

Time is that of the features: a segment of the truth becomes a run of positions (snippet i covers [i, i + 1))
by the times of the snippets' centres, which come from the PTS of the video's frames.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import vpipe
from vpipe.detection.heads.head import HeadHeader, build_head, write_head
from vpipe.detection.heads.mstcn import MSTCN
from vpipe.detection.heads.stpp import STPP
from vpipe.errors import InputError, UsageError, Warning_
from vpipe.evaluation.annotations import read_truth, same_id
from vpipe.recognition.features_file import Features, Spacing, feature_files, read_features
from vpipe.training.stpp_loss import Proposals, stpp_loss

EPOCHS = 50
LEARNING_RATE = 5e-4  # Adam, of MS-TCN
SLOWEST = 0.02  # of the learning rate, at the end of a half cosine
DAMAGED = ("bad_features", "not_found")  # faults of one file, not of what was asked
LICENCE = "as its features and annotations say"


@dataclass(frozen=True)
class Example:
    """A video to learn from."""

    features: Features
    runs: np.ndarray  # (A, 2) float64, positions, within [0, T]
    labels: np.ndarray  # (A,) int64

    def snippet_labels(self, background: int) -> Tensor:
        """(T,) int64: the label at the centre of each snippet."""
        centre = np.arange(len(self.features.table)) + 0.5
        shown = np.full(len(centre), background)
        for (start, end), label in zip(self.runs, self.labels, strict=True):
            shown[(centre >= start) & (centre < end)] = label
        return torch.from_numpy(shown)


@dataclass(frozen=True)
class Trained:
    """What a training did."""

    path: Path
    videos: int
    segments: int
    labels: int
    loss: float  # mean of the last epoch
    warnings: list[Warning_]


def train_head(
    kind: str,
    features: Path,
    truth: Path,
    output: Path,
    *,
    subset: str | None = None,
    spacing: Spacing | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    device: str = "cpu",
    report: Callable[[int, int], None] | None = None,
) -> Trained:
    """Trains head `kind` on the feature files of a folder whose videos the truth knows, and writes it.

    `subset` picks a part of the truth; `spacing` is for feature files that do not say theirs. Epochs default
    to EPOCHS. `report` hears (epochs done, epochs).

    Raises UsageError `unknown_head`; InputError as `feature_files`, `read_features` and `read_truth` do,
    `no_videos` where truth and features share none, `features_differ` where they are not of one kind.
    """
    examples, labels, background, warnings = read_examples(features, truth, subset=subset, spacing=spacing)
    torch.manual_seed(seed or 0)
    rng = np.random.default_rng(seed or 0)
    first = examples[0].features
    network, hyper = build_head(kind, first.table.shape[1], len(labels) + 1)
    network.standardise.learn(*_statistics(examples))
    network.to(device)
    if isinstance(network, STPP):
        _learn_targets(network, examples, rng)
    loss = _fit(network, examples, EPOCHS if epochs is None else epochs, rng, device, report)
    name = output.stem
    videos, segments = len(examples), sum(len(example.runs) for example in examples)
    header = HeadHeader(
        kind,
        name,
        hyper,
        (*labels, background),
        first.spacing,
        {"name": str(first.model.get("name")), "hash": first.model["hash"]} if first.model else None,
        f"vpipe {vpipe.__version__} train --head {kind}, seed {seed or 0}, {videos} videos, "
        f"{segments} segments of {truth.name}",
        LICENCE,
    )
    write_head(output, header, network)
    return Trained(output, videos, segments, len(labels), loss, warnings)


def read_examples(
    features: Path, truth: Path, *, subset: str | None, spacing: Spacing | None
) -> tuple[list[Example], list[str], str, list[Warning_]]:
    """The videos that have both features and truth, the labels, the background's name, and warnings."""
    known = read_truth(truth, subset=subset)
    warnings = list(known.warnings)
    table = known.segments
    files = {same_id(video, known.known): path for video, path in feature_files(features).items()}
    unknown = sorted(video for video in files if video not in known.known)
    if unknown:
        warnings.append(
            Warning_(
                "unknown_videos",
                f"{len(unknown)} feature files of videos that {truth.name} does not know are left out, "
                f"{unknown[0]} first",
                {"videos": len(unknown)},
            )
        )
    missing = sorted(known.videos - set(files))
    if missing:
        warnings.append(
            Warning_(
                "no_features",
                f"{len(missing)} videos of {truth.name} have no features and are left out, "
                f"{missing[0]} first",
                {"videos": len(missing)},
            )
        )
    chosen = sorted(known.videos & set(files))
    if not chosen:
        part = f"subset '{subset}' of " if subset is not None else ""
        raise InputError(
            "no_videos", f"{part}{truth}: none of its videos has features in {features}: compare the ids"
        )
    chosen, read, bad = _read_all({video: files[video] for video in chosen}, spacing)
    warnings += bad
    for one in read[1:]:
        _same_kind(one, read[0])
    background = str((read[0].model or {}).get("background") or "background")
    labels = sorted(set(table.label) - {background})
    column = np.array([labels.index(n) if n != background else -1 for n in table.label], dtype=np.int64)
    rows: dict[str, list[int]] = {video: [] for video in chosen}
    for row, video in enumerate(table.video):
        if video in rows:
            rows[video].append(row)
    examples = []
    for video, one in zip(chosen, read, strict=True):
        mine = np.array(rows[video], dtype=np.int64)
        runs = np.stack([positions(one, table.start_s[mine]), positions(one, table.end_s[mine])], 1)
        # Without what is reversed or empty, beyond the features, or says that nothing happens.
        inside = (runs[:, 1] > runs[:, 0]) & (column[mine] >= 0)
        examples.append(Example(one, runs[inside], column[mine][inside]))
    if not sum(len(example.runs) for example in examples):
        raise InputError("no_truth", f"{truth}: no segment lies in the videos that have features")
    return examples, labels, background, warnings


def _read_all(
    files: dict[str, Path], spacing: Spacing | None
) -> tuple[list[str], list[Features], list[Warning_]]:
    """Videos, their features, and a warning that counts damaged files. Raises InputError as `read_features`,
    for damage only where no file is whole."""
    read: dict[str, Features] = {}
    bad: list[InputError] = []
    for video, path in files.items():
        try:
            read[video] = read_features(path, spacing)
        except InputError as fault:
            if fault.code not in DAMAGED:
                raise
            bad.append(fault)
    if not read:
        raise bad[0]
    said = []
    if bad:
        text = f"{len(bad)} feature files cannot be read and are left out; the first: {bad[0].message}"
        said = [Warning_("bad_features", text, {"files": len(bad)})]
    return list(read), list(read.values()), said


def positions(features: Features, times_s: np.ndarray) -> np.ndarray:
    """Positions of times in the snippets of a video, within [0, T]; float64."""
    centre = features.centre_s
    step = float(centre[-1] - centre[0]) / (len(centre) - 1) if len(centre) > 1 else features.spacing.stride_s
    known = np.r_[centre[0] - step, centre, centre[-1] + step]
    return np.clip(np.interp(times_s, known, np.arange(-1, len(centre) + 1) + 0.5), 0, len(centre))


def _same_kind(found: Features, first: Features) -> None:
    mine, theirs = (f.model["hash"] if f.model else None for f in (found, first))
    if found.table.shape[1] != first.table.shape[1] or mine != theirs:
        raise InputError(
            "features_differ",
            f"{found.path}: of another model or width than {first.path.name}: train on features of one model",
        )
    if not found.spacing.like(first.spacing):
        raise InputError(
            "features_differ",
            f"{found.path}: {found.spacing}, but {first.path.name} has {first.spacing}: train on one spacing",
        )


def _statistics(examples: list[Example]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each channel over all snippets, (C,) both."""
    count = sum(len(example.features.table) for example in examples)
    mean = sum(example.features.table.sum(0, dtype=np.float64) for example in examples) / count
    square = sum(((example.features.table - mean) ** 2).sum(0) for example in examples) / count
    return torch.from_numpy(np.asarray(mean)), torch.from_numpy(np.sqrt(square))


def _learn_targets(network: STPP, examples: list[Example], rng: np.random.Generator) -> None:
    """Mean and spread of regression targets over a first draw of proposals."""
    targets = [Proposals.draw(e.runs, e.labels, len(e.features.table), rng).targets for e in examples]
    everything = np.concatenate(targets)
    if len(everything) > 1:
        network.target_mean.copy_(torch.from_numpy(everything.mean(0)))
        network.target_std.copy_(torch.from_numpy(everything.std(0)).clamp_min(1e-3))


def _fit(
    network: MSTCN | STPP,
    examples: list[Example],
    epochs: int,
    rng: np.random.Generator,
    device: str,
    report: Callable[[int, int], None] | None,
) -> float:
    """One video a step, in a new order each epoch. Raises UsageError `not_finite`."""
    background = network.dims.classes - 1
    tables = [torch.from_numpy(example.features.table).to(device) for example in examples]
    shown = [example.snippet_labels(background).to(device) for example in examples]
    optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    steps = max(1, epochs * len(examples))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps, LEARNING_RATE * SLOWEST)
    network.train()
    mean = float("nan")
    for epoch in range(epochs):
        losses = []
        for number in rng.permutation(len(examples)):
            example = examples[number]
            if isinstance(network, MSTCN):
                loss = network.loss(tables[number].t()[None], shown[number])
            else:
                proposals = Proposals.draw(example.runs, example.labels, len(tables[number]), rng)
                loss = stpp_loss(network, tables[number], shown[number], proposals)
            if not torch.isfinite(loss):
                raise UsageError(
                    "not_finite", f"{example.features.path}: the loss is not a number after {epoch} epochs"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimiser.step()
            schedule.step()
            losses.append(float(loss.detach()))
        mean = float(np.mean(losses))
        if report is not None:
            report(epoch + 1, epochs)
    network.eval()
    return mean
