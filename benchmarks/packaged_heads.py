"""How the packaged heads were learnt: generated videos -> features of motion-rgb -> heads.

    python -m benchmarks.packaged_heads -o DIR

DIR gets videos/, features/, truth.json, and a file for each head. The videos are like those that `detection`
measures on, of other seeds: five frame rates, each constant and variable, cuts, dissolves, motion that is no
action, some without action. What is there already is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.untrimmed import Video, make
from vpipe import threads
from vpipe.models import DEFAULT_MODEL, load_model
from vpipe.recognition.extract_features import extract_features
from vpipe.recognition.features import FeatureRecognizer
from vpipe.recognition.grid import snippet_grid
from vpipe.training.heads import train_head

SEED = 909
HEADS = {"stpp": "motion-stpp", "mstcn": "motion-mstcn"}
SECONDS = 40.0


def _features(video: Path, target: Path) -> None:
    threads.set_jobs(1)
    recognizer = FeatureRecognizer(load_model(DEFAULT_MODEL), dtype="fp32", batch_size=8)
    grid = snippet_grid(recognizer)
    extract_features(video, target, recognizer, grid, dtype="fp32", video_id=video.stem)


def _train(kind: str, features: Path, truth: Path, output: Path, epochs: int | None) -> float:
    threads.set_jobs(1)
    threads.set_torch_threads(1)
    return train_head(kind, features, truth, output, epochs=epochs).loss


def write_truth(videos: list[Video], path: Path) -> None:
    database = {
        Path(video.file).stem: {
            "subset": "training",
            "duration": video.duration_s,
            "annotations": [{"label": label, "segment": [a, b]} for label, a, b in video.truth],
        }
        for video in videos
    }
    path.write_text(json.dumps({"version": "untrimmed", "taxonomy": [], "database": database}, indent=1))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--scenes", type=int, default=150, help="videos with action")
    parser.add_argument("--without-action", type=int, default=45, help="videos in which nothing happens")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("-j", "--jobs", type=int)
    options = parser.parse_args()
    threads.set_jobs(options.jobs)
    jobs, folder = threads.jobs(), options.output
    films, features, truth = folder / "videos", folder / "features", folder / "truth.json"
    for one in (films, features):
        one.mkdir(parents=True, exist_ok=True)
    count = options.scenes, options.without_action
    videos = list(make(films, options.seed, *count, SECONDS, jobs, twins=False))
    print(f"{len(videos)} videos", file=sys.stderr)
    write_truth(videos, truth)
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        paths = [films / video.file for video in videos]
        list(pool.map(_features, paths, [features / f"{path.stem}.npy" for path in paths]))
        print("features", file=sys.stderr)
        learning = {
            name: pool.submit(_train, kind, features, truth, folder / f"{name}.safetensors", options.epochs)
            for kind, name in HEADS.items()
        }
        for name, loss in learning.items():
            print(f"{name}: loss {loss.result():.4f}", file=sys.stderr)


if __name__ == "__main__":
    main()
