"""VideoWriter: what is written can be read back, at its time, and never half of it."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.media.numbered import jittered, number_of, picture
from vpipe.errors import EnvironmentFault, UsageError
from vpipe.media import FrameSource, VideoWriter


def write(path: Path, count: int = 20, **options: object) -> Path:
    with VideoWriter(path, 160, 96, **{"fps": Fraction(30), **options}) as writer:  # type: ignore[arg-type]
        for number in range(count):
            writer.write(picture(number))
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".avi", ".ts"])
def test_frames_come_back_in_order(tmp_path: Path, suffix: str) -> None:
    video = FrameSource(write(tmp_path / f"clip{suffix}"))
    frames = list(video.frames())
    assert [number_of(frame.image) for frame in frames] == list(range(20))
    assert all(abs(f.time_s - Fraction(f.index, 30)) <= Fraction(1, 1000) for f in frames)


def test_rates_that_are_no_whole_number_stay_exact(tmp_path: Path) -> None:
    rate = Fraction(30000, 1001)
    video = FrameSource(write(tmp_path / "ntsc.mp4", fps=rate))
    assert video.info.average_rate == rate
    assert [frame.time_s for frame in video.frames()] == [i / rate for i in range(20)]
    assert video.timeline().duration_s == 20 / rate


def test_given_times_are_stored(tmp_path: Path) -> None:
    times = jittered(30, 9)
    with VideoWriter(tmp_path / "vfr.mp4", 160, 96) as writer:
        for number, time_s in enumerate(times):
            writer.write(picture(number), time_s)
    video = FrameSource(tmp_path / "vfr.mp4")
    assert [frame.time_s for frame in video.frames()] == [time - times[0] for time in times]
    assert video.timeline().variable_rate


def test_colours_come_back(tmp_path: Path) -> None:
    image = np.zeros((96, 160, 3), np.uint8)
    image[:, :40], image[:, 40:80], image[:, 80:120] = (200, 30, 30), (30, 200, 30), (30, 30, 200)
    with VideoWriter(tmp_path / "colour.mp4", 160, 96, fps=Fraction(10), crf=5) as writer:
        for _ in range(3):
            writer.write(image)
    got = next(FrameSource(tmp_path / "colour.mp4").frames()).image
    for x in (20, 60, 100, 140):
        assert np.abs(got[48, x].astype(int) - image[48, x]).max() <= 4


def test_odd_sizes_are_padded_to_even(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "odd.mp4", 161, 97, fps=Fraction(10)) as writer:
        assert writer.size == (162, 98)
        writer.write(picture(3, 161, 97))
    frame = next(FrameSource(tmp_path / "odd.mp4").frames())
    assert frame.image.shape == (98, 162, 3)
    assert number_of(frame.image) == 3


def test_equal_work_gives_equal_bytes(tmp_path: Path) -> None:
    assert write(tmp_path / "a.mp4").read_bytes() == write(tmp_path / "b.mp4").read_bytes()


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with VideoWriter(tmp_path / "a.mp4", 160, 96, fps=Fraction(30)) as writer:
            writer.write(picture(0))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", count=3)
    before = path.read_bytes()
    with VideoWriter(path, 160, 96, fps=Fraction(30)) as writer:
        writer.write(picture(0))
        assert path.read_bytes() == before
    assert path.read_bytes() != before
    assert list(tmp_path.iterdir()) == [path]


def test_misuse_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="container"):
        VideoWriter(tmp_path / "a.xyz", 160, 96)
    with pytest.raises(EnvironmentFault):
        VideoWriter("/proc/none/a.mp4", 160, 96)
    writer = VideoWriter(tmp_path / "a.mp4", 160, 96)
    with pytest.raises(ValueError, match="time_s"):
        writer.write(picture(0))
    writer.write(picture(0), Fraction(1))
    with pytest.raises(ValueError, match="rise"):
        writer.write(picture(1), Fraction(1))
    with pytest.raises(ValueError, match="expected"):
        writer.write(picture(1)[:50], Fraction(2))
    writer.abandon()
    assert list(tmp_path.iterdir()) == []


def test_names_are_only_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("http:a.mp4", "%03d.mp4", "-x.mp4"):
        write(Path(name), count=2)
        assert Path(name).is_file()
