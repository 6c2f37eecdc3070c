"""All packaged models on the clips of one `vpipe synth clips` run, made one at a time and let go.

    python -m benchmarks.vocabulary_all --count 2002 --seed 5005 --rows ROWS [--background-from VIDEOS]

Clip i is clip i of `vpipe synth clips --seed SEED`, byte for byte. What every model says of it is a line of
ROWS, so that a run that was stopped goes on; at the end benchmarks/results/vocabulary-<textures>-<model>.json
is written for each model, as `benchmarks.vocabulary` would for the whole folder.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
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


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2002)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rows", type=Path, required=True, metavar="FILE")
    parser.add_argument("--background-from", type=Path, metavar="DIR")
    parser.add_argument("--models", nargs="+", default=packaged_models(), metavar="MODEL")
    parser.add_argument("-j", "--jobs", type=int)
    options = parser.parse_args()
    threads.set_jobs(options.jobs)
    models = {name: load_model(name) for name in options.models}
    recognizers = {name: Listening(model) for name, model in models.items()}
    within = {name: place for name in models if (place := stream_of_another(name, models))}
    run = {
        "seed": options.seed,
        "textures": "frames of real videos" if options.background_from else "procedural",
        "hashes": {name: model.hash for name, model in models.items()},
    }
    rows = known_rows(options.rows, run)
    synth = SynthOptions(seed=options.seed, background_from=options.background_from)
    real = textures_from_videos(options.background_from) if options.background_from else []
    pool = TexturePool(real)
    with options.rows.open("a") as file, tempfile.TemporaryDirectory() as scratch:
        if not rows:
            file.write(json.dumps(run) + "\n")
        for number in range(len(rows), options.count):
            label = synth.labels[number % len(synth.labels)]
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                path = Path(folder) / write_clip(Path(folder), number, label, synth, pool)["file"]
                said = {
                    name: one.called(path, Path(folder))
                    for name, one in recognizers.items()
                    if name not in within
                }
            said |= {name: [said[other][1 + stream]] for name, (other, stream) in within.items()}
            rows.append({"label": label, "said": said})
            file.write(json.dumps(rows[-1]) + "\n")
            file.flush()
            if len(rows) % 50 == 0:
                tell(rows, options.count)
    for name, model in models.items():
        table = [(row["label"], *row["said"][name]) for row in rows]
        about = {"schema": "vpipe.vocabulary/1", "model": model.name, "hash": model.hash}
        result = {
            **about,
            **{key: run[key] for key in ("seed", "textures")},
            **recognizers[name].result(table),
        }
        kind = "real-textures" if options.background_from else "synthetic"
        (RESULTS / f"vocabulary-{kind}-{model.name}.json").write_text(json.dumps(result, indent=1) + "\n")
        report(result)


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


def known_rows(path: Path, run: dict[str, Any]) -> list[dict[str, Any]]:
    """What an earlier run of the same clips and models has found. Ends the program where it is another's."""
    if not path.is_file():
        return []
    first, *rest = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
    if first != run:
        sys.exit(f"{path}: of other clips or models; give another --rows")
    return rest


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
