"""Writing generated videos: short clips of one label each, or untrimmed videos with timed segments."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from vpipe.errors import EnvironmentFault, UsageError
from vpipe.media import VideoWriter
from vpipe.synth.scene import Scene, random_scene
from vpipe.synth.textures import TexturePool, textures_from_videos
from vpipe.synth.timing import TimedScene, Timeline, random_timeline
from vpipe.synth.vocabulary import BACKGROUND, LABELS
from vpipe.whole_file import whole

RATES: tuple[Fraction, ...] = tuple(
    Fraction(*pair)
    for pair in ((15, 1), (24000, 1001), (24, 1), (25, 1), (30000, 1001), (30, 1), (50, 1), (60, 1))
)
SIZES: tuple[tuple[int, int], ...] = (  # landscape; a quarter of the videos are turned to portrait
    (320, 240),
    (340, 256),
    (320, 180),
    (426, 240),
    (256, 192),
    (288, 216),
    (256, 256),
    (480, 270),
)
CLIP_S = (1.6, 2.8)
MS = Fraction(1, 1000)
GENERATED_NAME = re.compile(r"clip_\d{5,}_[a-z_]+\.mp4|untrimmed_\d{4,}\.mp4")


@dataclass(frozen=True)
class SynthOptions:
    """What is fixed for all videos of a run; None leaves it random."""

    labels: tuple[str, ...] = LABELS
    seed: int = 0
    fps: Fraction | None = None
    vfr: bool = False
    background_from: Path | None = None
    size: tuple[int, int] | None = None  # (width, height), px

    def __post_init__(self) -> None:
        unknown = sorted(set(self.labels) - set(LABELS))
        if unknown or not self.labels:
            raise UsageError(
                "unknown_label", f"unknown label {', '.join(unknown)}; known: {', '.join(LABELS)}"
            )

    @property
    def motions(self) -> tuple[str, ...]:
        """The labels other than the background. Raises UsageError where there is none."""
        motions = tuple(label for label in self.labels if label != BACKGROUND)
        if not motions:
            raise UsageError("unknown_label", f"untrimmed videos need a label other than {BACKGROUND}")
        return motions


@dataclass(frozen=True)
class _Format:
    width: int
    height: int
    fps: Fraction
    vfr: bool
    crf: int

    @classmethod
    def random(cls, rng: np.random.Generator, options: SynthOptions) -> _Format:
        width, height = SIZES[int(rng.integers(len(SIZES)))]
        if rng.random() < 0.25:
            width, height = height, width
        if options.size:
            width, height = options.size
        fps = RATES[int(rng.integers(len(RATES)))]
        return cls(width, height, options.fps or fps, options.vfr, int(rng.integers(18, 33)))

    def times(self, duration_s: float, rng: np.random.Generator) -> list[Fraction]:
        """Frame times: k / fps, or for VFR milliseconds with jittered and dropped frames."""
        count = max(2, int(duration_s * self.fps))
        times = [k / self.fps for k in range(count)]
        if not self.vfr:
            return times
        step = 1000 / float(self.fps)
        jittered = {0} | {
            round(k * step + rng.uniform(-0.4, 0.4) * step) for k in range(1, count) if rng.random() > 0.2
        }
        return [t * MS for t in sorted(jittered)]


def write_clips(
    folder: Path,
    count: int,
    options: SynthOptions,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    done: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Writes `count` clips, labels in turn, and `truth.json`; returns the truth.

    Clip i depends on (seed, i) alone, so that any number of jobs and any resumed run give the same files.
    """
    tasks = [(i, options.labels[i % len(options.labels)]) for i in range(count)]
    rows = list(_in_processes(_write_clip, tasks, folder, options, jobs, overwrite, done))
    truth = {
        "schema": "vpipe.synth-clips/1",
        "labels": list(LABELS),
        "seed": options.seed,
        "textures": "frames of real videos" if options.background_from else "procedural",
        "videos": {row.pop("file"): row for row in rows},
    }
    _write_json(folder / "truth.json", truth)
    return truth


def write_untrimmed(
    folder: Path,
    count: int,
    minutes: float,
    options: SynthOptions,
    *,
    jobs: int = 1,
    overwrite: bool = False,
    done: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Writes `count` videos of `minutes` each and `truth.json` in ActivityNet's format; returns the truth.

    Segments of the vocabulary, 1.5 to 8 s, stand between stretches of `static`, joined by hard cuts and
    dissolves; the truth is at the middle of a dissolve. `static` is the background and is not annotated.
    """
    if not options.motions or minutes <= 0:
        raise UsageError("bad_minutes", f"--minutes {minutes}: a video needs a length above 0")
    tasks = [(i, minutes * 60) for i in range(count)]
    rows = list(_in_processes(_write_untrimmed, tasks, folder, options, jobs, overwrite, done))
    labels = sorted({a["label"] for row in rows for a in row["annotations"]})
    truth = {
        "version": "vpipe.synth-untrimmed/1",
        "seed": options.seed,
        "background": BACKGROUND,
        "taxonomy": [{"nodeId": n, "nodeName": label} for n, label in enumerate(labels)],
        "database": {Path(row["file"]).stem: row for row in rows},
    }
    _write_json(folder / "truth.json", truth)
    return truth


def _make_room(folder: Path, overwrite: bool) -> None:
    """Makes the folder. A set that is there already stays, or goes with `overwrite`: never two sets in one.

    The old truth goes first, so that no truth ever stands beside videos of another run.
    Raises UsageError `output_exists`, EnvironmentFault `unwritable_output`.
    """
    truth = folder / "truth.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(truth):
            if not overwrite:
                raise UsageError(
                    "output_exists", f"{folder}: holds truth.json of other videos: --overwrite or another -o"
                )
            truth.unlink()
        if overwrite:
            for video in folder.iterdir():
                if GENERATED_NAME.fullmatch(video.name):
                    video.unlink()
    except OSError as error:
        raise EnvironmentFault(
            "unwritable_output", f"{folder}: {error.strerror}; choose another -o"
        ) from None


def _in_processes(
    work: Callable[..., dict[str, Any]],
    tasks: Sequence[tuple[int, Any]],
    folder: Path,
    options: SynthOptions,
    jobs: int,
    overwrite: bool,
    done: Callable[[int], None] | None,
) -> Iterator[dict[str, Any]]:
    real = textures_from_videos(options.background_from) if options.background_from else []
    _make_room(folder, overwrite)
    if jobs <= 1 or len(tasks) <= 1:
        _start_worker(real)
        for number, task in enumerate(tasks):
            yield work(folder, options, *task)
            if done:
                done(number + 1)
        return
    resource_tracker.ensure_running()  # as it starts, it unblocks what is blocked below
    with ProcessPoolExecutor(min(jobs, len(tasks)), get_context("spawn"), _start_process, (real,)) as pool:
        # Ctrl-C reaches the whole group, and a process that is still importing would print where it was.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            futures = [pool.submit(_interruptible, work, folder, options, *task) for task in tasks]
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        try:
            for number, future in enumerate(futures):
                yield future.result()
                if done:
                    done(number + 1)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


# Of this worker process.
_pool = TexturePool()
_working, _interrupted = False, False


def _start_process(real: list[Any]) -> None:
    """A process began deaf to Ctrl-C; if that has come, it ends without a word."""
    if signal.SIGINT in signal.sigpending():
        os._exit(130)
    signal.signal(signal.SIGINT, _interrupt)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _start_worker(real)


def _interrupt(*_: Any) -> None:
    """Ctrl-C ends work; a process that waits for some would print where, and the main one ends it."""
    global _interrupted
    _interrupted = True
    if _working:
        raise KeyboardInterrupt


def _interruptible(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    global _working
    _working = True
    try:
        if _interrupted:
            raise KeyboardInterrupt
        return work(*arguments)
    finally:
        _working = False


def _start_worker(real: list[Any]) -> None:
    global _pool
    cv2.setNumThreads(1)
    _pool = TexturePool(real)


def _write_clip(folder: Path, options: SynthOptions, number: int, label: str) -> dict[str, Any]:
    return write_clip(folder, number, label, options, _pool)


def write_clip(
    folder: Path, number: int, label: str, options: SynthOptions, pool: TexturePool
) -> dict[str, Any]:
    """Writes clip `number` of a run of `write_clips`, textures from `pool`; its row of the truth."""
    rng = np.random.default_rng([options.seed, 0, number])
    form = _Format.random(rng, options)
    duration = float(rng.uniform(*CLIP_S))
    times = form.times(duration, rng)
    scene = random_scene(label, rng, pool, aspect=form.width / form.height, duration_s=duration)
    file = f"clip_{number:05d}_{label}.mp4"
    row = _write_video(folder / file, form, times, lambda t: scene.render(t, form.width, form.height))
    return {"file": file, "label": label, **row}


def _write_untrimmed(folder: Path, options: SynthOptions, number: int, duration_s: float) -> dict[str, Any]:
    rng = np.random.default_rng([options.seed, 1, number])
    form = _Format.random(rng, options)
    times = form.times(duration_s, rng)
    shown_s = float(times[-1]) + float(times[-1] - times[-2])
    timeline = random_timeline(rng, shown_s, options.motions)
    renderer = _TimelineRenderer(timeline, form, rng)
    file = f"untrimmed_{number:04d}.mp4"
    row = _write_video(folder / file, form, times, renderer.render)
    annotations = [
        {"segment": [round(part.start_s, 3), round(part.end_s, 3)], "label": part.label}
        for part in timeline.parts
        if part.label != BACKGROUND
    ]
    return {"file": file, "subset": "test", "duration": round(shown_s, 3), **row, "annotations": annotations}


class _TimelineRenderer:
    """Pictures of a timeline in rising time; holds at most the two shots that are on the screen."""

    def __init__(self, timeline: Timeline, form: _Format, rng: np.random.Generator) -> None:
        self._timeline, self._form = timeline, form
        self._seeds = rng.integers(2**31, size=len(timeline.parts))
        self._scenes: dict[int, Scene] = {}

    def render(self, t: float) -> np.ndarray:
        shown = self._timeline.shown(t)
        for number in [n for n in self._scenes if n < min(number for number, _ in shown)]:
            del self._scenes[number]
        pictures = [(self._picture(number, t), weight) for number, weight in shown]
        if len(pictures) == 1:
            return pictures[0][0]
        (first, a), (second, b) = pictures
        return cv2.addWeighted(first, a, second, b, 0)

    def _picture(self, number: int, t: float) -> np.ndarray:
        part: TimedScene = self._timeline.parts[number]
        if number not in self._scenes:
            rng = np.random.default_rng([int(self._seeds[number]), number])
            aspect = self._form.width / self._form.height
            length = part.end_s - part.start_s
            self._scenes[number] = random_scene(part.label, rng, _pool, aspect=aspect, duration_s=length)
        return self._scenes[number].render(t - part.start_s, self._form.width, self._form.height)


def write_scene(
    path: Path, scene: Scene, duration_s: float, *, size: tuple[int, int], fps: Fraction, crf: int = 23
) -> None:
    """One shot as an H.264 video of this size (width, height) and rate."""
    form = _Format(*size, fps=fps, vfr=False, crf=crf)
    times = [k / fps for k in range(max(2, int(duration_s * fps)))]
    _write_video(path, form, times, lambda t: scene.render(t, *size))


def _write_video(
    path: Path, form: _Format, times: Sequence[Fraction], render: Callable[[float], np.ndarray]
) -> dict[str, Any]:
    fps = None if form.vfr else form.fps
    with VideoWriter(path, form.width, form.height, fps=fps, crf=form.crf) as writer:
        for t in times:
            writer.write(render(float(t)), t if form.vfr else None)
    return {
        "fps": str(form.fps),
        "vfr": form.vfr,
        "width": form.width,
        "height": form.height,
        "frames": len(times),
    }


def _write_json(path: Path, value: dict[str, Any]) -> None:
    with whole(path) as beside:
        beside.write_text(json.dumps(value, indent=1) + "\n")
