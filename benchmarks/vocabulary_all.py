"""All packaged models on the clips of one `vpipe synth clips` run, made one at a time and let go.

    python -m benchmarks.vocabulary_all --count 2002 --seed 7007 --rows ROWS [--background-from VIDEOS]

Clip i is clip i of `vpipe synth clips --seed SEED`, byte for byte. What every model says of it is a line of
ROWS, so that a run that was stopped, or that `--seconds` ended, goes on. `-j` processes of one thread each
judge clips in the order of their numbers, in which labels take turns. At the end, for each model
benchmarks/results/vocabulary-<textures>-<model>.json is written, as `benchmarks.vocabulary` would for all.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from benchmarks.vocabulary import Listening, report
from vpipe import threads
from vpipe.models import Model, load_model
from vpipe.models.packaged_models import packaged_models
from vpipe.synth.textures import TexturePool, textures_from_videos
from vpipe.synth.write import SynthOptions, write_clip

RESULTS = Path(__file__).parent / "results"
TELL_EVERY = 50  # clips

_judge: Judge  # of a worker process


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2002)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    parser.add_argument("--background-from", type=Path, metavar="DIR")
    parser.add_argument("--models", nargs="+", default=packaged_models(), metavar="MODEL")
    parser.add_argument("--seconds", type=float, help="begin no clip after that; the next run goes on")
    parser.add_argument("-j", "--jobs", type=int, help="processes (all cores)")
    options = parser.parse_args()
    threads.set_jobs(options.jobs)
    models = {name: load_model(name) for name in options.models}
    run = {
        "seed": options.seed,
        "textures": "frames of real videos" if options.background_from else "procedural",
        "hashes": {name: model.hash for name, model in models.items()},
    }
    rows = known_rows(options.rows, run)
    synth = SynthOptions(seed=options.seed, background_from=options.background_from)
    missing = [number for number in range(options.count) if number not in rows]
    with options.rows.open("a") as file:
        if not rows:
            file.write(json.dumps(run) + "\n")
            file.flush()
        for row in judged(missing, options.models, synth, options.seconds):
            rows[row["number"]] = row
            file.write(json.dumps(row) + "\n")
            file.flush()
            if len(rows) % TELL_EVERY == 0:
                tell(list(rows.values()), options.count)
    if len(rows) < options.count:
        print(f"{len(rows)} of {options.count} clips judged; run again to go on", file=sys.stderr)
        return
    for name, model in models.items():
        table = [(rows[n]["label"], *rows[n]["said"][name]) for n in range(options.count)]
        about = {"schema": "vpipe.vocabulary/1", "model": model.name, "hash": model.hash}
        result = {
            **about,
            **{key: run[key] for key in ("seed", "textures")},
            **Listening(model).result(table),
        }
        kind = "real-textures" if options.background_from else "synthetic"
        (RESULTS / f"vocabulary-{kind}-{model.name}.json").write_text(json.dumps(result, indent=1) + "\n")
        report(result)


def judged(
    numbers: list[int], models: list[str], synth: SynthOptions, seconds: float | None
) -> Iterator[dict[str, Any]]:
    """A row for each of these clips, as they come."""
    end = time.monotonic() + (float("inf") if seconds is None else seconds)
    jobs, todo = min(threads.jobs(), len(numbers)), iter(numbers)
    if not numbers:
        return
    with ProcessPoolExecutor(
        jobs, get_context("spawn"), initializer=begin_worker, initargs=(models, synth)
    ) as pool:
        waiting: set[Future[dict[str, Any]]] = set()
        while True:
            while len(waiting) < 2 * jobs and time.monotonic() < end and (n := next(todo, None)) is not None:
                waiting.add(pool.submit(row_of, n))
            if not waiting:
                return
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            yield from (future.result() for future in done)


def begin_worker(models: list[str], synth: SynthOptions) -> None:
    global _judge
    threads.set_jobs(1)
    _judge = Judge(models, synth)


def row_of(number: int) -> dict[str, Any]:
    return _judge.row(number)


class Judge:
    """Makes clips by their number and says what each model calls them."""

    def __init__(self, names: list[str], synth: SynthOptions) -> None:
        models = {name: load_model(name) for name in names}
        self.synth = synth
        self.recognizers = {name: Listening(model) for name, model in models.items()}
        self.within = {name: place for name in models if (place := stream_of_another(name, models))}
        self.pool = TexturePool(textures_from_videos(synth.background_from) if synth.background_from else [])

    def row(self, number: int) -> dict[str, Any]:
        label = self.synth.labels[number % len(self.synth.labels)]
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = folder / write_clip(folder, number, label, self.synth, self.pool)["file"]
            said = {
                name: one.called(path, folder)
                for name, one in self.recognizers.items()
                if name not in self.within
            }
        said |= {name: [said[other][1 + stream]] for name, (other, stream) in self.within.items()}
        return {"number": number, "label": label, "said": said}


def stream_of_another(name: str, models: dict[str, Model]) -> tuple[str, int] | None:
    """(model, stream) among `models` with the weights of this model of one stream: it need not run twice."""
    if len(models[name].streams) > 1:
        return None
    wanted = models[name].streams[0]
    mine = wanted.network.state_dict()
    for other, model in models.items():
        for number, stream in enumerate(model.streams):
            theirs = stream.network.state_dict()
            alike = stream.spec.architecture == wanted.spec.architecture and mine.keys() == theirs.keys()
            if other != name and alike and all(torch.equal(mine[key], theirs[key]) for key in mine):
                return other, number
    return None


def known_rows(path: Path, run: dict[str, Any]) -> dict[int, dict[str, Any]]:
    """What an earlier run of the same clips and models has found. Ends the program where it is another's."""
    if not path.is_file():
        return {}
    lines = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    if not lines:
        return {}
    first, *rest = lines
    if first != run:
        sys.exit(f"{path}: of other clips or models; give another --rows")
    return {row["number"]: row for row in rest}


def tell(rows: list[dict[str, Any]], count: int) -> None:
    shares = {
        name: sum(row["said"][name][0] == row["label"] for row in rows) / len(rows)
        for name in rows[0]["said"]
    }
    print(
        f"{len(rows)}/{count} " + ", ".join(f"{name} {share:.4f}" for name, share in shares.items()),
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()
