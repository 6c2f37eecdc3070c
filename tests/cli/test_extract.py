"""`vpipe extract` from the shell: the right frames in the right files, whole or not at all, done once."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from math import floor
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from tests.media.numbered import RECIPES, Recipe, expected_times, number_of, write

Vpipe = Callable[..., "subprocess.CompletedProcess[str]"]
VFR = RECIPES["h264_vfr"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clip") / "clip.mp4", VFR)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "frames.csv", newline="") as table:
        return list(csv.DictReader(table))


def numbers(folder: Path) -> list[int]:
    """The numbers drawn into the pictures that frames.csv lists."""
    return [number_of(cv2.imread(str(folder / row["file"]))) for row in rows(folder)]


def test_all_frames_with_their_times(vpipe: Vpipe, clip: Path, tmp_path: Path) -> None:
    done = vpipe("extract", clip, "-o", "out")
    assert done.returncode == 0
    assert done.stdout == "out/clip\n"
    folder = tmp_path / "out" / "clip"
    table = rows(folder)
    assert list(table[0]) == ["index", "pts", "time_s", "file"]
    assert numbers(folder) == [int(row["index"]) for row in table] == list(range(60))
    assert [row["time_s"] for row in table] == [f"{float(t):.6f}" for t in expected_times(VFR)]
    assert [Fraction(int(r["pts"])) for r in table] == [t / VFR.time_base for t in expected_times(VFR)]
    assert [row["file"] for row in table] == [f"frame_{i:06d}.jpg" for i in range(60)]
    pictures = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    assert pictures == [*(row["file"] for row in table), "frames.csv"]
    assert sorted(os.listdir(tmp_path / "out")) == ["clip"]


@pytest.mark.parametrize("name", ["h264_vfr", "mpeg4_avi_b_frames", "vp9_hidden_frames"])
def test_fps_takes_the_last_frame_at_or_before_each_tick(vpipe: Vpipe, tmp_path: Path, name: str) -> None:
    recipe = RECIPES[name]
    path = write(tmp_path / f"video{recipe.suffix}", recipe)
    times = expected_times(recipe)
    for text in ("8", "30000/1001"):
        fps = Fraction(text)
        assert vpipe("extract", path, "-o", "out", "--fps", text, "--overwrite").returncode == 0
        expected = [
            max(i for i, t in enumerate(times) if t <= k / fps) for k in range(floor(times[-1] * fps) + 1)
        ]
        assert numbers(tmp_path / "out" / "video") == expected
        assert [int(row["index"]) for row in rows(tmp_path / "out" / "video")] == expected


def test_every_start_end_size_png_and_denseflow_names(vpipe: Vpipe, clip: Path, tmp_path: Path) -> None:
    done = vpipe(
        *("extract", clip, "-o", "out", "--as", "png", "--every", "4", "--start", "0.5s"),
        *("--end", "00:00:02", "--short-side", "48", "--naming", "denseflow"),
    )
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out" / "clip"
    chosen = [i for i, t in enumerate(expected_times(VFR)) if Fraction(1, 2) <= t < 2 and i % 4 == 0]
    assert numbers(folder) == chosen
    assert [row["file"] for row in rows(folder)] == [f"img_{i + 1:05d}.png" for i in range(len(chosen))]
    assert cv2.imread(str(folder / "img_00001.png")).shape == (48, 80, 3)


def test_hdf5_holds_the_same_jpeg_bytes(vpipe: Vpipe, clip: Path, tmp_path: Path) -> None:
    assert (
        vpipe("extract", clip, "-o", "out", "--as", "h5", "--quality", "80").stdout == "out/clip.frames.h5\n"
    )
    assert vpipe("extract", clip, "-o", "out", "--quality", "80").returncode == 0
    with h5py.File(tmp_path / "out" / "clip.frames.h5") as file:
        offsets, data = file["offsets"][:], file["jpeg"][:]
        assert file["index"][:].tolist() == list(range(60))
        assert file["time_s"][:].tolist() == [float(t) for t in expected_times(VFR)]
        assert [Fraction(p) * VFR.time_base for p in file["pts"][:].tolist()] == expected_times(VFR)
    assert offsets[0] == 0
    assert offsets[-1] == len(data)
    for index in (0, 17, 59):
        piece = data[offsets[index] : offsets[index + 1]]
        assert piece.tobytes() == (tmp_path / "out" / "clip" / f"frame_{index:06d}.jpg").read_bytes()
        assert number_of(cv2.imdecode(np.ascontiguousarray(piece), cv2.IMREAD_COLOR)) == index


def test_colours_are_not_swapped(vpipe: Vpipe, tmp_path: Path) -> None:
    from vpipe.media import VideoWriter

    with VideoWriter(tmp_path / "red.mp4", 64, 64, fps=Fraction(5)) as writer:
        for _ in range(2):
            writer.write(np.full((64, 64, 3), (220, 40, 20), np.uint8))
    vpipe("extract", "red.mp4", "-o", "out")
    blue, green, red = cv2.imread(str(tmp_path / "out" / "red" / "frame_000000.jpg"))[32, 32]
    assert (red > 200, green < 60, blue < 60) == (True, True, True)


def test_running_again_resumes(vpipe: Vpipe, clip: Path, tmp_path: Path) -> None:
    first = vpipe("extract", clip, "-o", "out", "--json")
    picture = tmp_path / "out" / "clip" / "frame_000000.jpg"
    stamp = picture.stat().st_mtime_ns
    again = vpipe("extract", clip, "-o", "out", "--json")
    assert again.stdout == first.stdout
    assert picture.stat().st_mtime_ns == stamp
    assert "already there" in again.stderr
    row = json.loads(first.stdout)["results"][0]
    assert (row["frames"], row["written"], row["path"], row["status"]) == (60, 60, "out/clip", "ok")
    assert (row["width"], row["height"]) == (160, 96)
    forced = vpipe("extract", clip, "-o", "out", "--json", "--overwrite")
    assert forced.stdout == first.stdout
    assert picture.stat().st_mtime_ns != stamp


def test_other_settings_or_foreign_folders_are_not_overwritten_by_accident(
    vpipe: Vpipe, clip: Path, tmp_path: Path, one_error: Callable[..., str]
) -> None:
    assert vpipe("extract", clip, "-o", "out").returncode == 0
    other = vpipe("extract", clip, "-o", "out", "--every", "2")
    assert other.returncode == 1
    one_error(other, "output_exists", "--overwrite")
    assert len(rows(tmp_path / "out" / "clip")) == 60
    assert vpipe("extract", clip, "-o", "out", "--every", "2", "--overwrite").returncode == 0
    assert len(rows(tmp_path / "out" / "clip")) == 30
    foreign = tmp_path / "home2" / "clip"
    foreign.mkdir(parents=True)
    (foreign / "precious.txt").write_text("mine")
    refused = vpipe("extract", clip, "-o", "home2", "--overwrite")
    one_error(refused, "output_exists", "not made by vpipe")
    assert os.listdir(foreign) == ["precious.txt"]


def test_bad_inputs_fail_alone(
    vpipe: Vpipe, clip: Path, tmp_path: Path, one_error: Callable[..., str]
) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    done = vpipe("extract", "text.mp4", clip, "-o", "out")
    assert done.returncode == 3
    assert done.stdout == "out/clip\n"
    one_error(done, "text.mp4", "not_a_video")
    assert sorted(os.listdir(tmp_path / "out")) == ["clip"]


def test_a_truncated_video_is_partial(vpipe: Vpipe, tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.avi", Recipe(".avi", "mpeg4", {"g": "10"}))
    (tmp_path / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    done = vpipe("extract", "cut.avi", "-o", "out", "--json")
    assert done.returncode == 0
    row = json.loads(done.stdout)["results"][0]
    assert row["status"] == "partial"
    assert {"ends_early", "corrupt_frames"} <= {warning["code"] for warning in row["warnings"]}
    # The last picture is what the decoder made of half a packet.
    assert numbers(tmp_path / "out" / "cut")[:-1] == list(range(row["frames"] - 1))
    assert json.loads(vpipe("extract", "cut.avi", "-o", "out", "--json").stdout)["results"][0] == row


@pytest.mark.parametrize(
    ("flags", "word"),
    [
        (["--fps", "0"], "bad_rate"),
        (["--fps", "8", "--every", "2"], "bad_flags"),
        (["--as", "png", "--quality", "90"], "bad_flags"),
        (["--as", "h5", "--naming", "denseflow"], "bad_flags"),
        (["--start", "abc"], "bad_time"),
        (["--start", "5", "--end", "5"], "bad_time"),
        (["--quality", "101"], "bad_usage"),
        (["--short-side", "0"], "bad_usage"),
    ],
)
def test_bad_values_are_refused_before_any_input(
    vpipe: Vpipe, clip: Path, tmp_path: Path, flags: list[str], word: str, one_error: Callable[..., str]
) -> None:
    done = vpipe("extract", clip, "-o", "out", *flags)
    assert done.returncode == 2
    one_error(done, word)
    assert not (tmp_path / "out").exists()


def test_an_unwritable_folder_is_the_machines_fault(
    vpipe: Vpipe, clip: Path, one_error: Callable[..., str]
) -> None:
    done = vpipe("extract", clip, "-o", "/proc/nowhere")
    assert done.returncode == 1
    one_error(done, "unwritable_output")


@pytest.mark.parametrize("kind", ["jpg", "h5"])
def test_killed_runs_leave_nothing_under_the_final_name(
    vpipe: Vpipe,
    vpipe_executable: Path,
    clean_environment: dict[str, str],
    tmp_path: Path,
    kind: str,
) -> None:
    long = write(tmp_path / "long.mp4", Recipe(".mp4", "libx264", {"g": "50"}, frames=200))
    flags = ["extract", str(long), "-o", str(tmp_path / "out"), "--as", kind, "--short-side", "480"]
    for stop in (signal.SIGKILL, signal.SIGINT):
        run = subprocess.Popen(
            [vpipe_executable, *flags], env=clean_environment, stderr=subprocess.DEVNULL, cwd=tmp_path
        )
        deadline = time.monotonic() + 30
        while not list((tmp_path / "out").glob(f".long*.{run.pid}.part")) and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.1)
        run.send_signal(stop)
        assert run.wait(timeout=30) == (-9 if stop is signal.SIGKILL else 130)
        left = os.listdir(tmp_path / "out")
        assert all(name.endswith(".part") for name in left)
        if stop is signal.SIGINT:
            assert left == []
    done = vpipe(*flags[:-2], "--fps", "2")
    assert done.returncode == 0, done.stderr
    assert os.listdir(tmp_path / "out") == ["long" if kind == "jpg" else "long.frames.h5"]


@pytest.mark.parametrize("kind", ["jpg", "h5"])
def test_a_range_without_frames_is_an_error(vpipe: Vpipe, clip: Path, tmp_path: Path, kind: str) -> None:
    done = vpipe("extract", clip, "-o", "out", "--as", kind, "--start", "100")
    assert done.returncode == 1
    assert "nothing_taken" in done.stderr
    assert os.listdir(tmp_path / "out") == []
    assert vpipe("extract", clip, "-o", "out", "--as", kind).returncode == 0


def test_a_link_to_frames_elsewhere_gives_way_and_they_stay(
    vpipe: Vpipe, small_clip: Path, tmp_path: Path
) -> None:
    assert vpipe("extract", small_clip, "-o", "out").returncode == 0
    frames = tmp_path / "out" / small_clip.stem
    frames.rename(tmp_path / "elsewhere")
    frames.symlink_to(tmp_path / "elsewhere")
    kept = sorted(path.name for path in (tmp_path / "elsewhere").iterdir())
    done = vpipe("extract", small_clip, "-o", "out", "--every", "2", "--overwrite")
    assert done.returncode == 0, done.stderr
    assert not frames.is_symlink()
    assert os.listdir(tmp_path / "out") == [small_clip.stem]
    assert sorted(path.name for path in (tmp_path / "elsewhere").iterdir()) == kept
