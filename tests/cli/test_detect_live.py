"""`vpipe detect -`: a video on stdin, with the events of the same video as a file."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import IO, Any

import av
import cv2
import numpy as np
import pytest

from tests.measured import measured, used
from vpipe.detection.detector import DetectorSettings, Segment, detect, in_order
from vpipe.detection.heads.head import load_head
from vpipe.detection.heads.run import detect_with_head
from vpipe.detection.live import LiveDetection
from vpipe.errors import InputError, UsageError
from vpipe.limits import Limits, set_limits
from vpipe.media import FrameSource, VideoWriter, decoders
from vpipe.media.shots import Shot, shots
from vpipe.models import load_model
from vpipe.recognition.features import FeatureRecognizer, split_features
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.snippets import detection_grid, scan

from .small_models import write_model

SETTINGS = DetectorSettings(min_score=0.05, include_background=True)


def film(
    path: Path, pieces: int = 4, fps: Fraction = Fraction(25), vfr: bool = False, times: int = 1
) -> Path:
    """Shots of two to four seconds that move in different directions. times: larger than 96x64."""
    rng = np.random.default_rng(1)
    t = 0
    with VideoWriter(path, 96 * times, 64 * times, fps=None if vfr else fps) as writer:
        for _ in range(pieces):
            picture = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (128, 96))
            step = int(rng.integers(-3, 4))
            for k in range(int(rng.integers(2, 5) * fps)):
                t += 1
                if not vfr or rng.random() < 0.8:
                    shown = np.roll(picture, k * step, 1)[:64, :96].repeat(times, 0).repeat(times, 1)
                    writer.write(shown, t / fps if vfr else None)
    return path


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Recognizer:

    path = write_model(tmp_path_factory.mktemp("model") / "small.safetensors", "rgb")
    return Recognizer(load_model(path), batch_size=4)


def live(
    path: Path, recognizer: Recognizer, settings: DetectorSettings = SETTINGS, **options: Any
) -> LiveDetection:
    """As if the file was piped in."""
    reading, writing = os.pipe()
    subprocess.Popen(["cat", path], stdout=writing)
    os.close(writing)
    return LiveDetection(reading, recognizer, settings, **options)


@pytest.mark.parametrize(("suffix", "vfr"), [(".mp4", False), (".mp4", True), (".mkv", True), (".ts", False)])
@pytest.mark.parametrize("jobs", [1, 2])
def test_events_equal_those_of_the_file(
    tmp_path: Path, recognizer: Recognizer, suffix: str, vfr: bool, jobs: int
) -> None:
    path = film(tmp_path / f"film{suffix}", vfr=vfr)
    scanned = scan(path, recognizer, grid=detection_grid(recognizer), jobs=1)
    stream = live(path, recognizer, jobs=jobs)
    events = list(stream.events())
    segments = [event.what for event in events if not isinstance(event.what, Shot)]
    assert len(segments) > 3
    assert in_order(segments) == detect(scanned.scores, SETTINGS)
    found = [event.what for event in events if isinstance(event.what, Shot)]
    assert found == shots(scanned.scores.cuts, scanned.frames, scanned.duration_s)
    assert len(found) == 4
    assert (stream.frames, stream.duration_s) == (scanned.frames, scanned.duration_s)
    assert stream.warnings == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
def test_events_of_a_large_video(tmp_path: Path, recognizer: Recognizer, suffix: str) -> None:
    """Frames are left out of the file; the stream is decoded whole."""
    path = film(tmp_path / f"film{suffix}", vfr=suffix == ".mkv", times=4)
    assert max(recognizer.streams[0].stream.size) * 8 <= 256
    grid = detection_grid(recognizer)
    scanned = [scan(path, recognizer, grid=grid, jobs=jobs) for jobs in (1, 2)]
    assert np.array_equal(scanned[0].scores.probabilities, scanned[1].scores.probabilities)
    assert scanned[0].scores.cuts == scanned[1].scores.cuts
    seen = FrameSource(path, size=recognizer.streams[0].stream.size).walk(grid.fps)
    assert any(one.small is None for one in seen) == (suffix != ".ts")
    stream = live(path, recognizer, jobs=2)
    events = list(stream.events())
    segments = [event.what for event in events if not isinstance(event.what, Shot)]
    assert len(segments) > 3
    assert in_order(segments) == detect(scanned[0].scores, SETTINGS)
    found = [event.what for event in events if isinstance(event.what, Shot)]
    assert found == shots(scanned[0].scores.cuts, scanned[0].frames, scanned[0].duration_s)
    assert len(found) == 4
    assert (stream.frames, stream.duration_s) == (scanned[0].frames, scanned[0].duration_s)


@pytest.mark.parametrize("jobs", [1, 2])
def test_events_of_a_head_equal_those_of_the_file(tmp_path: Path, jobs: int) -> None:
    """`stpp` judges a section by itself, so that nothing waits for the end of the stream."""
    path = film(tmp_path / "film.mp4", pieces=6)
    recognizer, head = FeatureRecognizer(load_model("motion-rgb"), batch_size=4), load_head("motion-stpp")
    grid = head.grid(recognizer)
    scanned = scan(path, recognizer, grid=grid, jobs=1)
    scores, features = split_features(scanned.scores, path, recognizer, grid, scanned.info.rate)
    settings = DetectorSettings(min_score=0.02)
    known = detect_with_head(head, features, settings, scores).segments
    stream = live(path, recognizer, settings=settings, head=head, jobs=jobs)
    events = [event for event in stream.events() if not isinstance(event.what, Shot)]
    found = in_order([event.what for event in events if isinstance(event.what, Segment)])
    assert len(known) > 3
    assert found == known
    assert min(event.what.end_s for event in events) < stream.duration_s / 2
    first = min(events, key=lambda event: event.what.end_s)
    assert first.latency_s < stream.duration_s / 2  # known long before the end


def test_events_come_while_the_video_still_does(tmp_path: Path, recognizer: Recognizer) -> None:
    """The stream is held back after two thirds: what ended well before must be known by then."""
    data = film(tmp_path / "film.ts", pieces=6).read_bytes()
    reading, writing = os.pipe()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=writing) as sender:
        os.close(writing)
        assert sender.stdin is not None
        sender.stdin.write(data[: len(data) * 2 // 3])
        sender.stdin.flush()
        events = LiveDetection(reading, recognizer, SETTINGS).events()
        first = next(events)
        assert sender.poll() is None
        sender.stdin.write(data[len(data) * 2 // 3 :])
        sender.stdin.close()
        rest = list(events)
    assert first.latency_s < 10
    assert len(rest) > 3


def cut_short(path: Path, share: float) -> Path:
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    return path


@pytest.mark.parametrize("suffix", [".ts", ".mkv", ".mp4"])
def test_a_stream_that_ends_early(tmp_path: Path, recognizer: Recognizer, suffix: str) -> None:
    path = cut_short(film(tmp_path / f"film{suffix}"), 0.6)
    stream = live(path, recognizer)
    segments = [event.what for event in stream.events() if not isinstance(event.what, Shot)]
    assert segments
    assert max(s.end_s for s in segments) <= stream.duration_s
    assert 3 < stream.duration_s < 12


@contextmanager
def half_sent(path: Path) -> Iterator[tuple[int, IO[bytes], bytes]]:
    """The end of a pipe that half of the file is sent through; what the rest is written to, and the rest."""
    data = path.read_bytes()
    reading, writing = os.pipe()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=writing) as sender:
        os.close(writing)
        assert sender.stdin is not None
        sender.stdin.write(data[: len(data) // 2])
        sender.stdin.flush()
        yield reading, sender.stdin, data[len(data) // 2 :]


def test_a_stream_that_stalls_is_over_after_the_timeout(tmp_path: Path, recognizer: Recognizer) -> None:
    with half_sent(film(tmp_path / "film.ts")) as (reading, _, _):
        stream = LiveDetection(reading, recognizer, SETTINGS, stall_s=1.0)
        begin = time.monotonic()
        assert [event.what for event in stream.events() if not isinstance(event.what, Shot)]
        assert time.monotonic() - begin < 30
        assert [w.code for w in stream.warnings] == ["stalled"]
        assert stream.warnings[0].message.startswith("no data for 1 s")


def test_a_caller_that_leaves_early_is_not_held_up(tmp_path: Path, recognizer: Recognizer) -> None:
    data = film(tmp_path / "film.ts", pieces=6).read_bytes()
    reading, writing = os.pipe()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=writing) as sender:
        os.close(writing)
        assert sender.stdin is not None
        sender.stdin.write(data[: len(data) * 2 // 3])
        sender.stdin.flush()
        events = LiveDetection(reading, recognizer, SETTINGS, stall_s=1000).events()
        next(events)
        begin = time.monotonic()
        events.close()  # type: ignore[attr-defined]
        assert time.monotonic() - begin < 10


@pytest.mark.parametrize(("how", "code"), [(signal.SIGSEGV, "decoder_crashed"), (signal.SIGSTOP, "timeout")])
def test_a_decoder_that_dies_or_hangs_is_an_answer(
    tmp_path: Path, recognizer: Recognizer, how: signal.Signals, code: str
) -> None:
    stream = live(film(tmp_path / "film.ts", pieces=8), recognizer)
    events = stream.events()
    (worker,) = decoders._working
    set_limits(Limits(stall_s=1))
    try:
        os.kill(worker.process.pid, how)
        with pytest.raises(InputError, match="stdin") as caught:
            list(events)
    finally:
        set_limits(Limits())
    assert caught.value.code == code
    assert worker.process.poll() is not None


def test_to_wait_for_data_is_no_hang_of_the_decoder(tmp_path: Path, recognizer: Recognizer) -> None:
    with half_sent(film(tmp_path / "film.ts")) as (reading, sender, rest):
        set_limits(Limits(stall_s=1))
        try:
            stream = LiveDetection(reading, recognizer, SETTINGS, stall_s=60)
            late = threading.Timer(2.5, lambda: (sender.write(rest), sender.close()))
            late.start()
            assert list(stream.events())
        finally:
            set_limits(Limits())
    assert stream.warnings == []
    assert stream.frames > 100


def test_an_index_at_the_end_is_waited_for(tmp_path: Path, recognizer: Recognizer) -> None:
    path = film(tmp_path / "front.mp4")
    late = tmp_path / "late.mp4"
    with av.open(str(path)) as source, av.open(str(late), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    assert late.read_bytes().index(b"mdat") < late.read_bytes().index(b"moov")
    assert [e.what for e in live(late, recognizer).events()] == [
        e.what for e in live(path, recognizer).events()
    ]
    with pytest.raises(InputError) as caught:
        live(cut_short(late, 0.5), recognizer)
    assert caught.value.code == "incomplete"
    assert "faststart" in caught.value.message


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "empty_stream"), (b"this is no video " * 500, "not_a_video"), (b"#EXTM3U\nx.ts\n", "not_a_video")],
)
def test_what_is_no_video(tmp_path: Path, recognizer: Recognizer, data: bytes, code: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        live(path, recognizer)
    assert caught.value.code == code
    assert "stdin" in caught.value.message


def test_one_frame_has_no_motion(tmp_path: Path, recognizer: Recognizer) -> None:
    path = tmp_path / "one.mkv"
    with VideoWriter(path, 96, 64, fps=Fraction(25)) as writer:
        writer.write(np.zeros((64, 96, 3), np.uint8))
    with pytest.raises(InputError) as caught:
        list(live(path, recognizer).events())
    assert caught.value.code == "single_image"


def test_models_that_need_flow_are_refused(tmp_path: Path) -> None:

    two = Recognizer(load_model(write_model(tmp_path / "two.safetensors", "rgb", "flow")))
    with pytest.raises(UsageError) as caught:
        LiveDetection(0, two, SETTINGS)
    assert caught.value.code == "not_for_streams"


def test_from_the_shell(
    tmp_path: Path, vpipe_executable: Path, clean_environment: dict[str, str], one_error: Callable[..., str]
) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    path = film(tmp_path / "film.mp4", pieces=2)

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        with path.open("rb") as stdin:
            command = [vpipe_executable, "detect", *arguments, "--model", model, "--min-score", "0.05"]
            return subprocess.run(
                command, stdin=stdin, capture_output=True, text=True, env=clean_environment, timeout=120
            )

    done = run("-", "--include-background", "--shots")
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    row = json.loads(run(path, "--include-background", "--shots", "--jsonl").stdout)
    keys = ("start_s", "end_s", "start_frame", "end_frame", "label", "score")
    told = [{key: event[key] for key in row["segments"][0]} for event in events if "label" in event]
    order = [[event[key] for key in keys] for event in told]
    assert sorted(order) == sorted([segment[key] for key in keys] for segment in row["segments"])
    assert [event["shot"] for event in events if "shot" in event] == row["shots"]
    assert all(event["video_id"] == "stdin" and event["latency_s"] >= 0 for event in events)
    assert f"{len(told)} segments" in done.stderr
    for refused in (("-", path), ("-", "--json"), ("-", "--anet", tmp_path / "a.json")):
        failed = run(*refused)
        assert failed.returncode == 2
        one_error(failed, "'-'")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(
    tmp_path: Path, vpipe_executable: Path, clean_environment: dict[str, str]
) -> None:
    """An hour on a pipe takes hardly more than a minute; of a file, times and scores are kept."""
    from benchmarks.remux import repeat

    model = write_model(tmp_path / "small.safetensors", "rgb")
    minute = repeat(film(tmp_path / "film.mp4", pieces=7, fps=Fraction(10)), tmp_path / "minute.mp4", 3)
    hour = repeat(minute, tmp_path / "hour.mp4", 60)

    def peak_mb(video: Path, through_a_pipe: bool) -> float:
        with video.open("rb") as stdin:
            command = [vpipe_executable, "detect", "-" if through_a_pipe else video, "--model", model, "-q"]
            subprocess.run(
                measured(tmp_path / "used", command),
                stdin=stdin, stdout=subprocess.DEVNULL, env=clean_environment, check=True,
            )  # fmt: skip
        return used(tmp_path / "used").peak_kib / 1024

    for through_a_pipe, more_mb in ((False, 200), (True, 60)):
        assert peak_mb(hour, through_a_pipe) < peak_mb(minute, through_a_pipe) + more_mb
