"""classify and scan on real files, with networks whose answer is known."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from toy_models import Colour, Drift, Half, flow_stream, model, rgb_stream

from vpipe.detection.detector import detect
from vpipe.errors import InputError, UsageError
from vpipe.media import FrameSource, VideoWriter
from vpipe.recognition.classify import classify
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.sampling import plan_clips
from vpipe.recognition.snippets import scan

COLOURS = ("red", "green", "blue")


@pytest.fixture
def colours() -> Recognizer:
    return Recognizer(model(rgb_stream(Colour()), labels=COLOURS, background="red"), batch_size=4)


def paint(path: Path, parts: list[tuple[int, float]], fps: Fraction = Fraction(25)) -> Path:
    """A video of plain colours: (channel, seconds) one after the other."""
    with VideoWriter(path, 64, 48, fps=fps) as writer:
        for channel, length_s in parts:
            picture = np.zeros((48, 64, 3), np.uint8)
            picture[..., channel] = 255
            for _ in range(round(length_s * fps)):
                writer.write(picture)
    return path


def test_classify_averages_over_the_video(tmp_path: Path, colours: Recognizer) -> None:
    path = paint(tmp_path / "a.mp4", [(0, 2), (1, 6)])
    found = classify(path, colours)
    assert [label for label, _ in found.top(2)] == ["green", "red"]
    assert dict(found.top(3))["green"] == pytest.approx(0.75, abs=0.1)
    assert found.probabilities.sum() == pytest.approx(1)
    assert (found.frames, found.duration_s, found.flow, found.warnings) == (200, pytest.approx(8.0), None, [])


@pytest.mark.parametrize("crops", [1, 3, 10])
@pytest.mark.parametrize("twice", [False, True])
def test_crops_and_more_clips_agree_on_plain_colours(
    tmp_path: Path, colours: Recognizer, crops: int, twice: bool
) -> None:
    path = paint(tmp_path / "a.mp4", [(2, 3)])
    found = classify(path, colours, crops=crops, twice=twice)  # type: ignore[arg-type]
    assert found.top(1)[0][0] == "blue"
    assert found.top(1)[0][1] > 0.95


def test_classify_decodes_only_the_frames_of_its_clips(
    tmp_path: Path, colours: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = paint(tmp_path / "a.mp4", [(0, 12)], fps=Fraction(30))
    asked: list[list[int]] = []
    select = FrameSource.select

    def spy(self: FrameSource, indices: list[int]) -> object:
        asked.append(list(indices))
        return select(self, indices)

    monkeypatch.setattr(FrameSource, "select", spy)
    classify(path, colours, clips=2)
    grid = FrameSource(path).grid(Fraction(8))
    plan = plan_clips(len(grid), 8, clips=2)
    assert asked == [sorted({grid[k] for start in plan.starts for k in plan.frames(start)})]
    assert len(asked[0]) == 16


@pytest.mark.parametrize("fps", [Fraction(5), Fraction(10), Fraction("23.976"), Fraction(60)])
def test_scan_finds_the_colours_in_time(tmp_path: Path, colours: Recognizer, fps: Fraction) -> None:
    path = paint(tmp_path / "a.mp4", [(0, 4), (1, 3), (0, 2), (2, 4), (0, 3)], fps=fps)
    scanned = scan(path, colours)
    found = [s for s in detect(scanned.scores) if s.score > 0.5]
    assert [s.label for s in found] == ["green", "blue"]
    slack = 0.15 + 0.5 / float(fps)
    assert (found[0].start_s, found[0].end_s) == pytest.approx((4, 7), abs=slack)
    assert (found[1].start_s, found[1].end_s) == pytest.approx((9, 13), abs=slack)
    assert abs(found[0].start_frame - 4 * fps) <= slack * fps + 1


def test_scanned_snippets_equal_clips_scored_alone(tmp_path: Path, colours: Recognizer) -> None:
    path = paint(tmp_path / "a.mp4", [(0, 1.7), (1, 1.1), (2, 2.3)])
    source = FrameSource(path, size=(16, 12))
    grid = [one.index for one in source.walk(Fraction(8)) for _ in one.ticks]
    images = {frame.index: frame.image for frame in source.select(sorted(set(grid)))}
    ready = colours.streams[0]
    scanned = scan(path, colours).scores
    assert len(scanned.centre_s) == (len(grid) - 8) // 2 + 1
    for i, probabilities in enumerate(scanned.probabilities):
        alone = np.stack([images[grid[k]] for k in range(2 * i, 2 * i + 8)])
        np.testing.assert_allclose(probabilities, ready.run(ready.normalise(alone[None]))[0], atol=1e-6)
    np.testing.assert_allclose(np.diff(scanned.start_s), 0.25)
    times = np.array([float(t) for t in source.timeline().times])[grid]
    centres = [times[2 * i : 2 * i + 8].mean() for i in range(len(scanned.centre_s))]
    np.testing.assert_allclose(scanned.centre_s, centres)  # when its frames were seen
    np.testing.assert_allclose(scanned.end_s - scanned.start_s, 1.0)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_scan_does_not_depend_on_the_batch(tmp_path: Path, batch_size: int) -> None:
    path = paint(tmp_path / "a.mp4", [(0, 2.1), (1, 2.2)])
    toy = model(rgb_stream(Colour()), labels=COLOURS)
    one, other = (scan(path, Recognizer(toy, batch_size=n)).scores for n in (7, batch_size))
    np.testing.assert_allclose(one.probabilities, other.probabilities, atol=1e-6)


def test_a_video_shorter_than_a_clip(tmp_path: Path, colours: Recognizer) -> None:
    path = paint(tmp_path / "a.mp4", [(1, 0.4)])
    found = classify(path, colours)
    assert found.top(1)[0][0] == "green"
    assert [w.code for w in found.warnings] == ["short_video"]
    scanned = scan(path, colours)
    assert [w.code for w in scanned.warnings] == ["short_video"]
    segments = detect(scanned.scores)
    assert [(s.label, s.start_s, s.start_frame, s.end_frame) for s in segments] == [("green", 0.0, 0, 10)]
    assert segments[0].end_s == pytest.approx(0.4)


def test_one_frame_has_no_motion(tmp_path: Path, colours: Recognizer) -> None:
    path = paint(tmp_path / "one.mp4", [(1, 1 / 25)])
    for use in (classify, scan):
        with pytest.raises(InputError) as caught:
            use(path, colours)  # type: ignore[operator]
        assert caught.value.code == "single_image"
        assert "one.mp4" in caught.value.message


def test_flow_is_computed_for_the_sampled_clips_only(tmp_path: Path, make_clip) -> None:  # type: ignore[no-untyped-def]
    path = make_clip(tmp_path / "right.mp4", frames=150, fps=25, size=(96, 64), step_px=(1, 0))
    recognizer = Recognizer(model(flow_stream(Drift()), labels=("left", "right")))
    cache = tmp_path / "cache"
    first = classify(path, recognizer, clips=2, cache_dir=cache)
    assert first.top(1)[0][0] == "right"
    assert first.flow is not None
    assert (first.flow.pairs, first.flow.computed, first.flow.reused) == (14, 14, 0)
    again = classify(path, recognizer, clips=2, cache_dir=cache)
    assert again.flow is not None
    assert (again.flow.computed, again.flow.reused) == (0, 14)
    np.testing.assert_array_equal(first.probabilities, again.probabilities)
    mirrored = flow_stream(Drift(), flip_labels={"left": "right", "right": "left"})
    ten = classify(
        path, Recognizer(model(mirrored, labels=("left", "right"))), clips=2, crops=10, cache_dir=cache
    )
    assert ten.top(1)[0] == ("right", pytest.approx(first.top(1)[0][1], abs=0.1))


def test_two_streams_are_fused_by_weight(tmp_path: Path, make_clip) -> None:  # type: ignore[no-untyped-def]
    path = make_clip(tmp_path / "left.mp4", frames=75, fps=25, size=(96, 64), step_px=(-1, 0))
    rgb, flow = rgb_stream(Half(), weight=1.0), flow_stream(Drift(), weight=3.0)
    cache = tmp_path / "cache"
    labels = ("left", "right")
    alone = [scan(path, Recognizer(model(s, labels=labels)), cache_dir=cache).scores for s in (rgb, flow)]
    both = scan(path, Recognizer(model(rgb, flow, labels=labels)), cache_dir=cache)
    expected = (alone[0].probabilities + 3 * alone[1].probabilities) / 4
    np.testing.assert_allclose(both.scores.probabilities, expected, atol=1e-6)
    assert both.scores.probabilities[:, 0].min() > 0.5
    assert both.flow is not None
    assert (both.flow.computed, both.flow.reused) == (0, 23)


def test_flow_of_a_video_with_one_grid_frame(tmp_path: Path, make_clip) -> None:  # type: ignore[no-untyped-def]
    """Its one flow goes from the first frame to the last: 2 px to the right at 64 px, 1 px at 32."""
    path = make_clip(tmp_path / "tiny.mp4", frames=2, fps=30)
    recognizer = Recognizer(model(flow_stream(Drift()), labels=("left", "right")))
    found = classify(path, recognizer, cache_dir=tmp_path / "cache")
    assert found.probabilities[1] > 0.6
    assert len(scan(path, recognizer, cache_dir=tmp_path / "cache").scores.centre_s) == 1


def test_streams_of_different_length_cannot_be_scanned_together(tmp_path: Path) -> None:
    path = paint(tmp_path / "a.mp4", [(0, 1)])
    odd = model(rgb_stream(Half()), flow_stream(Drift(), frames=10), labels=("left", "right"))
    with pytest.raises(UsageError) as caught:
        scan(path, Recognizer(odd))
    assert caught.value.code == "streams_differ"
