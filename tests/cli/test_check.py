"""`vpipe check`: a verdict on every file, and an exit code for scripts."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.media.numbered import RECIPES, Recipe, write

Vpipe = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """good.mp4, vfr.mp4, cut.mp4 (truncated), text.mp4, one.mp4 and a fifo."""
    place = tmp_path_factory.mktemp("check")
    write(place / "good.mp4", Recipe(".mp4", "libx264", {"g": "10"}))
    write(place / "vfr.mp4", RECIPES["h264_vfr"])
    write(place / "one.mp4", Recipe(".mp4", "libx264", frames=1))
    whole = write(place / "whole.avi", Recipe(".avi", "mpeg4"))
    (place / "cut.avi").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    (place / "text.mp4").write_text("no video")
    os.mkfifo(place / "fifo.mp4")
    return place


def verdicts(done: subprocess.CompletedProcess[str]) -> dict[str, tuple[bool, str | None, set[str]]]:
    found = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        reason = row["error"]["code"] if row["error"] else row["reason"]
        codes = {warning["code"] for warning in row["warnings"]}
        found[Path(row["input"]).name] = (row.get("ok", False), reason, codes)
    return found


def test_every_file_gets_its_verdict(vpipe: Vpipe, folder: Path) -> None:
    done = vpipe("check", *sorted(folder.iterdir()), "--jsonl")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    found = verdicts(done)
    assert found["good.mp4"] == (True, None, set())
    assert found["vfr.mp4"] == (True, None, {"vfr"})
    assert found["one.mp4"] == (True, None, {"single_image"})
    assert found["cut.avi"][:2] == (False, "ends_early")
    assert "ends_early" in found["cut.avi"][2]
    assert found["text.mp4"][:2] == (False, "not_a_video")
    assert found["fifo.mp4"][:2] == (False, "not_a_regular_file")


def test_rows_say_what_was_declared_and_what_decodes(vpipe: Vpipe, folder: Path) -> None:
    done = vpipe("check", folder / "good.mp4", folder / "cut.avi", "--json")
    assert done.returncode == 1
    good, cut = json.loads(done.stdout)["results"]
    assert (good["frames"], good["declared_frames"], good["duration_s"], good["fps"]) == (60, 60, 2.0, 30.0)
    assert (good["codec"], good["width"], good["height"]) == ("h264", 160, 96)
    assert good["variable_frame_rate"] is False
    assert cut["status"] == "partial"
    assert 0 < cut["frames"] < 60


def test_sound_files_exit_with_0(vpipe: Vpipe, folder: Path) -> None:
    done = vpipe("check", folder / "good.mp4", folder / "vfr.mp4")
    assert done.returncode == 0
    first, second = done.stdout.splitlines()
    assert first.split("\t")[::2] == ["ok", "h264 160x96, 60 frames, 2.0 s"]
    assert "vfr" in second


def test_quick_reads_headers_only(vpipe: Vpipe, folder: Path) -> None:
    done = vpipe("check", "--quick", folder / "good.mp4", "--json")
    assert done.returncode == 0
    row = json.loads(done.stdout)["results"][0]
    assert (row["ok"], row["frames"], row["declared_frames"]) == (True, None, 60)
    assert vpipe("check", "--quick", folder / "text.mp4").returncode == 1


def test_a_failed_file_is_a_line_of_the_report(vpipe: Vpipe, folder: Path) -> None:
    done = vpipe("check", folder / "text.mp4")
    assert done.stdout.split("\t")[0] == "not_a_video"
    assert "[not_a_video]" in done.stderr
