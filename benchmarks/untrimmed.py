"""Untrimmed videos with exact truth, each scene at a constant and at a variable rate, to measure detection.

Both twins show the same continuous motion: only the times at which it is looked at differ. Shots are joined
by hard cuts and dissolves. In half of the scenes there is motion that is no action of the vocabulary: hands
that tremble, subjects that rise or sink before a camera held still, or go their way while the camera moves
(see `vpipe.synth.lively`). Some videos hold nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from vpipe.media import VideoWriter
from vpipe.synth.lively import enliven
from vpipe.synth.scene import Scene, random_scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.timing import TimedScene, Timeline, random_timeline
from vpipe.synth.vocabulary import BACKGROUND, LABELS

RATES = tuple(Fraction(rate) for rate in ("10", "24000/1001", "25", "30", "60"))
SIZES = ((340, 256), (320, 240), (256, 192), (180, 320))  # (width, height), px
MOTIONS = tuple(label for label in LABELS if label != BACKGROUND)
SHOT_S = (3.0, 9.0)  # of a video without action
MS = Fraction(1, 1000)


@dataclass(frozen=True)
class Video:
    """One file. scene: shared by twins. truth: (label, start_s, end_s)."""

    file: str
    scene: int
    fps: str
    vfr: bool
    frames: int
    duration_s: float
    distraction: bool
    dissolves: int
    cuts: int
    truth: list[tuple[str, float, float]]


def make(
    folder: Path, seed: int, scenes: int, quiet: int, seconds: float, jobs: int, *, twins: bool = True
) -> Iterator[Video]:
    """`scenes` scenes, twice each (or only one of the `twins`), and `quiet` videos without action; files that
    are there already stay."""
    tasks = [(folder, seed, number, number >= scenes, seconds, twins) for number in range(scenes + quiet)]
    if jobs <= 1:
        for task in tasks:
            yield from _make_scene(*task)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for videos in pool.map(_make_scene, *zip(*tasks, strict=True)):
            yield from videos


def _make_scene(
    folder: Path, seed: int, number: int, quiet: bool, seconds: float, twins: bool = True
) -> list[Video]:
    cv2.setNumThreads(1)
    rng = np.random.default_rng([seed, 7, number])
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    fps = RATES[number % len(RATES)]
    crf = int(rng.integers(18, 30))
    count = round(seconds * fps)
    duration_s = float(count / fps)
    timeline = _nothing(rng, duration_s) if quiet else random_timeline(rng, duration_s, MOTIONS)
    distraction = bool(rng.random() < 0.5)
    truth = [(p.label, p.start_s, p.end_s) for p in timeline.parts if p.label != BACKGROUND]
    inner = timeline.parts[:-1]
    videos = []
    for vfr in (False, True) if twins and not quiet else (bool(number % 2),):
        name = f"scene_{number:03d}_{'vfr' if vfr else 'cfr'}"
        path, note = folder / f"{name}.mp4", folder / f"{name}.json"
        times = _variable(count, fps, np.random.default_rng([seed, 8, number])) if vfr else None
        video = Video(
            file=path.name,
            scene=number,
            fps=str(fps),
            vfr=vfr,
            frames=len(times) if times else count,
            duration_s=duration_s,
            distraction=distraction,
            dissolves=sum(p.dissolve_s > 0 for p in inner),
            cuts=sum(p.dissolve_s == 0 for p in inner),
            truth=truth,
        )
        described = json.dumps(asdict(video))
        if not (path.exists() and note.exists() and note.read_text() == described):
            show = Renderer(timeline, (width, height), [seed, 9, number], distraction)
            with VideoWriter(path, width, height, fps=None if vfr else fps, crf=crf) as writer:
                for t in times or [k / fps for k in range(count)]:
                    writer.write(show.at(float(t)), t if vfr else None)
            note.write_text(described)
        videos.append(video)
    return videos


def _variable(count: int, fps: Fraction, rng: np.random.Generator) -> list[Fraction]:
    """Times in milliseconds, jittered by up to 0.4 of a frame, a fifth of them left out."""
    step = 1000 / float(fps)
    kept = [k for k in range(1, count - 1) if rng.random() > 0.2]
    jittered = {round(k * step + rng.uniform(-0.4, 0.4) * step) for k in kept}
    return [t * MS for t in sorted(jittered | {0, round((count - 1) * step)})]


def _nothing(rng: np.random.Generator, duration_s: float) -> Timeline:
    """Shots of a camera that is held still."""
    parts, start = [], 0.0
    while start < duration_s:
        length = float(rng.uniform(*SHOT_S))
        end = duration_s if duration_s - start < length + SHOT_S[0] else start + length
        dissolve = float(rng.uniform(0.3, 1.0)) if rng.random() < 0.4 else 0.0
        parts.append(TimedScene(BACKGROUND, start, end, dissolve))
        start = end
    return Timeline(tuple(parts))


class Renderer:
    """Pictures of a timeline in rising time; each shot depends on the seed and its number alone."""

    def __init__(self, timeline: Timeline, size: tuple[int, int], seed: list[int], distraction: bool) -> None:
        self._timeline, self._size, self._seed = timeline, size, seed
        self._pool = TexturePool()
        self._scenes: dict[int, Scene] = {}
        self._distraction = distraction

    def at(self, t: float) -> np.ndarray:
        shown = self._timeline.shown(t)
        pictures = [(self._picture(number, t), weight) for number, weight in shown]
        picture = pictures[0][0]
        if len(pictures) == 2:
            (first, a), (second, b) = pictures
            picture = cv2.addWeighted(first, a, second, b, 0)
        return picture

    def _picture(self, number: int, t: float) -> np.ndarray:
        part = self._timeline.parts[number]
        if number not in self._scenes:
            self._scenes = {n: scene for n, scene in self._scenes.items() if n == number - 1}
            rng = np.random.default_rng([*self._seed, number])
            aspect, length_s = self._size[0] / self._size[1], part.end_s - part.start_s
            scene = random_scene(part.label, rng, self._pool, aspect=aspect, duration_s=length_s)
            self._scenes[number] = enliven(scene, rng) if self._distraction else scene
        return self._scenes[number].render(t - part.start_s, *self._size)
