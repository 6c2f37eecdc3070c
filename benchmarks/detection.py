"""What `vpipe detect` finds in generated untrimmed videos, and how fast: one command, one JSON.

    python -m benchmarks.detection --json FILE

Videos of unused seeds (see `untrimmed`): each scene at a constant and at a variable frame rate, and videos
without action. They go through the library exactly as `vpipe detect` with default options does, once for each
column:

    windows    --candidates windows --no-refine
    grouping   the default: grouping and refinement
    HEAD       --head HEAD, for each packaged one, or those given to this command

mAP is ActivityNet's, over all videos; predictions in videos without action are wrong ones. Cuts are judged on
films made of ../shared/clips where that folder is there. `--part` measures the videos, the cuts or the speed
(see `detection_speed`) alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.detection_speed import speed
from benchmarks.films import shot_f1
from benchmarks.untrimmed import Video, make
from vpipe import threads
from vpipe.detection.detector import DetectorSettings, Segment, detect
from vpipe.detection.heads.head import load_head, packaged_heads
from vpipe.detection.heads.run import detect_with_head
from vpipe.evaluation.anet import detection_map
from vpipe.evaluation.formats import SegmentTable
from vpipe.evaluation.frames import Runs, frame_scores
from vpipe.models import DEFAULT_MODEL, load_model
from vpipe.recognition.features import FeatureRecognizer, split_features
from vpipe.recognition.grid import SnippetGrid
from vpipe.recognition.precision import resolve_dtype
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.snippets import ScannedVideo, detection_grid, scan
from vpipe.synth.vocabulary import BACKGROUND

SEED = 7007
AVERAGED = (0.3, 0.4, 0.5, 0.6, 0.7)
TIOUS = (*AVERAGED, 0.75, 0.9, 0.95)
AT = 0.5  # the one threshold of scores at which recall, precision and false detections are counted
PARTS = ("videos", "cuts", "speed")
FINE_FPS = Fraction(24000, 1001)  # from here on frames are close enough for tIoU 0.95
RESAMPLES = 400
CLIPS = Path(__file__).resolve().parent.parent.parent / "shared" / "clips"


@dataclass(frozen=True)
class Found:
    video: Video
    segments: list[Segment]
    frame_labels: Runs | None


class Columns:
    """What is found in one video, column by column, as by `vpipe detect` with the options of the column."""

    def __init__(self, name: str, dtype: str, heads: Sequence[str]) -> None:
        model = load_model(name)
        self._plain = Recognizer(model, dtype=dtype, batch_size=8)
        self._seeing = FeatureRecognizer(model, dtype=dtype, batch_size=8)
        self._heads = {head: load_head(head) for head in heads}

    def find(self, path: Path, video: Video) -> dict[str, Found]:
        scores = scan(path, self._plain, grid=detection_grid(self._plain)).scores
        found = {
            name: Found(video, detect(scores, settings), None)
            for name, settings in (
                ("windows", replace(DetectorSettings(), candidates="windows", refine=False)),
                ("grouping", DetectorSettings()),
            )
        }
        scanned: dict[SnippetGrid, ScannedVideo] = {}  # heads on one grid share a pass
        for name, head in self._heads.items():
            grid = head.grid(self._seeing)
            if grid not in scanned:
                scanned[grid] = scan(path, self._seeing, grid=grid)
            seen = scanned[grid]
            parts, features = split_features(seen.scores, path, self._seeing, grid, seen.info.rate)
            result = detect_with_head(head, features, DetectorSettings(), parts)
            found[name] = Found(video, result.segments, result.frame_labels)
        return found


_columns: Columns  # of this process


def _begin(name: str, dtype: str, heads: Sequence[str]) -> None:
    global _columns
    threads.set_jobs(1)
    _columns = Columns(name, dtype, heads)


def _find(path: Path, video: Video) -> dict[str, Found]:
    return _columns.find(path, video)


def run(
    folder: Path, videos: Sequence[Video], name: str, dtype: str, heads: Sequence[str]
) -> dict[str, list[Found]]:
    """Every column over every video, as many videos at a time as there are jobs."""
    paths = [folder / video.file for video in videos]
    found: dict[str, list[Found]] = {}
    with ProcessPoolExecutor(threads.jobs(), get_context("spawn"), _begin, (name, dtype, heads)) as pool:
        for number, columns in enumerate(pool.map(_find, paths, videos)):
            for column, one in columns.items():
                found.setdefault(column, []).append(one)
            if (number + 1) % 10 == 0:
                print(f"{number + 1}/{len(videos)} videos", file=sys.stderr)
    return found


# What is made of the findings of a column


def map_at(found: Sequence[Found], names: Sequence[str] | None = None) -> np.ndarray:
    """mAP at TIOUS, percent. `names`: of the videos, where one may stand there several times."""
    names = names or [one.video.file for one in found]
    pairs = list(zip(names, found, strict=True))
    truth = [(n, label, s, e, 1.0) for n, one in pairs for label, s, e in one.video.truth]
    rows = [(n, s.label, s.start_s, s.end_s, s.score) for n, one in pairs for s in one.segments]
    return 100 * np.array(detection_map(SegmentTable.of(truth), SegmentTable.of(rows), TIOUS).map)


def summary(found: Sequence[Found]) -> dict[str, Any]:
    values = map_at(found)
    fine = [one for one in found if Fraction(one.video.fps) >= FINE_FPS]
    rates = sorted({one.video.fps for one in found if one.video.truth}, key=Fraction)
    by_rate = {fps: map_at([one for one in found if one.video.fps == fps]) for fps in rates}
    result = {
        "average_map_0.3_0.7": _percent(values[: len(AVERAGED)].mean()),
        "map": {f"{t:.2f}": _percent(value) for t, value in zip(TIOUS, values, strict=True)},
        "map_0.95_from_23.976_fps": _percent(map_at(fine)[TIOUS.index(0.95)])
        if any(one.video.truth for one in fine)
        else None,
        "map_0.75_by_fps": {fps: _percent(v[TIOUS.index(0.75)]) for fps, v in by_rate.items()},
        "at_score_0.5": at_threshold(found),
        "twins": twins(found),
    }
    if all(one.frame_labels is not None for one in found):
        result["frames"] = frame_wise(found)
    return result


def at_threshold(found: Sequence[Found]) -> dict[str, float | int]:
    """Recall and precision at tIoU 0.5 of what scores at least AT, and false ones where there is no
    action."""
    right = shown = truths = false = 0
    quiet_s = 0.0
    for one in found:
        sure = [s for s in one.segments if s.score >= AT]
        if not one.video.truth:
            false, quiet_s = false + len(sure), quiet_s + one.video.duration_s
            continue
        free = list(one.video.truth)
        for segment in sorted(sure, key=lambda s: -s.score):
            best = max(free, key=lambda t: _tiou(segment, t), default=None)
            if best is not None and _tiou(segment, best) >= 0.5:
                free.remove(best)
                right += 1
        shown, truths = shown + len(sure), truths + len(one.video.truth)
    return {
        "recall": round(right / max(1, truths), 4),
        "precision": round(right / max(1, shown), 4),
        "false_per_minute_without_action": round(60 * false / quiet_s, 3) if quiet_s else 0.0,
        "minutes_without_action": round(quiet_s / 60, 2),
    }


def _tiou(segment: Segment, truth: tuple[str, float, float]) -> float:
    label, start, end = truth
    if label != segment.label:
        return 0.0
    shared = min(segment.end_s, end) - max(segment.start_s, start)
    return max(0.0, shared) / (max(segment.end_s, end) - min(segment.start_s, start))


def twins(found: Sequence[Found]) -> dict[str, Any]:
    """mAP@.75 of the scenes at a constant rate minus that of the same at a variable rate.

    The interval is a bootstrap over scenes, both twins of a scene together.
    """
    pairs: dict[int, dict[bool, Found]] = {}
    for one in found:
        pairs.setdefault(one.video.scene, {})[one.video.vfr] = one
    scenes = [pair for pair in pairs.values() if len(pair) == 2]

    def both(chosen: Sequence[dict[bool, Found]]) -> tuple[float, float]:
        names = [str(n) for n in range(len(chosen))]
        at = TIOUS.index(0.75)
        cfr, vfr = (map_at([pair[kind] for pair in chosen], names)[at] for kind in (False, True))
        return float(cfr), float(vfr)

    cfr, vfr = both(scenes)
    rng = np.random.default_rng(0)
    drawn = [both([scenes[i] for i in rng.integers(len(scenes), size=len(scenes))]) for _ in range(RESAMPLES)]
    low, high = np.percentile([a - b for a, b in drawn], [2.5, 97.5])
    return {
        "scenes": len(scenes),
        "map_0.75_cfr": _percent(cfr),
        "map_0.75_vfr": _percent(vfr),
        "difference": _percent(cfr - vfr),
        "interval95": [_percent(low), _percent(high)],
    }


def frame_wise(found: Sequence[Found]) -> dict[str, float]:
    """Frame-wise scores of heads that label frames, percent."""
    truth = {one.video.file: _frame_truth(one.video) for one in found}
    told = {one.video.file: one.frame_labels for one in found if one.frame_labels is not None}
    scores = frame_scores(truth, told, (BACKGROUND,))
    f1 = {str(k): _percent(v) for k, v in scores.f1.items()}
    return {"pa": _percent(100 * scores.pa), "edit": _percent(scores.edit), "f1@50": f1["50"]}


def _frame_truth(video: Video) -> list[tuple[str, int]]:
    """Runs of (label, frames); frames of a variable rate are as far apart on average."""
    times = np.arange(video.frames) * video.duration_s / video.frames
    labels = np.full(video.frames, BACKGROUND, dtype=object)
    for label, start, end in video.truth:
        labels[(times >= start) & (times < end)] = label
    borders = [0, *(np.flatnonzero(labels[1:] != labels[:-1]) + 1).tolist(), video.frames]
    return [(str(labels[a]), b - a) for a, b in pairwise(borders)]


def _percent(value: float) -> float:
    return round(float(value), 2)


def described(videos: Sequence[Video]) -> dict[str, Any]:
    return {
        "videos": len(videos),
        "minutes": round(sum(v.duration_s for v in videos) / 60, 1),
        "fps": sorted({v.fps for v in videos}, key=Fraction),
        "variable_rate": sum(v.vfr for v in videos),
        "without_action": sum(not v.truth for v in videos),
        "with_distraction": sum(v.distraction for v in videos),
        "cuts": sum(v.cuts for v in videos),
        "dissolves": sum(v.dissolves for v in videos),
        "truths": sum(len(v.truth) for v in videos),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=60, help="each makes two videos")
    parser.add_argument("--without-action", type=int, default=30, help="videos in which nothing happens")
    parser.add_argument("--seconds", type=float, default=40.0, help="length of each video")
    parser.add_argument("--seed", type=int, default=SEED, help="of the generator; not one used in training")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--head", action="append", metavar="HEAD", help="not the packaged heads, but these")
    parser.add_argument("--videos", type=Path, metavar="DIR", help="keep the videos here, or find them here")
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="measure this part alone; the rest of FILE stays"
    )
    parser.add_argument("-j", "--jobs", type=int)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result here, not to stdout")
    options = parser.parse_args()
    threads.set_jobs(options.jobs)
    parts, result = options.part or PARTS, {}
    if options.part and options.json and options.json.exists():
        result = json.loads(options.json.read_text())
    with tempfile.TemporaryDirectory() as temporary:
        if "videos" in parts:
            folder = options.videos or Path(temporary)
            folder.mkdir(parents=True, exist_ok=True)
            count = options.scenes, options.without_action
            videos = list(make(folder, options.seed, *count, options.seconds, threads.jobs()))
            heads = options.head or packaged_heads()
            result |= {"seed": options.seed, **measure(folder, videos, options.model, heads)}
        if "cuts" in parts and CLIPS.is_dir():
            result["cuts_in_films"] = shot_f1(CLIPS, Path(temporary))
        if "speed" in parts:
            result["speed"] = speed(Path(temporary), options.model)
    text = json.dumps(result, indent=1)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    else:
        print(text)


def measure(folder: Path, videos: Sequence[Video], name: str, heads: Sequence[str]) -> dict[str, Any]:
    """All columns."""
    model, dtype = load_model(name), resolve_dtype("auto", "cpu")
    found = run(folder, videos, name, dtype, heads)
    return {
        "model": model.name,
        "hash": model.hash,
        "dtype": dtype,
        "made_of": described(videos),
        "columns": {column: summary(one) for column, one in found.items()},
    }


if __name__ == "__main__":
    main()
