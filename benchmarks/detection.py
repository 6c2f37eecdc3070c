"""mAP of `vpipe detect` on generated untrimmed videos of unused seeds, by ActivityNet's rules.

    python -m benchmarks.detection --videos 30 --seed 900001 --model motion-rgb --json detection.json

The videos are made in a temporary folder (about 20 s of CPU for each minute of video), go through the library
exactly as `vpipe detect` with default options would, and are thrown away.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from vpipe import threads
from vpipe.detection.detector import DetectorSettings, detect
from vpipe.evaluation.anet import detection_map
from vpipe.evaluation.annotations import truth_table
from vpipe.evaluation.formats import SegmentTable
from vpipe.models import DEFAULT_MODEL, load_model
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.snippets import scan
from vpipe.synth.write import SynthOptions, write_untrimmed

AVERAGED = (0.3, 0.4, 0.5, 0.6, 0.7)
TIOUS = (*AVERAGED, 0.75, 0.9, 0.95)


def measure(folder: Path, truth: dict[str, Any], model: str, settings: DetectorSettings) -> dict[str, Any]:
    """Detects in every video of a generated set; mAP in percent."""
    recognizer = Recognizer(load_model(model))
    rows: list[tuple[str, str, float, float, float]] = []
    video_s = 0.0
    right = total = 0
    begin = time.perf_counter()
    for video, entry in truth["database"].items():
        scanned = scan(folder / entry["file"], recognizer, cache_dir=folder / "cache", jobs=threads.jobs())
        rows += [(video, s.label, s.start_s, s.end_s, s.score) for s in detect(scanned.scores, settings)]
        video_s += scanned.duration_s
        best = scanned.scores.probabilities.argmax(axis=1)
        shown = labels_at(
            scanned.scores.centre_s, entry["annotations"], recognizer.labels, truth["background"]
        )
        right, total = right + int((best == shown).sum()), total + len(shown)
    took_s = time.perf_counter() - begin
    found = detection_map(truth_table(truth), SegmentTable.of(rows), TIOUS)
    percent = {f"{t:.2f}": round(100 * value, 2) for t, value in zip(TIOUS, found.map, strict=True)}
    at_half = TIOUS.index(0.5)
    return {
        "map": percent,
        "average_map_0.3_0.7": round(100 * float(np.mean(found.map[: len(AVERAGED)])), 2),
        "ap_at_0.5": {label: round(100 * values[at_half], 2) for label, values in found.ap.items()},
        "snippet_accuracy": round(100 * right / total, 2),
        "truths": found.truths,
        "predictions": found.predictions,
        "video_s": round(video_s, 1),
        "times_real_time": round(video_s / took_s, 1),
    }


def labels_at(
    times_s: np.ndarray, annotations: list[dict[str, Any]], labels: list[str], background: str
) -> np.ndarray:
    """Index of the label shown at each time."""
    shown = np.full(len(times_s), labels.index(background))
    for note in annotations:
        start, end = note["segment"]
        shown[(times_s >= start) & (times_s < end)] = labels.index(note["label"])
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=1.0, help="length of each video")
    parser.add_argument(
        "--seed", type=int, default=900_001, help="of the generator; not one used in training"
    )
    parser.add_argument("--vfr", action="store_true", help="variable frame rate")
    parser.add_argument("--background-from", type=Path, help="textures from the videos in this folder")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--candidates", choices=("windows", "grouping", "both"), default="grouping")
    parser.add_argument("--no-refine", action="store_true")
    parser.add_argument("--min-score", type=float, default=DetectorSettings().min_score)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--json", type=Path, help="also write the result here")
    options = parser.parse_args()
    threads.set_jobs(options.jobs)
    settings = DetectorSettings(options.candidates, not options.no_refine, min_score=options.min_score)
    synth = SynthOptions(seed=options.seed, vfr=options.vfr, background_from=options.background_from)
    with tempfile.TemporaryDirectory() as folder:
        truth = write_untrimmed(Path(folder), options.videos, options.minutes, synth, jobs=threads.jobs())
        measured = measure(Path(folder), truth, options.model, settings)
    result = {
        "model": options.model,
        "videos": options.videos,
        "minutes": options.minutes,
        "seed": options.seed,
        "vfr": options.vfr,
        "real_textures": options.background_from is not None,
        "candidates": options.candidates,
        "refine": not options.no_refine,
        "min_score": options.min_score,
        **measured,
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
