"""Pieces of videos that have a label, their split by source video, and windows of frames in them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vpipe.errors import UsageError, Warning_
from vpipe.training.labelled import BACKGROUND, LabelledVideo
from vpipe.training.preparing import PreparedVideo

VALIDATION_SHARE = 0.2
FEW = 8  # videos of a label, below which there is a warning


@dataclass(frozen=True)
class Piece:
    """[start_s, end_s) of a video shows labels[label]; `whole`: nothing else of the video is known."""

    video: PreparedVideo
    label: int
    start_s: float
    end_s: float
    whole: bool
    shown: tuple[tuple[float, float, int], ...]  # every (start, end, label) of the video


@dataclass(frozen=True)
class Pieces:
    """All pieces of a data set, and the two parts that share no video."""

    labels: tuple[str, ...]
    background: str | None
    training: list[Piece]
    validation: list[Piece]
    warnings: list[Warning_]
    videos: int


def cut(videos: Sequence[tuple[LabelledVideo, PreparedVideo]], *, shortest_s: float, seed: int) -> Pieces:
    """Pieces of the prepared videos, split into training and validation.

    Videos with the same bytes are one: they count once and never stand on both sides of the split. Background
    of less than `shortest_s` between segments is left out. Raises UsageError `too_few`.
    """
    warnings: list[Warning_] = []
    merged, repeated = _by_digest(videos)
    if repeated:
        text = f"{repeated} videos are copies of others (the same bytes); each counts once"
        warnings.append(Warning_("duplicate_videos", text, {"videos": repeated}))
    if torn := [v for v, _ in merged.values() if len({e.label for e in v.examples if e.start_s is None}) > 1]:
        names = ", ".join(sorted({e.label for e in torn[0].examples}))
        text = (
            f"{len(torn)} videos have several labels, each for the whole video (such as {torn[0].path}: "
            f"{names}): they teach all of these alike; leave one, or say the seconds of each"
        )
        warnings.append(Warning_("several_labels", text, {"videos": len(torn)}))
    pieces_of, labels, background, beyond = _pieces(merged, shortest_s)
    if beyond:
        text = f"{beyond} segments begin after their video ends; they are left out"
        warnings.append(Warning_("bad_segments", text, {"segments": beyond}))
    with_label = Counter(label for pieces in pieces_of.values() for label in {p.label for p in pieces})
    if len(with_label) < 2:
        found = ", ".join(labels[label] for label in with_label) or "none"
        raise UsageError("too_few", f"at least two labels with usable videos are needed; found: {found}")
    held, given = _held_out(merged, pieces_of, with_label, seed)
    for label, name in enumerate(labels):
        count = with_label[label]
        if count < FEW and name != background:
            text = f"label '{name}' has {count} video{'s' * (count != 1)}; {2 * FEW} or more are better"
            warnings.append(Warning_("few_videos", text, {"videos": count}))
        if not any(p.label == label for d in held for p in pieces_of[d]):
            text = f"label '{name}': no video left for validation, so its accuracy is not known"
            warnings.append(Warning_("not_validated", text))
    training = [p for d, pieces in pieces_of.items() if d not in held for p in pieces]
    missing = [name for label, name in enumerate(labels) if not any(p.label == label for p in training)]
    if missing:
        where = "the annotations' training subset" if given else "the training part"
        raise UsageError("too_few", f"label '{missing[0]}' has no piece in {where}; give more videos of it")
    validation = [p for d in sorted(held) for p in pieces_of[d]]
    return Pieces(labels, background, training, validation, warnings, len(merged))


_Merged = dict[str, tuple[LabelledVideo, PreparedVideo]]


def _by_digest(videos: Sequence[tuple[LabelledVideo, PreparedVideo]]) -> tuple[_Merged, int]:
    """One entry for each content, in an order that no name changes; examples of copies are joined."""
    merged: _Merged = {}
    for labelled, prepared in videos:
        if prepared.digest in merged:
            known, first = merged[prepared.digest]
            examples = tuple(dict.fromkeys((*known.examples, *labelled.examples)))
            merged[prepared.digest] = (LabelledVideo(known.path, examples, known.subset), first)
        else:
            merged[prepared.digest] = (labelled, prepared)
    return dict(sorted(merged.items())), len(videos) - len(merged)


def _pieces(
    merged: _Merged, shortest_s: float
) -> tuple[dict[str, list[Piece]], tuple[str, ...], str | None, int]:
    names = sorted({e.label for labelled, _ in merged.values() for e in labelled.examples})
    gaps_of: dict[str, list[tuple[float, float]]] = {}
    beyond = 0
    for digest, (labelled, prepared) in merged.items():
        if labelled.untrimmed:
            gaps = _gaps(labelled, prepared.duration_s)
            gaps_of[digest] = [(a, b) for a, b in gaps if b - a >= shortest_s]
    if any(gaps_of.values()) and BACKGROUND not in names:
        names.append(BACKGROUND)
    labels = tuple(names)
    number = {name: place for place, name in enumerate(labels)}
    pieces_of: dict[str, list[Piece]] = {}
    for digest, (labelled, prepared) in merged.items():
        end_s = prepared.duration_s
        shown: list[tuple[float, float, int, bool]] = []
        for example in labelled.examples:
            if example.start_s is None or example.end_s is None:
                shown.append((0.0, end_s, number[example.label], True))
            elif example.start_s >= end_s:
                beyond += 1
            else:
                shown.append((example.start_s, min(example.end_s, end_s), number[example.label], False))
        shown += [(a, b, number[BACKGROUND], False) for a, b in gaps_of.get(digest, [])]
        plain = tuple(sorted(part[:3] for part in shown))
        pieces_of[digest] = [Piece(prepared, c, a, b, whole, plain) for a, b, c, whole in shown]
    return pieces_of, labels, BACKGROUND if BACKGROUND in number else None, beyond


def _gaps(labelled: LabelledVideo, duration_s: float) -> list[tuple[float, float]]:
    gaps, at = [], 0.0
    for example in sorted(labelled.examples, key=lambda e: e.start_s or 0.0):
        start, end = example.start_s or 0.0, example.end_s if example.end_s is not None else duration_s
        if start > at:
            gaps.append((at, min(start, duration_s)))
        at = max(at, end)
    if at < duration_s:
        gaps.append((at, duration_s))
    return gaps


def _held_out(
    merged: _Merged, pieces_of: dict[str, list[Piece]], with_label: Counter[int], seed: int
) -> tuple[set[str], bool]:
    """Digests of the videos for validation, and whether the annotations chose them.

    The rarest label chooses first: a fifth of its videos, at least one, and never the last one of any label.
    """
    if any(labelled.subset == "validation" for labelled, _ in merged.values()):
        return {d for d, (labelled, _) in merged.items() if labelled.subset == "validation"}, True
    digests = sorted(merged)
    order = [digests[i] for i in np.random.default_rng([seed, 6]).permutation(len(digests))]
    labels_of = {d: {p.label for p in pieces_of[d]} for d in order}
    left = Counter(with_label)
    held: set[str] = set()
    taken: defaultdict[int, int] = defaultdict(int)
    for label, count in sorted(with_label.items(), key=lambda item: (item[1], item[0])):
        wanted = max(1, round(VALIDATION_SHARE * count)) if count > 1 else 0
        for digest in order:
            if taken[label] >= wanted:
                break
            if digest in held or label not in labels_of[digest]:
                continue
            if any(left[other] < 2 for other in labels_of[digest]):
                continue
            held.add(digest)
            for other in labels_of[digest]:
                left[other] -= 1
                taken[other] += 1
    return held, False
