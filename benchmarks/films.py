"""Films with cuts at known frames, out of the clips beside the checkout (../shared/clips)."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from vpipe.media import FrameSource, VideoWriter
from vpipe.media.shots import ShotDetector

SIZE = (340, 256)  # px
LARGE = (1020, 768)  # px: from here on detection leaves frames out
UNAWARE = {"x264-params": "scenecut=0:b-adapt=0"}  # an encoder that does not look for cuts
GRID = Fraction(8)  # pictures a second, of packaged models
FRAMES = (12, 90)  # of a piece
TOLERANCE = 2  # frames


def read_clips(folder: Path) -> dict[str, tuple[list[np.ndarray], list[int]]]:
    """Pictures of each clip, stretched to SIZE, and its own cuts; test patterns are left out."""
    notes = json.loads((folder / "ground_truth.json").read_text())
    clips = {}
    for name, note in sorted(notes.items()):
        if "test pattern" not in note["scene"]:
            pictures = [frame.image for frame in FrameSource(folder / name, size=SIZE).frames()]
            clips[name] = pictures, [cut for cut, _ in note["cuts"]]
    return clips


def make_film(
    clips: dict[str, tuple[list[np.ndarray], list[int]]],
    path: Path,
    seed: int,
    pieces: int,
    fps: Fraction,
    size: tuple[int, int],
    options: dict[str, str],
) -> list[int]:
    """Pieces of clips one after the other; neighbours come from different films. Returns the cuts."""
    rng = np.random.default_rng(seed)
    cuts, frames, last = [], 0, ""
    with VideoWriter(path, *size, fps=fps, crf=23, options=options) as writer:
        for _ in range(pieces):
            # Two of the clips are the same film in two encodings.
            name = str(rng.choice([n for n in clips if n[:12] != last[:12]]))
            pictures, own = clips[name]
            length = min(int(rng.integers(*FRAMES)), len(pictures))
            first = int(rng.integers(len(pictures) - length + 1))
            cuts += [frames] if frames else []
            cuts += [frames + cut - first for cut in own if first < cut < first + length]
            for picture in pictures[first : first + length]:
                if size != SIZE:
                    picture = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
                writer.write(np.ascontiguousarray(picture))
            frames, last = frames + length, name
    return cuts


def match(found: list[int], cuts: list[int]) -> tuple[int, int, int]:
    """Right, wrong and missed cuts; each known cut is found once, at most TOLERANCE frames off."""
    left = list(found)
    right = 0
    for cut in cuts:
        near = [f for f in left if abs(f - cut) <= TOLERANCE]
        if near:
            left.remove(min(near, key=lambda f: abs(f - cut)))
            right += 1
    return right, len(left), len(cuts) - right


def shot_f1(
    folder: Path, work: Path, films: int = 4, pieces: int = 25, seed: int = 1
) -> dict[str, float | int | dict[str, float | int]]:
    """F1 of cuts over some films of the clips in `folder`; and of the same, so large that frames are left
    out, with x264's default options and with cuts that the encoder does not look for."""
    cv2.setNumThreads(1)
    clips = read_clips(folder)

    def score(size: tuple[int, int], options: dict[str, str]) -> dict[str, float | int]:
        total, seen, frames = np.zeros(3, dtype=int), 0, 0
        for number in range(films):
            path, fps = work / f"film_{number}.mp4", Fraction((25, 30)[number % 2])
            cuts = make_film(clips, path, seed + number, pieces, fps, size, options)
            found, some, all_ = _cuts(FrameSource(path, size=(96, 96)))
            total += match(found, cuts)
            seen, frames = seen + some, frames + all_
            path.unlink()
        right, wrong, missed = (int(n) for n in total)
        return {
            "films": films,
            "cuts": right + missed,
            "wrong": wrong,
            "missed": missed,
            "f1": round(2 * right / (2 * right + wrong + missed), 4),
            "frames_decoded": round(seen / frames, 3),
        }

    return {
        **score(SIZE, {}),
        "large": score(LARGE, {}),
        "large_unaware_encoder": score(LARGE, UNAWARE),
    }


def _cuts(source: FrameSource) -> tuple[list[int], int, int]:
    """The cuts as detection finds them, and how many frames were decoded, of how many."""
    shots, found, seen, one = ShotDetector(), [], 0, None
    for one in source.walk(GRID):
        if one.small is not None:
            found += shots.add(one.small, one.index, float(one.time_s))
            seen += 1
    assert one is not None
    return [cut.frame for cut in found + shots.close()], seen, one.index + 1
