"""Thousands of damaged videos: a row for each, with a documented code, in bounded time and memory."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.cli.small_models import write_model
from tests.hostile.mutate import mutants
from tests.measured import measured, used
from tests.media.numbered import Recipe, write

CHECKOUT = Path(__file__).resolve().parents[2]
BATCH = 150
CONTAINERS_AND_CODECS = (
    (".mp4", "libx264", {"g": "4"}),
    (".mkv", "libx265", {"x265-params": "log-level=none:pools=none:frame-threads=1"}),
    (".webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    (".avi", "mpeg4", {"g": "4"}),
    (".ts", "libx264", {"g": "4"}),
    (".avi", "mjpeg", {}),
    (".mkv", "ffv1", {}),
    (".mp4", "libsvtav1", {"preset": "12", "svtav1-params": "lp=1"}),
)
FRAMES = 12
STALL_S, MEMORY = "20", "700MB"
TOOL_MEMORY_KIB = 1_400_000  # torch and its model included


def documented_codes() -> set[str]:
    """The codes of docs/reliability.md: the first column of its tables."""
    text = (CHECKOUT / "docs" / "reliability.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([a-z_]+)`", text, re.MULTILINE))


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("originals")
    files = []
    for number, (suffix, codec, options) in enumerate(CONTAINERS_AND_CODECS):
        pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        recipe = Recipe(suffix, codec, options, frames=FRAMES, pix_fmt=pix_fmt)
        files.append(write(folder / f"{number}{suffix}", recipe).read_bytes())
    return files


def run(executable: Path, folder: Path, command: str, count: int) -> Counter[str]:
    """One process over all mutants in folder/in; how many rows had which code."""
    more = {
        "extract": ["--as", "h5", "-o", str(folder / "out")],
        "flow": ["--method", "dis", "--fps", "native"],
        "classify": ["--model", str(folder / "model.safetensors")],
        "detect": ["--model", str(folder / "model.safetensors")],
    }
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("VPIPE_", "XDG_"))}
    arguments = [executable, command, "--jsonl", "-j", "2", "--max-stall", STALL_S, "--max-memory", MEMORY]
    with open(folder / "rows", "wb") as out, open(folder / "said", "wb") as said:
        process = subprocess.run(
            measured(folder / "used", [*arguments, *more.get(command, []), "in"]),
            cwd=folder,
            env=kept | {"HOME": str(folder / "home"), "VPIPE_CACHE_DIR": str(folder / "cache")},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=said,
        )
    errors = (folder / "said").read_text()
    assert process.returncode in (0, 1, 3), errors[-2000:]
    assert "Traceback" not in errors
    rows = [json.loads(line) for line in (folder / "rows").read_text().splitlines()]
    assert len(rows) == count
    codes = Counter(row["error"]["code"] if row["error"] else row["status"] for row in rows)
    known = documented_codes()
    said_codes = {w["code"] for row in rows for w in row["warnings"]} | (codes.keys() - {"ok", "partial"})
    assert said_codes <= known, said_codes - known
    assert codes["internal_error"] == 0, errors[-2000:]
    assert used(folder / "used").peak_kib < TOOL_MEMORY_KIB
    if command == "check":
        known_names = {"in", "home", "rows", "said", "used", "model.safetensors"}
        assert {path.name for path in folder.iterdir()} <= known_names
    return codes


def fuzz(
    executable: Path, folder: Path, originals: list[bytes], commands: tuple[str, ...], count: int, seed: int
) -> Counter[str]:
    total: Counter[str] = Counter()
    for first in range(0, count, BATCH):
        place = folder / str(first)
        (place / "in").mkdir(parents=True)
        (place / "home").mkdir()
        if set(commands) & {"classify", "detect"}:
            write_model(place / "model.safetensors", "rgb")
        batch = list(mutants(originals, min(BATCH, count - first), seed + first))
        for number, data in enumerate(batch):
            (place / "in" / f"{number:04d}.mp4").write_bytes(data)
        for command in commands:
            total += run(executable, place, command, len(batch))
        for path in place.rglob("*"):
            assert path.relative_to(place).parts[0] in (
                *("in", "home", "out", "cache", "rows", "said", "used"), "model.safetensors"
            )  # fmt: skip
        assert len(list((place / "in").iterdir())) == len(batch)
    return total


def test_mutants_are_the_same_every_time(originals: list[bytes]) -> None:
    assert list(mutants(originals, 20, 1)) == list(mutants(originals, 20, 1))
    assert len({bytes(data) for data in mutants(originals, 50, 2)}) > 45


def test_whole_videos_are_done(vpipe_executable: Path, tmp_path: Path, originals: list[bytes]) -> None:
    (tmp_path / "in").mkdir()
    for number, data in enumerate(originals):
        (tmp_path / "in" / f"{number}.mp4").write_bytes(data)
    assert run(vpipe_executable, tmp_path, "check", len(originals)) == {"ok": len(originals)}


def test_fuzzed_videos(vpipe_executable: Path, tmp_path: Path, originals: list[bytes]) -> None:
    codes = fuzz(vpipe_executable, tmp_path, originals, ("check", "extract"), 300, seed=1)
    assert codes["ok"] > 30
    assert codes["partial"] > 30
    assert sum(codes.values()) == 600


def test_fuzzed_videos_with_models(vpipe_executable: Path, tmp_path: Path, originals: list[bytes]) -> None:
    codes = fuzz(vpipe_executable, tmp_path, originals, ("flow", "classify", "detect"), 30, seed=2)
    assert sum(codes.values()) == 90


@pytest.mark.slow
def test_three_thousand_fuzzed_videos(vpipe_executable: Path, tmp_path: Path, originals: list[bytes]) -> None:
    begin = time.monotonic()
    codes = fuzz(vpipe_executable, tmp_path, originals, ("check", "extract"), 3000, seed=10_000)
    print(
        f"check and extract, 3,000 mutants, {time.monotonic() - begin:.0f} s: {dict(codes)}", file=sys.stderr
    )
    assert sum(codes.values()) == 6000


@pytest.mark.slow
def test_three_hundred_fuzzed_videos_with_models(
    vpipe_executable: Path, tmp_path: Path, originals: list[bytes]
) -> None:
    begin = time.monotonic()
    codes = fuzz(vpipe_executable, tmp_path, originals, ("flow", "classify", "detect"), 300, seed=20_000)
    print(
        f"flow, classify, detect, 300 mutants, {time.monotonic() - begin:.0f} s: {dict(codes)}",
        file=sys.stderr,
    )
    assert sum(codes.values()) == 900
