"""Decoding in another process gives the same frames, and what befalls that process befalls one file only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.media.numbered import RECIPES, Recipe, number_of, write
from vpipe import workers
from vpipe.errors import InputError
from vpipe.limits import Limits, set_limits
from vpipe.media import Frame, FrameSource, decoders, ring, wire
from vpipe.media.decoders import decoder
from vpipe.media.reading import FrameReader
from vpipe.workers import Worker

FRAMES = 120


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """More frames than a ring has slots."""
    folder = tmp_path_factory.mktemp("isolation")
    return write(folder / "clip.mp4", Recipe(".mp4", "libx264", {"g": "10"}, frames=FRAMES))


@pytest.fixture
def bounds() -> Iterator[Callable[..., None]]:
    """`bounds(stall_s=1)` for the length of a test."""
    yield lambda **numbers: set_limits(Limits(**numbers))
    set_limits(Limits())


def assert_same(got: Frame, wanted: Frame) -> None:
    assert np.array_equal(got.image, wanted.image)
    assert (got.index, got.time_s, got.pts, got.damaged) == (
        wanted.index, wanted.time_s, wanted.pts, wanted.damaged
    )  # fmt: skip
    assert got.image.flags.c_contiguous
    assert got.image.flags.owndata


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("color", ["rgb", "gray"])
def test_another_process_gives_the_same(numbered: dict[str, Path], name: str, color: str) -> None:
    far = FrameSource(numbered[name], short_side_px=48, color=color)  # type: ignore[arg-type]
    near = FrameReader(numbered[name], short_side_px=48, color=color)  # type: ignore[arg-type]
    assert (far.info, far.output_size) == (near.info, near.output_size)
    ways: list[Callable[[FrameSource | FrameReader], list[tuple[int, Frame]]]] = [
        lambda s: list(enumerate(s.frames())),
        lambda s: list(enumerate(s.frames(Fraction(1, 2), Fraction(3, 2), every=3))),
        lambda s: list(s.resample(Fraction(97))),
        lambda s: list(s.resample(Fraction(8), Fraction(1, 4), Fraction(3, 2))),
        lambda s: list(enumerate(s.select([0, 3, 3, 30, 59]))),
    ]
    for way in ways:
        got, wanted = way(far), way(near)
        assert [tick for tick, _ in got] == [tick for tick, _ in wanted]
        for (_, a), (_, b) in zip(got, wanted, strict=True):
            assert_same(a, b)
    assert list(far.timeline().times) == list(near.timeline().times)
    assert list(far.timeline().pts) == list(near.timeline().pts)
    assert far.warnings == near.warnings


def nearest(times: Sequence[Fraction], fps: Fraction) -> list[int]:
    """For every k / fps up to the last time the frame nearest to it, none of them half a step early."""
    grid = [k / fps for k in range(int(times[-1] * fps) + 1)]
    return [
        min((i for i, t in enumerate(times) if t - at < 1 / (2 * fps)), key=lambda i: abs(times[i] - at))
        for at in grid
    ]


def test_a_walk_shows_every_frame_and_the_grid(numbered: dict[str, Path]) -> None:
    for name in ("h264_vfr", "mpeg4_avi_b_frames"):
        source, fps = FrameSource(numbered[name], short_side_px=48), Fraction(8)
        whole, seen = list(source.frames()), list(source.walk(fps))
        assert [one.index for one in seen] == list(range(60))
        assert [one.time_s for one in seen] == [frame.time_s for frame in whole]
        assert {one.small.shape for one in seen} == {(48, 64)}
        assert [one.index for one in seen for _ in one.ticks] == nearest([f.time_s for f in whole], fps)
        assert [tick for one in seen for tick in one.ticks] == list(range(len(source.grid(fps))))
        for one, frame in zip(seen, whole, strict=True):
            assert (one.image is None) == (not one.ticks)
            assert one.image is None or np.array_equal(one.image, frame.image)
        assert all(one.image is None for one in source.walk())


def working() -> int:
    """Process id of the decoder at work."""
    (worker,) = decoders._working
    return worker.process.pid


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_killed_decoder_costs_one_file(clip: Path, how: signal.Signals) -> None:
    frames = FrameSource(clip).frames()
    next(frames)
    os.kill(working(), how)
    with pytest.raises(InputError, match=how.name) as caught:
        list(frames)
    assert caught.value.code == "decoder_crashed"
    assert "clip.mp4" in caught.value.message
    assert len(list(FrameSource(clip).frames())) == FRAMES


def test_a_stopped_decoder_is_given_up(clip: Path, bounds: Callable[..., None]) -> None:
    frames = FrameSource(clip).frames()
    next(frames)
    bounds(stall_s=1)
    process = working()
    os.kill(process, signal.SIGSTOP)
    with pytest.raises(InputError) as caught:
        list(frames)
    assert caught.value.code == "timeout"
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    assert len(list(FrameSource(clip).frames())) == FRAMES


def test_a_reader_that_takes_its_time_is_no_hang(clip: Path, bounds: Callable[..., None]) -> None:
    frames = FrameSource(clip).frames()
    next(frames)
    bounds(stall_s=1)
    time.sleep(1.5)
    assert len(list(frames)) == FRAMES - 1


def test_a_decoder_that_died_while_idle_costs_nothing(clip: Path) -> None:
    assert FrameSource(clip).info.width == 160
    for worker in decoders._idle:
        os.kill(worker.process.pid, signal.SIGKILL)
    assert len(list(FrameSource(clip).frames())) == FRAMES


def test_a_decoder_that_an_earlier_file_damaged_is_replaced(clip: Path) -> None:
    FrameSource(clip)
    worker = decoders._idle[-1]
    os.kill(worker.process.pid, signal.SIGSTOP)
    killer = threading.Timer(0.3, os.kill, (worker.process.pid, signal.SIGKILL))
    killer.start()
    assert FrameSource(clip).info.width == 160
    killer.join()


def test_a_file_that_crashes_every_decoder_is_named(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, signal, time; time.sleep(0.5); os.kill(os.getpid(), signal.SIGSEGV)"  # it has the file
    monkeypatch.setattr(workers, "_BOOT", code)
    decoders.end_all()
    with pytest.raises(InputError, match="SIGSEGV") as caught:
        FrameSource(clip)
    assert caught.value.code == "decoder_crashed"


def test_memory_is_capped(tmp_path: Path, bounds: Callable[..., None]) -> None:
    """A picture that unpacks to 27 MB, and as much again to convert it."""
    import cv2

    path = tmp_path / "bomb.png"
    cv2.imwrite(str(path), np.zeros((3000, 3000, 3), np.uint8))
    assert path.stat().st_size < 1 << 20
    bounds(memory_bytes=20 << 20)
    with pytest.raises(InputError) as caught:
        list(FrameSource(path).frames())
    assert caught.value.code in ("too_large", "decoder_crashed"), caught.value.message
    bounds(memory_bytes=1 << 30)
    assert [frame.image.shape for frame in FrameSource(path).frames()] == [(3000, 3000, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2])
def test_too_little_memory_for_a_walk_has_a_code(
    make_clip: Callable[..., Path], tmp_path: Path, bounds: Callable[..., None], threads: int
) -> None:
    """Frames, threads and the libraries of the decoder itself: whatever does not fit, one clear answer, and
    no word of damage."""
    clip = make_clip(tmp_path / "large.mp4", frames=120, size=(1920, 1080))
    codes = set()
    for mebibytes in range(40, 361, 20):
        bounds(memory_bytes=mebibytes << 20)
        frames, code = 0, "none"
        try:
            source = FrameSource(clip, size=(96, 96), threads=threads)
            frames = len(list(source.walk(Fraction(8))))
            assert [warning.code for warning in source.warnings] == []
        except InputError as fault:
            code = fault.code
        assert frames == 120 or code in ("too_large", "decoder_crashed"), mebibytes
        codes.add(code)
    assert {"none", "too_large"} <= codes


def test_limits_have_a_code(clip: Path, bounds: Callable[..., None]) -> None:
    for numbers in ({"pixels": 1000}, {"frames": 50}, {"streams": 0}, {"metadata_bytes": 1}):
        bounds(**numbers)
        with pytest.raises(InputError) as caught:
            list(FrameSource(clip).frames())
        assert caught.value.code == "too_large", numbers


def test_one_decoder_serves_many_files(clip: Path) -> None:
    FrameSource(clip).timeline()
    known = {worker.process.pid for worker in decoders._idle}
    for _ in range(20):
        source = FrameSource(clip, short_side_px=32)
        assert len(source.timeline()) == FRAMES
        frames = source.frames()
        next(frames)
        frames.close()  # left in the middle: the decoder is told, not ended
        assert len(list(source.select([5, 50]))) == 2
    assert {worker.process.pid for worker in decoders._idle} == known


def test_iterators_side_by_side(clip: Path) -> None:
    source = FrameSource(clip, short_side_px=48)
    pairs = list(zip(source.frames(), source.frames(), FrameSource(clip).frames(), strict=True))
    assert len(pairs) == FRAMES
    assert [number_of(frame.image) for _, _, frame in pairs] == list(range(FRAMES))
    assert all(np.array_equal(a.image, b.image) for a, b, _ in pairs)


def test_threads_have_a_decoder_each(clip: Path) -> None:
    counts: list[int] = []

    def read() -> None:
        counts.extend(len(list(FrameSource(clip, short_side_px=32).frames())) for _ in range(3))

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == [FRAMES] * 12


def test_without_memory_that_has_no_name(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    assert [number_of(f.image) for f in FrameSource(clip).frames()] == list(range(FRAMES))


def test_shared_memory_cannot_be_cut_short() -> None:
    shared = ring.Ring((4, 4), 2)
    with pytest.raises(PermissionError):
        os.ftruncate(shared.fd, 1)
    shared.close()
    shared.close_fd()


def test_descriptors_and_processes_stay_few(clip: Path) -> None:
    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    list(FrameSource(clip).frames())
    before = held()
    for _ in range(30):
        source = FrameSource(clip, short_side_px=32)
        next(source.frames())
        with contextlib.suppress(InputError):
            FrameSource(clip.parent / "missing.mp4")
    assert held() == before
    assert not decoders._working


def test_when_we_are_killed_the_decoder_goes_too(clip: Path) -> None:
    code = (
        "import sys; from vpipe.media import FrameSource, decoders;"
        "frames = FrameSource(sys.argv[1]).frames(); next(frames);"
        "print(*[w.process.pid for w in decoders._working], flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(clip)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        os.kill(process, 0)
        parent.kill()
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    pytest.fail("the decoder outlives us")


def test_no_module_of_the_current_folder_is_run(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("av", "numpy", "json", "vpipe"):
        (tmp_path / f"{name}.py").write_text("open('taken', 'w')")
    monkeypatch.chdir(tmp_path)
    decoders.end_all()
    assert FrameSource(clip).info.width == 160
    assert not (tmp_path / "taken").exists()


NONSENSE = [
    {},
    {"done": True},
    {"done": True, "warnings": []},
    {"done": True, "warnings": [["a", "b"]], "info": {}, "output_size": [1, 1]},
    {"done": True, "warnings": [], "info": {}, "output_size": [10**9, 10**9]},
    {"done": True, "warnings": [], "info": {"width": -1}, "output_size": [2, 2]},
    {"done": True, "warnings": {"x": 1}, "output_size": None},
    {"error": [1, 2], "done": True, "warnings": []},
]


@pytest.mark.parametrize("answer", NONSENSE)
def test_what_cannot_be_is_not_believed(
    clip: Path, answer: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lie(worker: Worker, *, stall_s: float) -> tuple[dict[str, object], bytes]:
        return answer, b""

    monkeypatch.setattr(Worker, "receive", lie)
    with pytest.raises(InputError, match="nonsense") as caught:
        FrameSource(clip)
    assert caught.value.code == "decoder_crashed"
    assert not decoders._working


def test_frames_that_cannot_be_are_not_believed(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [0, [0, 1], 0, 0, 0, 0]  # index, time, pts, damaged, tick, slot
    lies: list[object] = [[*good[:5], slot] for slot in (99, -1, -2, "0", None)]
    lies += [[], [0], [-1, *good[1:]], [0, [0, 0], *good[2:]], None, "abcdef"]
    lies += [[0, [0, 1], 1.5, 0, 0, 0], [0, [0, 1], 0, 0, -1, 0], good * 2]
    answers: list[tuple[object, bytes]] = [([lie], b"") for lie in lies]
    answers += [([], b""), (None, b""), ("rows", b""), ([good] * 1000, b""), ([good], b"more")]
    for rows, payload in [([good], b""), *answers]:
        source = FrameSource(clip)
        with monkeypatch.context() as patch:
            told = ({"rows": rows}, payload)
            patch.setattr(Worker, "receive", lambda *_, told=told, **__: told)
            if rows == [good] and not payload:
                assert next(source.frames()).index == 0
                continue
            with pytest.raises(InputError, match="nonsense"):
                next(source.frames())


def test_timelines_that_cannot_be_are_not_believed(clip: Path) -> None:
    header, payload = wire.from_timeline(FrameSource(clip).timeline())
    assert list(wire.to_timeline(header, payload, 1000).pts) == list(FrameSource(clip).timeline().pts)
    for change in (
        {"frames": 0},
        {"frames": FRAMES + 1},
        {"frames": 10**12},
        {"unit": [0, 1]},
        {"unit": [1, 0]},
        {"last": [-1, 2]},
        {"held": -1},
    ):
        with pytest.raises(ValueError, match=r"number|fraction|length|clock"):
            wire.to_timeline(header | change, payload, 1000)
    with pytest.raises(ValueError, match="step back"):
        wire.to_timeline(header, payload[:-8] + bytes(8), 1000)


def test_a_decoder_writes_no_file_and_opens_few(clip: Path) -> None:
    with decoder(clip) as worker:
        allowed = Path(f"/proc/{worker.process.pid}/limits").read_text()
        worker.resting = True
    rows = {line[:25].strip(): line[25:].split()[:2] for line in allowed.splitlines()}
    assert rows["Max file size"] == ["0", "0"]
    assert rows["Max core file size"] == ["0", "0"]
    assert rows["Max open files"] == ["64", "64"]
    assert int(rows["Max address space"][1]) < Limits().memory_bytes + (2 << 30)
