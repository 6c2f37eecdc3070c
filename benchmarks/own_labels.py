"""`vpipe train DATA` on five generated labels that the packaged vocabulary does not know, from end to end.

    python -m benchmarks.own_labels --json benchmarks/results/own-labels.json

Clips of 20 videos a label are learnt and the weight file labels 200 clips of new seeds with `vpipe classify`;
then the same labels are learnt from segments of untrimmed videos, found in new ones with `vpipe detect` and
scored with `vpipe eval detection`. Everything goes through the commands. Seconds are those of the clock and
of the processor (of all threads); where the machine does other work too, the processor's say more.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.own_label_videos import LABELS, write_labelled, write_untrimmed
from vpipe import threads
from vpipe.models import load_model
from vpipe.training.assessing import wilson

TRAIN_SEED, TEST_SEED = 2, 9009
PARTS = ["clips", "segments"]


def run(folder: Path, jobs: int | None, *words: object) -> tuple[str, dict[str, float]]:
    """Stdout of a vpipe command, with a cache in `folder`, and what it took."""
    many = [] if jobs is None or words[0] == "eval" else ["-j", str(jobs)]
    command = [sys.executable, "-m", "vpipe", *map(str, words), *many]
    begin, before = time.perf_counter(), os.times()
    environment = {**os.environ, "VPIPE_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return done.stdout, {"wall_s": round(time.perf_counter() - begin, 1), "cpu_s": round(cpu, 1)}


def learn(folder: Path, data: Path, jobs: int | None, *more: object) -> tuple[Path, dict[str, Any]]:
    """`vpipe train DATA`: the weight file, and what its report and its log say."""
    model = folder / f"{data.stem}.safetensors"
    words = ("train", data, "-o", model, "--json", "--overwrite", *more)
    said, took = run(folder, jobs, *words)
    (row,) = json.loads(said)["results"]
    log = [json.loads(line) for line in Path(f"{model}.run/log.jsonl").read_text().splitlines()]
    spent = sum(1 / entry["clips_per_s"] for entry in log)
    found = {
        "made": load_model(model).header.source,
        "videos": row["videos"],
        "epochs": row["epochs"],
        "clips": row["clips"],
        "validation_accuracy": row["validation"]["accuracy"],
        "clips_per_s": round(len(log) / spent, 1),
        "data_wait": round(sum(entry["data_wait"] / entry["clips_per_s"] for entry in log) / spent, 4),
        **took,
    }
    return model, found


def trimmed(
    folder: Path, per_label: int, test_per_label: int, jobs: int | None, *more: object
) -> dict[str, Any]:
    """Clips with one label each: accuracy on clips of new seeds."""
    write_labelled(folder / "clips", per_label, TRAIN_SEED)
    truth = {str(path): label for path, label in write_labelled(folder / "new", test_per_label, TEST_SEED)}
    model, found = learn(folder, folder / "clips", jobs, *more)
    said, took = run(folder, jobs, "classify", folder / "new", "--model", model, "--top", 1, "--json")
    confusion = np.zeros((len(LABELS), len(LABELS)), int)
    for row in json.loads(said)["results"]:
        called = row["labels"][0]["label"]
        confusion[LABELS.index(truth[row["input"]]), LABELS.index(called)] += 1
    right, count = int(np.trace(confusion)), int(confusion.sum())
    return {
        "train": found,
        "classify": took,
        "test_clips": count,
        "accuracy": round(100 * right / count, 2),
        "interval_95": wilson(right, count),
        "labels": LABELS,
        "confusion": confusion.tolist(),
    }


def untrimmed(
    folder: Path, train_videos: int, test_videos: int, duration_s: float, jobs: int | None, *more: object
) -> dict[str, Any]:
    """Segments of untrimmed videos: mAP on videos of new seeds."""
    write_untrimmed(folder / "long", train_videos, TRAIN_SEED, duration_s)
    write_untrimmed(folder / "newlong", test_videos, TEST_SEED, duration_s)
    truth = json.loads((folder / "long" / "truth.json").read_text())["database"]
    of_label = {
        label: sum(note["label"] == label for row in truth.values() for note in row["annotations"])
        for label in LABELS
    }
    model, found = learn(folder, folder / "long" / "truth.json", jobs, *more)
    anet = folder / "found.json"
    _, took = run(folder, jobs, "detect", folder / "newlong", "--model", model, "--anet", anet, "--json")
    scored, _ = run(
        folder,
        jobs,
        "eval",
        "detection",
        "--ground-truth",
        folder / "newlong" / "truth.json",
        "--predictions",
        anet,
        "--json",
    )
    return {
        "train": found,
        "train_segments": of_label,
        "detect": took,
        "test_videos": test_videos,
        "minutes_each": round(duration_s / 60, 2),
        "scores": json.loads(scored),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--per-label", type=int, default=20, help="clips of each label to learn from")
    parser.add_argument("--test-per-label", type=int, default=40)
    parser.add_argument("--train-videos", type=int, default=14, help="untrimmed videos to learn from")
    parser.add_argument("--test-videos", type=int, default=8)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured")
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--folder", type=Path, help="keep everything here, and use again what is there")
    parser.add_argument("--json", type=Path, help="also write the result here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        result: dict[str, Any] = {
            "cores": threads.available_cores(),
            "jobs": options.jobs,
            "seeds": {"train": TRAIN_SEED, "test": TEST_SEED},
        }
        if "clips" in options.parts:
            result["clips"] = trimmed(folder, options.per_label, options.test_per_label, options.jobs)
        if "segments" in options.parts:
            videos = (options.train_videos, options.test_videos)
            result["segments"] = untrimmed(folder, *videos, 60.0, options.jobs)
    text = json.dumps(result, indent=1)
    print(text)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
