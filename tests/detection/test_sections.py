"""Sections: the same stretches, and the same segments, however the scores arrive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from simulated_scores import LABELS, layout, snippet_scores

from vpipe.detection.detector import Detector, DetectorSettings, Segment, detect, in_order
from vpipe.detection.sections import HORIZON_S, Section, Sections
from vpipe.media.shots import Cut
from vpipe.recognition.scores import ScorePart, SnippetScores


def video(seed: int, length_s: float = 150.0, cuts: int = 8) -> SnippetScores:
    """Simulated scores with cuts anywhere, some of them close together."""
    rng = np.random.default_rng(seed)
    scores = snippet_scores(rng, layout(rng, length_s), length_s)
    frames = np.sort(rng.choice(np.arange(1, int(length_s * 25)), cuts, replace=False))
    if cuts > 2:
        frames[2] = frames[1] + 1
    return replace(scores, cuts=tuple(Cut(int(f), float(f) / 25) for f in np.unique(frames)))


def parts(scores: SnippetScores, rng: np.random.Generator) -> list[ScorePart]:
    """The video in pieces of any size; cuts are known a while after they were seen, or much later."""
    borders = np.unique(rng.integers(0, len(scores.centre_s), 25)).tolist()
    pieces, told, shown, decided = [], 0, 0, 0.0
    for first, last in zip([0, *borders], [*borders, len(scores.centre_s)], strict=True):
        end = last == len(scores.centre_s)
        seen = np.inf if end else scores.centre_s[last] + 0.5
        decided = np.inf if end else max(decided, seen - rng.uniform(0.1, 4.0))
        cuts = tuple(cut for cut in scores.cuts[told:] if cut.time_s < decided)
        frames = scores.frame_times_s[shown:][scores.frame_times_s[shown:] <= seen]
        told, shown = told + len(cuts), shown + len(frames)
        pieces.append(
            ScorePart(
                scores.probabilities[first:last],
                scores.centre_s[first:last],
                frames,
                cuts,
                decided,
                scores.duration_s if end else None,
            )
        )
    return pieces


def in_pieces(scores: SnippetScores, settings: DetectorSettings, seed: int) -> list[Segment]:
    detector = Detector(
        scores.labels, scores.background, settings, step_s=scores.step_s, span_s=scores.span_s
    )
    return in_order([s for part in parts(scores, np.random.default_rng(seed)) for s in detector.add(part)])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"candidates": "both", "nms": "hard", "voting": True},
        {"candidates": "windows", "refine": False, "across_labels": True},
        {"include_background": True},
    ],
    ids=["default", "both", "windows", "background"],
)
def test_segments_do_not_depend_on_how_scores_arrive(seed: int, options: dict[str, Any]) -> None:
    scores, settings = video(seed), DetectorSettings(**options)
    whole = detect(scores, settings)
    assert whole
    for chunking in range(2):
        assert in_pieces(scores, settings, chunking) == whole


def test_nothing_is_said_twice_or_taken_back() -> None:
    scores = video(0)
    detector = Detector(
        scores.labels, scores.background, DetectorSettings(), step_s=scores.step_s, span_s=scores.span_s
    )
    said: list[Segment] = []
    for part in parts(scores, np.random.default_rng(0)):
        new = detector.add(part)
        assert not [s for s in new if s in said]
        said += new
    assert in_order(said) == detect(scores)


def sections(scores: SnippetScores) -> list[Section]:
    cutter = Sections(scores.labels, scores.background, scores.step_s)
    cuts = [cut.time_s for cut in scores.cuts]
    done = cutter.add(scores.probabilities, scores.centre_s, cuts, np.inf)
    return done + cutter.close(scores.duration_s)


@pytest.mark.parametrize("seed", range(5))
def test_sections_cover_the_video_and_end_at_every_cut(seed: int) -> None:
    scores = video(seed, 400.0)
    found = sections(scores)
    assert found[0].start_s == 0
    assert found[-1].end_s == scores.duration_s
    assert [s.start_s for s in found[1:]] == [s.end_s for s in found[:-1]]
    assert {s.end_s for s in found if s.before_cut} == {c.time_s for c in scores.cuts} | {scores.duration_s}
    np.testing.assert_array_equal(np.concatenate([s.centre_s for s in found]), scores.centre_s)
    assert max(s.end_s - s.start_s for s in found) <= HORIZON_S + 1
    for section in found:
        inside = (section.centre_s >= section.start_s) & (section.centre_s < section.end_s)
        assert inside.all()


def test_no_segment_crosses_a_cut() -> None:
    for seed in range(5):
        scores = video(seed)
        for segment in detect(scores):
            assert not [c for c in scores.cuts if segment.start_s < c.time_s < segment.end_s]


def test_a_segment_ends_at_the_cut_itself() -> None:
    scores = snippet_scores(np.random.default_rng(0), [(3, 5.0, 9.1)], 20.0, noise=0.0)
    cut = replace(scores, cuts=(Cut(228, 9.12),))
    best = max(detect(cut), key=lambda s: s.score)
    assert (best.end_s, best.end_frame) == (9.12, 228)
    assert best.start_s == pytest.approx(5.0, abs=0.13)


@pytest.mark.parametrize("label", [3, 0])
def test_what_goes_on_for_long_is_one_segment(label: int) -> None:
    """Longer than the horizon: the detector never sees all of it at once."""
    length_s = 5 * HORIZON_S
    scores = snippet_scores(np.random.default_rng(0), [(label, 10.0, length_s - 7)], length_s, noise=0.0)
    found = [s for s in detect(scores, DetectorSettings(include_background=True)) if s.score > 0.3]
    longest = max(found, key=lambda s: s.end_s - s.start_s)
    assert longest.label == LABELS[label]
    start, end = (10.0, length_s - 7) if label else (0.0, length_s)
    assert (longest.start_s, longest.end_s) == pytest.approx((start, end), abs=0.2)
    assert longest.end_frame - longest.start_frame == pytest.approx((end - start) * 25, abs=6)


def test_without_a_background_label_sections_end_at_the_horizon() -> None:
    scores = replace(video(1, 300.0, cuts=0), background=None)
    found = sections(scores)
    assert len(found) >= 300 / HORIZON_S
    assert in_pieces(scores, DetectorSettings(), 0) == detect(scores)


def test_memory_does_not_grow_with_the_video() -> None:
    scores = video(2, 120.0)
    detector = Detector(
        scores.labels, scores.background, DetectorSettings(), step_s=scores.step_s, span_s=scores.span_s
    )
    held = []
    for turn in range(12):
        part = scores.as_part()
        shift = turn * scores.duration_s
        detector.add(
            replace(
                part,
                centre_s=part.centre_s + shift,
                frame_times_s=part.frame_times_s + shift,
                cuts=tuple(Cut(c.frame + turn * 3000, c.time_s + shift) for c in part.cuts),
                decided_s=shift + scores.duration_s,
                duration_s=None,
            )
        )
        held.append(len(detector._frame_times_s) + len(detector._sections._rows))
    assert max(held[6:]) <= max(held[:6]) + HORIZON_S * 30
    assert max(held) < 2 * HORIZON_S * 30


def test_shots_shorter_than_a_snippet() -> None:
    scores = snippet_scores(np.random.default_rng(0), [(3, 2.0, 2.6)], 6.0, noise=0.0)
    cut = replace(scores, cuts=tuple(Cut(round(t * 25), t) for t in (2.0, 2.6, 2.64, 2.68)))
    found = [s for s in detect(cut) if s.score > 0.3]
    assert [(s.label, s.start_s, s.end_s) for s in found] == [(LABELS[3], 2.0, 2.6)]
