"""The features of one video as a file, made once."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpipe.errors import InputError, Warning_
from vpipe.recognition.clips import Progress
from vpipe.recognition.features import FeatureRecognizer, split_features
from vpipe.recognition.features_file import Features, pts_runs, read_description, write_features
from vpipe.recognition.grid import SnippetGrid
from vpipe.recognition.snippets import ScannedVideo, scan
from vpipe.timeline import seconds


@dataclass(frozen=True)
class ExtractedFeatures:
    """A finished feature file; `description` is its JSON."""

    path: Path
    description: dict[str, Any]
    warnings: list[Warning_]
    reused: bool

    def to_json(self) -> dict[str, Any]:
        """The row that `vpipe features` prints."""
        keys = ("duration_s", "frames", "width", "height", "snippets", "channels")
        return {key: self.description[key] for key in keys} | {
            "warnings": self.warnings,
            "path": self.path,
            "reused": self.reused,
        }


def extract_features(
    source: Path,
    target: Path,
    recognizer: FeatureRecognizer,
    grid: SnippetGrid,
    *,
    dtype: str,
    video_id: str,
    overwrite: bool = False,
    cache_dir: Path | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> ExtractedFeatures:
    """Writes the features of the video `source` to `target` (.npy or .h5) unless they are there.

    Raises InputError as `scan` does, and `output_exists` where `target` is something else;
    EnvironmentFault where it cannot be written.
    """
    claim = _claim(source, recognizer, grid, dtype)
    if os.path.lexists(target) and not overwrite:
        found = read_description(target)
        if found is None or found.get("made_from") != claim:
            raise InputError(
                "output_exists",
                f"{target}: exists, of another video or model or with other settings, or is damaged: "
                "--overwrite replaces it",
            )
        return ExtractedFeatures(target, found, [Warning_(**w) for w in found["warnings"]], True)
    video = scan(source, recognizer, grid=grid, cache_dir=cache_dir, jobs=jobs, progress=progress)
    _, features = split_features(video.scores, source, recognizer, grid, video.info.rate)
    description = _description(video, features, recognizer, grid, video_id, claim)
    write_features(target, features.table, description)
    description |= {"snippets": len(features.table), "channels": features.table.shape[1]}
    return ExtractedFeatures(target, description, video.warnings, False)


def _claim(source: Path, recognizer: FeatureRecognizer, grid: SnippetGrid, dtype: str) -> dict[str, Any]:
    """What makes two runs the same work: the file as it is now, the model, the grid, the precision."""
    try:
        status = source.stat()
        size, changed = status.st_size, status.st_mtime_ns
    except OSError:
        size, changed = 0, 0  # what is wrong with the file is said when it is opened
    return {
        "bytes": size,
        "mtime_ns": changed,
        "model": recognizer.model.hash,
        "window": grid.window,
        "stride": grid.stride,
        "dtype": dtype,
    }


def _description(
    video: ScannedVideo,
    features: Features,
    recognizer: FeatureRecognizer,
    grid: SnippetGrid,
    video_id: str,
    claim: dict[str, Any],
) -> dict[str, Any]:
    streams = [{"modality": name, "channels": size} for name, size in recognizer.channels.items()]
    times = video.timeline.times
    return {
        "video_id": video_id,
        "model": {**(features.model or {}), "streams": streams},
        "grid": "frames" if grid.fps is None else "fps",
        "window": grid.window,
        "stride": grid.stride,
        "fps": features.spacing.fps,
        "offset": features.spacing.offset,
        "duration_s": seconds(video.duration_s),
        "frames": video.frames,
        "width": video.info.width,
        "height": video.info.height,
        "start_s": [seconds(t) for t in features.start_s.tolist()],
        "centre_s": [seconds(t) for t in features.centre_s.tolist()],
        "end_s": [seconds(t) for t in features.end_s.tolist()],
        "frame_pts": {"unit": str(times.unit), "runs": pts_runs(times.ticks)},
        "warnings": [{"code": w.code, "message": w.message, "numbers": w.numbers} for w in video.warnings],
        "made_from": claim,
    }
