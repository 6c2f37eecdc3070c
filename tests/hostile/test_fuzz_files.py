"""Damaged weight files, checkpoints, cache files, ground truth, label files, recipes: opened or refused."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.cache.clips import DIS, write_moving
from tests.cli.small_models import write_model
from tests.hostile.mutate import mutants
from vpipe.cache import FlowCache

CHECKOUT = Path(__file__).resolve().parents[2]
PEAK_KIB = 1_500_000  # torch included
TRUTH = {
    "database": {
        f"video{n}": {
            "duration": 20.5 + n,
            "subset": "validation",
            "annotations": [
                {"segment": [1.0, 4.5], "label": "Long jump"},
                {"segment": [6, 9], "label": "jump"},
            ],
        }
        for n in range(4)
    }
}


def weight_files(folder: Path) -> list[bytes]:
    return [
        write_model(folder / "both", "rgb", "flow").read_bytes(),
        write_model(folder / "one", "rgb").read_bytes(),
    ]


def checkpoints(folder: Path) -> list[bytes]:
    state = {f"module.base_model.layer{n}.weight": torch.randn(4, 4) for n in range(6)}
    files = []
    for content in ({"state_dict": state, "epoch": 3, "args": {"lr": 0.1}}, state):
        for zipped in (True, False):
            buffer = io.BytesIO()
            torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
            files.append(buffer.getvalue())
    return files


def cache_files(folder: Path) -> list[bytes]:
    entry = FlowCache(folder / "cache").entry(write_moving(folder / "moving.mp4", [1, 2, 3]), DIS)
    entry.ensure()
    assert entry.path
    return [entry.path.read_bytes()]


def truth_files(folder: Path) -> list[bytes]:
    lines = "".join(
        json.dumps({"video_id": f"v{n}", "label": "jump", "segment": [1, 2]}) + "\n" for n in range(9)
    )
    return [json.dumps(TRUTH).encode(), json.dumps(TRUTH, indent=1).encode(), lines.encode()]


def label_files(folder: Path) -> list[bytes]:
    return [b"walk\nrun\njump\n", "1 ropes\n2 hängen\n".encode(), b"label,name\r\n0,walk\r\n1,run\r\n"]


def recipe_files(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CHECKOUT / "vpipe/training/recipes").glob("*.toml"))]


ORIGINALS: dict[str, Callable[[Path], list[bytes]]] = {
    "weights": weight_files,
    "checkpoint": checkpoints,
    "cache": cache_files,
    "truth": truth_files,
    "labels": label_files,
    "recipe": recipe_files,
}


def fuzz(kinds: dict[str, str], folder: Path, count: int, seed: int) -> None:
    """`count` mutants of each kind through a reader each, in one process."""
    arguments: list[str | Path] = []
    for kind, reader in kinds.items():
        files = folder / f"{kind}-files"
        files.mkdir()
        for number, data in enumerate(mutants(ORIGINALS[kind](folder), count, seed)):
            (files / f"{number:04d}{'.toml' if kind == 'recipe' else ''}").write_bytes(data)
        arguments += [reader, files]
    finished = subprocess.run(
        [sys.executable, "-m", "tests.hostile.fuzz_files", *arguments],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert finished.returncode == 0, f"{finished.returncode}: {finished.stderr[-1000:]}"
    for kind, found in json.loads(finished.stdout.splitlines()[-1]).items():
        print(f"{kind}: {found}", file=sys.stderr)
        assert not found["wrong"], found["wrong"]
        assert found["opened"] + found["refused"] == count
        assert kind == "labels" or found["refused"] > 0
        assert found["peak_kib"] < PEAK_KIB
    assert all(len(list((folder / f"{kind}-files").iterdir())) == count for kind in kinds)


def test_fuzzed_files(tmp_path: Path) -> None:
    fuzz({kind: kind for kind in ORIGINALS}, tmp_path, 25, seed=3)


@pytest.mark.slow
def test_five_hundred_fuzzed_files(tmp_path: Path) -> None:
    fuzz({kind: kind for kind in ORIGINALS}, tmp_path, 500, seed=30_000)


@pytest.mark.slow
def test_fuzzed_cache_files_from_elsewhere(tmp_path: Path) -> None:
    fuzz({"cache": "foreign"}, tmp_path, 12, seed=40_000)
