"""How well a model knows the motion vocabulary: top-1 on generated clips, or noted stretches of real ones.

    vpipe synth clips -o DIR --count 2002 --seed 7007 [--background-from VIDEOS]
    python -m benchmarks.vocabulary --clips DIR --model motion-rgb --json

DIR holds `truth.json` (written by `vpipe synth clips`), or `ground_truth.json` with hand-made notes of camera
motion: then each noted stretch is listed with the prediction beside it. Clips go through the library exactly
as `vpipe classify` and `vpipe detect` with default options would. Whole clips are judged, not snippets.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vpipe import threads
from vpipe.models import DEFAULT_MODEL, load_model
from vpipe.recognition.classify import classify
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.snippets import scan
from vpipe.training.assessing import wilson

# What a note of camera motion means in the vocabulary, first match; several labels: either will do.
# `dolly` and `tracking` move the camera itself, which looks like a zoom or a pan.
# The notes are of the camera alone: where it is held, a subject may move, which the labels of subjects say.
HELD = ("static", "subject_left", "subject_right", "subject_waves")
MEANINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("roll", ("roll_clockwise", "roll_counterclockwise", "zoom_out", "shake")),
    ("zoom out", ("zoom_out",)),
    ("dolly backwards", ("zoom_out",)),
    ("pan right", ("pan_right",)),
    ("pan left", ("pan_left",)),
    ("content moves left", ("pan_right",)),
    ("handheld shake", ("shake",)),
    ("almost still", HELD),
    ("subject grows", ()),
    ("slow pan", ("pan_left", "pan_right")),
    ("pan", ("pan_left", "pan_right")),
    ("static", HELD),
)


class Listening(Recognizer):
    """A recognizer that tells what each stream says on its own, beside their fusion."""

    said: list[np.ndarray]

    def fused(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        self.said = list(scores)
        return super().fused(scores)

    def called(self, path: Path, cache: Path) -> list[str]:
        """The label that the model gives the video and, where there are several, that each stream gives."""
        whole = classify(path, self, cache_dir=cache, jobs=threads.jobs()).probabilities
        every = [whole, *self.said] if len(self.streams) > 1 else [whole]
        return [self.labels[int(scores.argmax())] for scores in every]

    def result(self, rows: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Of rows (truth, label of the model, labels of its streams)."""
        truth, *said = zip(*rows, strict=True)
        result = tally(truth, said[0], self.labels)
        if len(said) > 1:
            result["streams"] = {
                str(ready.stream.modality): proportion(
                    sum(a == b for a, b in zip(truth, one, strict=True)), len(truth)
                )
                for ready, one in zip(self.streams, said[1:], strict=True)
            }
        return result


def proportion(right: int, total: int) -> dict[str, Any]:
    return {"top1": round(100 * right / total, 2), "interval95": wilson(right, total)}


def tally(truth: Sequence[str], said: Sequence[str], labels: Sequence[str]) -> dict[str, Any]:
    """Top-1 with its interval, per label, and the confusions (rows: truth)."""
    confusion = np.zeros((len(labels), len(labels)), int)
    for one, other in zip(truth, said, strict=True):
        confusion[labels.index(one), labels.index(other)] += 1
    return {
        "clips": len(truth),
        **proportion(int(np.trace(confusion)), len(truth)),
        "per_label": {
            label: round(100 * confusion[i, i] / max(1, confusion[i].sum()), 1)
            for i, label in enumerate(labels)
        },
        "confusion": confusion.tolist(),
    }


def generated(folder: Path, truth: dict[str, Any], recognizer: Listening, cache: Path) -> dict[str, Any]:
    """Top-1 over the clips of `vpipe synth clips`."""
    rows = []
    begin = time.perf_counter()
    for name, row in sorted(truth["videos"].items()):
        rows.append((row["label"], *recognizer.called(folder / name, cache)))
        if len(rows) % 100 == 0:
            share = sum(row[0] == row[1] for row in rows) / len(rows)
            print(f"{len(rows)}/{len(truth['videos'])} clips, top-1 {share:.4f}", file=sys.stderr)
    print(f"{len(rows)} clips in {time.perf_counter() - begin:.0f} s", file=sys.stderr)
    about = {"seed": truth["seed"], "textures": truth["textures"]}
    return {**about, **recognizer.result(rows)}


def noted(folder: Path, notes: dict[str, Any], recognizer: Recognizer, cache: Path) -> dict[str, Any]:
    """Every stretch of real video with a note of its camera motion, beside what the model says."""
    stretches = []
    for name, entry in sorted(notes.items()):
        if not entry.get("camera"):
            continue
        scores = scan(folder / name, recognizer, cache_dir=cache, jobs=threads.jobs()).scores
        for note, start, end in entry["camera"]:
            inside = (scores.start_s >= start - 1e-6) & (scores.end_s <= end + 1e-6)
            if not inside.any():  # shorter than a snippet: the one nearest to its middle
                inside = (
                    np.arange(len(scores.centre_s)) == np.abs(scores.centre_s - (start + end) / 2).argmin()
                )
            mean = scores.probabilities[inside].mean(0)
            best = [recognizer.labels[i] for i in np.argsort(-mean, kind="stable")[:3]]
            meaning = next((labels for text, labels in MEANINGS if text in note), ())
            stretches.append(
                {
                    "video": name,
                    "note": note,
                    "start_s": start,
                    "end_s": end,
                    "snippets": int(inside.sum()),
                    "predicted": [
                        {"label": label, "score": round(float(mean[recognizer.labels.index(label)]), 3)}
                        for label in best
                    ],
                    "expected": list(meaning),
                    "right": best[0] in meaning if meaning else None,
                }
            )
    judged = [s for s in stretches if s["right"] is not None]
    return {"stretches": stretches, "judged": len(judged), "right": sum(bool(s["right"]) for s in judged)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=Path, required=True, metavar="DIR")
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--modality", choices=("rgb", "flow", "both"))
    parser.add_argument(
        "--json", nargs="?", const="-", metavar="FILE", help="write JSON to FILE, or to stdout"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("-j", "--jobs", type=int)
    options = parser.parse_args()
    threads.set_jobs(options.jobs)
    model = load_model(options.model, options.device)
    recognizer = Listening(model, device=options.device, modality=options.modality)
    result: dict[str, Any] = {"schema": "vpipe.vocabulary/1", "model": model.name, "hash": model.hash}
    with tempfile.TemporaryDirectory() as cache:
        if (options.clips / "truth.json").is_file():
            truth = json.loads((options.clips / "truth.json").read_text())
            result |= generated(options.clips, truth, recognizer, Path(cache))
        elif (options.clips / "ground_truth.json").is_file():
            notes = json.loads((options.clips / "ground_truth.json").read_text())
            result |= noted(options.clips, notes, recognizer, Path(cache))
        else:
            parser.error(f"{options.clips}: holds neither truth.json nor ground_truth.json")
    report(result)
    if options.json:
        text = json.dumps(result, indent=1) + "\n"
        sys.stdout.write(text) if options.json == "-" else Path(options.json).write_text(text)


def report(result: dict[str, Any]) -> None:
    """The result for a reader, on stderr."""
    if "top1" in result:
        low, high = result["interval95"]
        print(
            f"{result['model']}: top-1 {result['top1']} % [{low}, {high}] on {result['clips']} clips",
            file=sys.stderr,
        )
        print(
            "  " + ", ".join(f"{label} {share}" for label, share in result["per_label"].items()),
            file=sys.stderr,
        )
        return
    for row in result["stretches"]:
        mark = {True: "right", False: "WRONG", None: "-"}[row["right"]]
        guess = ", ".join(f"{p['label']} {p['score']:.2f}" for p in row["predicted"])
        print(
            f"{mark:5} {row['video'][:24]:24} {row['start_s']:5}-{row['end_s']:5}  {row['note'][:40]:40}"
            + f" {guess}",
            file=sys.stderr,
        )
    print(f"{result['right']} of {result['judged']} judged stretches right", file=sys.stderr)


if __name__ == "__main__":
    main()
