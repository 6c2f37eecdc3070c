"""Snippet scores as a good model gives them on a generated untrimmed video, without video and without model.

Layout: vocabulary segments of 1.5-8 s between stretches of the background. Scores: the share of the
snippet's 8 frames in each label, sharpened a little, with noise that is correlated in time, stretches
where another label is mistaken for the true one, and false flickers in the background.
"""

from __future__ import annotations

import numpy as np

from vpipe.evaluation.formats import SegmentTable
from vpipe.recognition.scores import SnippetScores

LABELS = ["static", *(f"motion_{i}" for i in range(12))]
FPS, FRAMES, STRIDE = 8, 8, 2


def layout(rng: np.random.Generator, length_s: float) -> list[tuple[int, float, float]]:
    """(label index, start_s, end_s) of the segments that are not background."""
    segments, now = [], rng.uniform(0, 5)
    while True:
        end = now + rng.uniform(1.5, 8)
        if end > length_s:
            return segments
        segments.append((int(rng.integers(1, len(LABELS))), now, end))
        now = end + rng.uniform(1.5, 6)


def snippet_scores(
    rng: np.random.Generator, segments: list[tuple[int, float, float]], length_s: float, *, noise: float = 1.0
) -> SnippetScores:
    grid = np.arange(int(length_s * FPS)) / FPS
    label = np.zeros(len(grid), dtype=int)
    for c, start, end in segments:
        label[(grid >= start) & (grid < end)] = c
    seen = _mistaken(rng, label, noise)
    one_hot = np.eye(len(LABELS))[seen]
    first = np.arange(0, len(grid) - FRAMES + 1, STRIDE)
    share = np.stack([one_hot[k : k + FRAMES].mean(axis=0) for k in first])
    logits = np.log(share + 0.01) * 1.3 + noise * 0.6 * _correlated(rng, share.shape)
    probabilities = np.exp(logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return SnippetScores(
        labels=LABELS,
        background="static",
        probabilities=probabilities.astype(np.float32),
        start_s=first / FPS,
        centre_s=(first + (FRAMES - 1) / 2) / FPS,
        end_s=(first + FRAMES) / FPS,
        duration_s=length_s,
        frame_times_s=np.arange(int(length_s * 25)) / 25,
    )


def _mistaken(rng: np.random.Generator, label: np.ndarray, noise: float) -> np.ndarray:
    """Labels with about 5 % of the time replaced by another label, in stretches of 0.3-1.5 s."""
    seen = label.copy()
    for _ in range(rng.poisson(0.055 * noise * len(label) / (0.9 * FPS))):
        at, length = rng.integers(len(label)), int(rng.uniform(0.3, 1.5) * FPS)
        seen[at : at + length] = rng.integers(len(LABELS))
    return seen


def _correlated(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Unit-variance Gaussian noise with a correlation of 0.8 between neighbouring snippets."""
    white = rng.standard_normal(shape)
    for i in range(1, shape[0]):
        white[i] = 0.8 * white[i - 1] + 0.6 * white[i]
    return white


def dataset(
    seed: int, videos: int, *, noise: float = 1.0
) -> tuple[SegmentTable, dict[str, SnippetScores], float]:
    """Truth, scores by video, and the share of snippets whose best label is the one at their centre."""
    rng = np.random.default_rng(seed)
    rows, scores, right, total = [], {}, 0, 0
    for v in range(videos):
        length_s = rng.uniform(30, 90)
        segments = layout(rng, length_s)
        name = f"video_{v:02d}"
        rows += [(name, LABELS[c], s, e, 1.0) for c, s, e in segments]
        scores[name] = snippet_scores(rng, segments, length_s, noise=noise)
        truth = np.zeros(len(scores[name].centre_s), dtype=int)
        for c, s, e in segments:
            truth[(scores[name].centre_s >= s) & (scores[name].centre_s < e)] = c
        right += int((scores[name].probabilities.argmax(axis=1) == truth).sum())
        total += len(truth)
    return SegmentTable.of(rows), scores, right / total
