"""Many processes, many videos, long videos: everything once, nothing slow, memory flat."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest

from tests.cache.clips import contents, strays, write_moving
from tests.measured import measured, on_this_machine, used
from vpipe.cache import care
from vpipe.cache.slots import find_slots

DIS = ("--method", "dis", "--fps", "native", "--short-side", "native")
PAIRS = (40, 70, 20)


def flow(executable: Path, cache: Path, *arguments: object) -> subprocess.Popen[str]:
    command = [executable, "flow", "--cache-dir", cache, "--json", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_eight_processes_over_one_folder(vpipe_executable: Path, tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for number, pairs in enumerate(PAIRS):
        write_moving(videos / f"{number}.mp4", [0.5 + number + 0.1 * (k % 7) for k in range(pairs)])
    alone = flow(vpipe_executable, tmp_path / "alone", videos, *DIS, "-j", "1")
    processes = [flow(vpipe_executable, tmp_path / "cache", videos, *DIS, "-j", "1") for _ in range(8)]
    computed, paths = [0] * len(PAIRS), set()
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        rows = [row["cache"] for row in json.loads(out)["results"]]
        computed = [a + row["computed"] for a, row in zip(computed, rows, strict=True)]
        assert all(row["computed"] + row["reused"] == row["pairs"] for row in rows)
        paths.add(tuple(row["path"] for row in rows))
    assert computed == list(PAIRS)
    (files,) = paths
    expected = [row["cache"]["path"] for row in json.loads(alone.communicate()[0])["results"]]
    for a, b in zip(files, expected, strict=True):
        assert contents(Path(a)) == contents(Path(b))
    slots, unknown = find_slots(tmp_path / "cache")
    assert (len(slots), unknown) == (3, [])
    assert [fault for slot in slots for fault in care.faults(slot)] == []
    assert strays(tmp_path / "cache") == []


@pytest.mark.slow
@pytest.mark.timed
def test_a_thousand_cached_videos_take_three_seconds(
    vpipe_executable: Path, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    clip = make_clip(videos / "0000.mp4").read_bytes()
    for number in range(1000):
        path = videos / f"{number:04d}.mp4"
        path.write_bytes(
            clip + b"\0\0\0\x0cfree" + number.to_bytes(4, "big")
        )  # a box of its own: another video
        os.utime(path, (10**9, 10**9))
    first = flow(vpipe_executable, tmp_path / "cache", videos, "--method", "dis")
    assert len(json.loads(first.communicate()[0])["results"]) == 1000
    taken = []
    for _ in range(3):
        began = time.monotonic()
        again = flow(vpipe_executable, tmp_path / "cache", videos, "--method", "dis")
        rows = json.loads(again.communicate()[0])["results"]
        taken.append(time.monotonic() - began)
        assert all(row["cache"]["reused"] == row["cache"]["pairs"] > 0 for row in rows)
    print(f"1000 cached videos: {min(taken):.2f} s")
    assert min(taken) < on_this_machine(3)


def repeated(minute: Path, target: Path, times: int) -> Path:
    """The packets of an encoded video again and again, with their times moved on."""
    with av.open(str(target), "w") as out:
        stream: Any = None
        for round_ in range(times):
            with av.open(str(minute)) as source:
                video = source.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(video)
                shift = round(round_ * video.duration)
                for packet in source.demux(video):
                    if packet.dts is not None:
                        packet.pts, packet.dts = packet.pts + shift, packet.dts + shift
                        packet.stream = stream
                        out.mux(packet)
    return target


@pytest.mark.slow
@pytest.mark.parametrize("fps", ["8", "native"])
def test_an_hour_takes_no_more_memory_than_ten_seconds(
    vpipe_executable: Path, tmp_path: Path, fps: str
) -> None:
    shifts = [0.5 + 0.3 * (k % 9) for k in range(25 * 60 - 1)]
    minute = write_moving(tmp_path / "minute.mp4", shifts, fps=Fraction(25), size=(320, 240))
    short = write_moving(tmp_path / "short.mp4", shifts[: 10 * 25 - 1], fps=Fraction(25), size=(320, 240))
    hour = repeated(minute, tmp_path / "hour.mp4", 60)
    peaks = []
    for video in (short, hour):
        command = [vpipe_executable, "flow", video, "--method", "dis", "--fps", fps, "-j", "2"]
        command += ["--cache-dir", tmp_path / "cache"]
        subprocess.run(measured(tmp_path / "used", command), stdout=subprocess.DEVNULL, check=True)
        peaks.append(used(tmp_path / "used").peak_kib / 1024)
    print(f"{fps}: ten seconds {peaks[0]:.0f} MiB, an hour {peaks[1]:.0f} MiB")
    assert peaks[1] - peaks[0] < 150
