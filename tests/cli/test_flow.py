"""`vpipe flow` from the shell: paths on stdout in input order, the cache counted, flow drawn on request."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import h5py
import hdf5plugin  # noqa: F401  (makes HDF5 read Zstd)
import numpy as np
import pytest

from vpipe.flow.params import PACKAGED, FlowParams
from vpipe.media.source import FrameSource, probe

from .inprocess import InProcess
from .small_models import write_model

FAST = ("--method", "dis", "--fps", "native", "--short-side", "native")


def manifest(path: str | Path) -> dict[str, Any]:
    with h5py.File(path) as h5:
        found: dict[str, Any] = json.loads(h5.attrs["manifest"])
    return found


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    """Run the command in this process, which has imported everything already."""
    monkeypatch.setenv("VPIPE_CONFIG", "/dev/null")
    return InProcess(tmp_path, monkeypatch, capsys)


def test_the_default_is_the_packaged_models_recipe(vpipe: Callable[..., Any], small_clip: Path) -> None:
    finished = vpipe("flow", small_clip)
    assert finished.returncode == 0, finished.stderr
    (line,) = finished.stdout.splitlines()
    found = manifest(line)
    assert FlowParams.from_dict(found["flow"]) == PACKAGED
    assert found["shape"] == [15, 2, 128, 192]  # 23 / 12 s at 8 fps
    notes = [note for note in finished.stderr.splitlines() if "packaged two-stream" in note]
    assert len(notes) == 1
    with h5py.File(line) as h5:
        codes = h5["flow"]
        flow = (codes[()].astype("float32") - codes.attrs["zero"]) * codes.attrs["scale"]
        steps = np.diff(h5["frame_index"][()])
    # 2 px a frame to the right, drawn twice as large: 4 px for each frame that the grid goes on.
    moved = np.median(flow[:, 0], axis=(1, 2))
    assert np.abs(moved - 4 * steps).max() < 0.6


def test_for_a_model(run: InProcess, small_clip: Path, tmp_path: Path) -> None:
    finished = run("flow", small_clip, "--for", write_model(tmp_path / "two.safetensors", "rgb", "flow"))
    found = manifest(finished.stdout.strip())
    expected = FlowParams.preset("accurate", short_side_px=32, fps=Fraction(8))
    assert FlowParams.from_dict(found["flow"]) == expected
    refused = run("flow", small_clip, "--for", write_model(tmp_path / "rgb.safetensors", "rgb"))
    assert refused.returncode == 2
    assert "[no_flow_stream]" in refused.stderr


def test_dry_run_writes_nothing(run: InProcess, small_clip: Path, tmp_path: Path) -> None:
    finished = run("flow", small_clip, "-o", tmp_path / "out", "--render", tmp_path / "r", "--dry-run")
    assert finished.returncode == 0
    head, row, total = (line.split("\t") for line in finished.stdout.splitlines())
    assert head == ["input", "video_id", "pairs", "missing", "hours", "gigabytes"]
    assert row[:4] == [str(small_clip), "small", "15", "15"]
    assert total[2:] == row[2:]
    assert list(tmp_path.iterdir()) == []


def test_batch_counts_and_links(run: InProcess, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    clips = [make_clip(tmp_path / f"{name}.mp4", frames=6, seed=seed) for seed, name in enumerate("bca")]
    (tmp_path / "broken.mp4").write_text("no video")
    arguments = ["flow", clips[0], tmp_path / "broken.mp4", *clips[1:], *FAST]
    first = run(*arguments, "--json", "-o", tmp_path / "out")
    assert first.returncode == 3
    results, failures = (json.loads(first.stdout)[key] for key in ("results", "failures"))
    assert [row["video_id"] for row in results] == ["b", "c", "a"]
    assert [row["error"]["code"] for row in failures] == ["not_a_video"]
    for row in results:
        assert row["cache"]["pairs"] == row["cache"]["computed"] == 5
        assert (row["frames"], row["width"], row["height"], row["duration_s"]) == (6, 96, 64, 0.5)
        assert Path(row["path"]).read_bytes() == Path(row["cache"]["path"]).read_bytes()
    second = run(*arguments, "-o", tmp_path / "out", "--jsonl")
    rows = [json.loads(line) for line in second.stdout.splitlines()]
    assert [row["cache"]["reused"] for row in rows if row["status"] == "ok"] == [5, 5, 5]
    third = run(*arguments)
    assert third.stdout.splitlines() == [row["cache"]["path"] for row in results]
    again = run(*arguments, "--json", "-o", tmp_path / "out")
    assert again.stdout == run(*arguments, "--json", "-o", tmp_path / "out").stdout


def test_an_output_of_something_else_is_not_overwritten(
    run: InProcess, small_clip: Path, tmp_path: Path, one_error: Callable[..., str]
) -> None:
    (tmp_path / "small.flow.h5").write_text("mine")
    finished = run("flow", small_clip, *FAST, "-o", tmp_path)
    assert finished.returncode == 1
    one_error(finished, "small.flow.h5", "--overwrite", "[output_exists]")
    assert (tmp_path / "small.flow.h5").read_text() == "mine"
    assert run("flow", small_clip, *FAST, "-o", tmp_path, "--overwrite").returncode == 0
    assert manifest(tmp_path / "small.flow.h5")["format"] == "vpipe.flow/2"


def test_rendering(run: InProcess, small_clip: Path, tmp_path: Path) -> None:
    drawing = ("--render", tmp_path / "r.mp4", "--render-frames", tmp_path / "png")
    finished = run("flow", small_clip, *FAST, *drawing, "--json")
    assert finished.returncode == 0, finished.stderr
    (row,) = json.loads(finished.stdout)["results"]
    info = probe(row["render"])
    assert (info.width, info.height) == (540, 360)
    times = FrameSource(tmp_path / "r.mp4").timeline().times
    assert len(times) == 23
    assert abs(float(times[-1]) - 22 / 12) < 1e-4
    pictures = sorted((tmp_path / "png" / "small").iterdir())
    assert [path.name for path in pictures] == [f"flow_{k:06d}.png" for k in range(23)]
    picture = cv2.imread(str(pictures[10]))[..., ::-1]
    assert picture.shape == (360, 540, 3)
    # Content moves right: red.
    assert np.median(picture[60:250, 60:380], axis=(0, 1))[0] > 240
    assert np.median(picture[60:250, 60:380], axis=(0, 1))[1:].max() < 100


@pytest.mark.parametrize(("option", "drawn"), [("--render", "r.mp4"), ("--render-frames", "png/small")])
def test_rendering_to_a_full_disk_names_the_users_file(
    run: InProcess, small_clip: Path, tmpfs: Callable[[int], Path], option: str, drawn: str
) -> None:
    folder = tmpfs(4096)
    finished = run("flow", small_clip, *FAST, option, folder / drawn.removesuffix("/small"))
    assert finished.returncode == 1
    assert f"vpipe: error: {folder / drawn}: " in finished.stderr
    assert "No space left" in finished.stderr
    assert [path for path in folder.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--for", "motion-two-stream", "--step", "2"], "bad_flags"),
        (["--storage", "high", "--bound", "10"], "bad_flags"),
        (["--bound", "0"], "bad_bound"),
        (["--fps", "fast"], "bad_rate"),
        (["--short-side", "tiny"], "bad_short_side"),
        (["--short-side", "4"], "bad_flow_params"),
        (["--step", "0"], "bad_flow_params"),
        (["--preset", "best"], "bad_usage"),
        (["--render", "a.mp4", "b.mp4"], "bad_flags"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_flags(run: InProcess, arguments: list[str], code: str, tmp_path: Path) -> None:
    finished = run("flow", "missing.mp4", *arguments)
    assert finished.returncode == 2
    assert finished.stdout == ""
    assert f"[{code}]" in finished.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_cache_folder_that_cannot_be_made_ends_the_run(run: InProcess, small_clip: Path) -> None:
    finished = run("flow", small_clip, "--cache-dir", "/proc/nope")
    assert finished.returncode == 1
    assert "cache_unwritable" in finished.stderr


def test_equal_names_go_to_folders_of_their_own(run: InProcess, small_clip: Path, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        shutil.copy(small_clip, tmp_path / folder / "same.mp4")
    finished = run("flow", "a", "b", "-o", "out", "--render", "drawn")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == ["out/a/same.flow.h5", "out/b/same.flow.h5"]
    assert all((tmp_path / "drawn" / folder / "same.flow.mp4").is_file() for folder in ("a", "b"))


def test_drawing_never_replaces_the_input(run: InProcess, small_clip: Path, tmp_path: Path) -> None:
    video = tmp_path / "mine.mp4"
    shutil.copy(small_clip, video)
    finished = run("flow", video, "--overwrite", "--render", video)
    assert (finished.returncode, "output_is_input" in finished.stderr) == (2, True)
    inside = tmp_path / "mine2.flow.mp4"
    os.link(video, inside)
    os.link(video, tmp_path / "mine2.mp4")
    finished = run("flow", tmp_path / "mine2.mp4", "--overwrite", "--render", tmp_path)
    assert (finished.returncode, "output_is_input" in finished.stderr) == (1, True)
    assert video.read_bytes() == inside.read_bytes() == small_clip.read_bytes()


def test_other_drawings_give_way_only_to_overwrite(run: InProcess, small_clip: Path, tmp_path: Path) -> None:
    drawing = ("--render", "r.mp4", "--render-frames", "png")
    assert [run("flow", small_clip, *drawing).returncode for _ in range(2)] == [0, 0]
    before = (tmp_path / "r.mp4").read_bytes()
    other = run("flow", small_clip, "--fps", "4", *drawing)
    assert (other.returncode, "output_exists" in other.stderr) == (1, True)
    assert (tmp_path / "r.mp4").read_bytes() == before
    assert run("flow", small_clip, "--fps", "4", "--overwrite", *drawing).returncode == 0
    pictures = {path.name for path in (tmp_path / "png" / "small").iterdir()}
    assert pictures == {f"flow_{k:06d}.png" for k in range(len(pictures))}
    assert len(pictures) == 7  # 2 s at 4 frames a second
    (tmp_path / "png" / "small" / "notes.txt").write_text("mine")
    assert run("flow", small_clip, "--render-frames", "png", "--overwrite").returncode == 1
    assert (tmp_path / "png" / "small" / "notes.txt").read_text() == "mine"
