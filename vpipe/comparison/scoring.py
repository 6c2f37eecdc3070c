"""How often trained contenders are right: on clips as they are, in other orders, and of other lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from vpipe.comparison.clips import Clips, Done, flow_codes
from vpipe.comparison.contenders import Fusion
from vpipe.comparison.labels import GROUPS, LABELS, backwards, opposite
from vpipe.comparison.learning import Trained
from vpipe.comparison.plan import FRAMES, Plan
from vpipe.comparison.shown import Turns
from vpipe.comparison.workers import Workers
from vpipe.recognition.recognizer import fuse
from vpipe.training.assessing import wilson
from vpipe.training.loop import NORMALISATION

BATCH = 32
WINDOW_STEP = FRAMES // 2  # frames from one window of a long clip to the next
Scores = npt.NDArray[np.float32]  # probabilities (N, classes)
_OPPOSITE = np.array([LABELS.index(opposite(label)) for label in LABELS])
_BACKWARDS = np.array([LABELS.index(backwards(label)) for label in LABELS])


def share(right: int, clips: int) -> dict[str, Any]:
    """{"percent", "interval95", "clips"}: a proportion with its 95 % interval, percent."""
    if clips == 0:
        return {"percent": None, "interval95": None, "clips": 0}
    low, high = wilson(right, clips)
    return {
        "percent": round(100 * right / clips, 2),
        "interval95": [max(0.0, low), min(100.0, high)],
        "clips": clips,
    }


def probabilities(trained: Trained, inputs: npt.NDArray[np.uint8], device: str) -> Scores:
    """Of clips of FRAMES frames: inputs are frames (N, T, M, M, 3) or flow codes (N, T, 2, M, M)."""
    normalise = NORMALISATION[trained.contender.modality].apply
    found = [np.zeros((0, len(LABELS)), np.float32)]
    with torch.inference_mode():
        for begin in range(0, len(inputs), BATCH):
            batch = torch.from_numpy(inputs[begin : begin + BATCH]).to(device)
            seen = Turns.none(len(batch)).of(batch, np.arange(len(batch)), trained.contender.take)
            logits = trained.network(normalise(seen))
            found.append(logits.float().softmax(1).cpu().numpy())
    return np.concatenate(found)


class Judges:
    """All rows of the table at once: flow is computed once for those that need it."""

    def __init__(
        self, trained: Mapping[str, Trained], fusions: Sequence[Fusion], device: str, workers: Workers
    ) -> None:
        self.trained, self.fusions, self.device, self.workers = trained, fusions, device, workers
        self.needs_flow = any(one.contender.modality == "flow" for one in trained.values())

    def scores(self, clips: Clips, done: Done | None = None) -> dict[str, Scores]:
        """Probabilities of clips of FRAMES frames by the name of the row."""
        codes = flow_codes(clips, self.workers, done=done) if self.needs_flow else None
        found = {}
        for name, one in self.trained.items():
            inputs = codes if one.contender.modality == "flow" and codes is not None else clips.frames
            found[name] = probabilities(one, inputs, self.device)
        for fusion in self.fusions:
            found[fusion.name] = fuse([found[part] for part in fusion.parts], fusion.weights)
        return found

    def windowed(self, clips: Clips) -> dict[str, Scores]:
        """The mean over windows of FRAMES neighbouring frames; in shorter clips the last frame repeats."""
        length = clips.frames.shape[1]
        starts = range(0, max(1, length - FRAMES + 1), WINDOW_STEP)
        orders = [np.minimum(start + np.arange(FRAMES), length - 1) for start in starts]
        all_scores = [self.scores(clips.played(order)) for order in orders]
        return {name: np.mean([scores[name] for scores in all_scores], 0) for name in all_scores[0]}

    def spread(self, clips: Clips) -> dict[str, Scores]:
        """FRAMES frames spread evenly from the first to the last."""
        order = np.rint(np.linspace(0, clips.frames.shape[1] - 1, FRAMES)).astype(np.int64)
        return self.scores(clips.played(order))


def accuracy(scores: Scores, truth: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Top-1 of all labels, and of a label and its opposite alone (chance is 50 %)."""
    rows = np.arange(len(truth))
    other = _OPPOSITE[truth]
    paired = other != truth
    against = scores[rows, truth] > scores[rows, other]
    return {
        "top1": share(int((scores.argmax(1) == truth).sum()), len(truth)),
        "against_opposite": share(int(against[paired].sum()), int(paired.sum())),
    }


def by_group(scores: Scores, truth: npt.NDArray[np.int64]) -> dict[str, Any]:
    """`accuracy` of the labels that differ in direction, of those that differ in order, and of all."""
    found = {"all": accuracy(scores, truth)}
    for group, names in GROUPS.items():
        chosen = np.isin(truth, [LABELS.index(name) for name in names])
        found[group] = accuracy(scores[chosen], truth[chosen])
    return found


def judge_orders(judges: Judges, clips: Clips, seed: int, done: Callable[[str], Done]) -> dict[str, Any]:
    """For every row the accuracy as played, shuffled and reversed; reversed ones also by their own label."""
    rng = np.random.default_rng([seed, 4])
    shuffles = np.stack([_shuffle(rng) for _ in range(len(clips))])
    backward = np.arange(FRAMES)[::-1]
    played = judges.scores(clips, done("as played"))
    shuffled = judges.scores(clips.played(shuffles), done("shuffled"))
    reverse = judges.scores(clips.played(backward), done("reversed"))
    truth = clips.labels
    return {
        name: {
            "played": by_group(played[name], truth),
            "shuffled": by_group(shuffled[name], truth),
            "reversed": by_group(reverse[name], truth),
            "reversed_own_label": by_group(reverse[name], _BACKWARDS[truth]),
        }
        for name in played
    }


def _shuffle(rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """An order of FRAMES frames in which at most half of the neighbours still follow one another."""
    while True:
        order = rng.permutation(FRAMES)
        if (np.diff(order) == 1).sum() <= FRAMES // 4 and (np.diff(order) == -1).sum() <= FRAMES // 4:
            return order


def judge_lengths(judges: Judges, clips_of: Callable[[int], Clips], plan: Plan) -> dict[str, list[Any]]:
    """For every row and length of clip: the mean of `windows`, and for long clips `spread` frames."""
    found: dict[str, list[Any]] = {}
    for length in plan.lengths:
        clips = clips_of(length)
        windows = judges.windowed(clips)
        spread = judges.spread(clips) if length > FRAMES else windows
        for name in windows:
            row = {
                "frames": length,
                "windows": by_group(windows[name], clips.labels),
                "spread": by_group(spread[name], clips.labels),
            }
            found.setdefault(name, []).append(row)
    return found
