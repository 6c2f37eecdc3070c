"""`vpipe detect --features DIR --head HEAD`: segments from feature files alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpipe.cli.options import RunOptions
from vpipe.cli.run import Item, run_batch
from vpipe.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from vpipe.detection.detector import DetectorSettings
    from vpipe.detection.heads.head import Head
    from vpipe.detection.heads.run import HeadResult


@dataclass(frozen=True)
class GivenFeatures:
    """The options that say where features are, and how snippets lie where the files do not say it."""

    folder: Path | None
    stride: float | None = None
    window: float | None = None
    fps: float | None = None
    offset: float | None = None

    def check(self, options: RunOptions, head: str | None, *, shots: bool) -> None:
        """Raises UsageError where options do not go together."""
        if self.folder is None:
            if not all(value is None for value in (self.stride, self.window, self.fps, self.offset)):
                raise UsageError(
                    "bad_flags",
                    "--stride, --window, --fps and --offset say how --features DIR was made: give it",
                )
            return
        if options.inputs or options.from_file is not None:
            raise UsageError("bad_flags", "--features DIR takes its videos from DIR: leave INPUT out")
        if shots:
            raise UsageError("bad_flags", "--shots: features do not know the cuts: give the videos as INPUT")
        if head is None:
            raise UsageError(
                "no_head",
                "--features DIR needs --head HEAD: a packaged one or what `vpipe train --head` wrote",
            )
        if not self.folder.is_dir():
            raise UsageError("no_features", f"--features {self.folder}: no such folder")


def detect_from_features(
    options: RunOptions,
    given: GivenFeatures,
    head: Head,
    settings: DetectorSettings,
    *,
    text: Callable[[dict[str, Any]], str],
    done: list[dict[str, Any]],
) -> None:
    """Rows for all feature files of a folder; `done` hears of segments by video. Ends in typer.Exit."""
    from vpipe.detection.heads.run import detect_with_head
    from vpipe.errors import InputError
    from vpipe.recognition.features_file import feature_files, read_features, spacing_of

    assert given.folder is not None
    try:
        spacing = spacing_of(given.window, given.stride, given.fps, given.offset)
        files = feature_files(given.folder)
    except InputError as fault:  # of an option, before any input
        raise UsageError(fault.code, fault.message) from None
    videos = {str(path): video for video, path in files.items()}

    def work(item: Item) -> dict[str, Any]:
        features = read_features(item.path, spacing)
        found = detect_with_head(head, features, settings)
        row = {
            "video_id": videos[str(item.path)],
            "duration_s": round(features.duration_s, 6),
            "frames": len(features.frame_times_s),
            **head_rows(found),
        }
        done.append({"video_id": row["video_id"], "segments": row["segments"]})
        return row

    run_batch("detect", replace(options, inputs=tuple(videos)), work, text=text, model=head.summary())


def head_rows(found: HeadResult) -> dict[str, Any]:
    """What a head finds, as keys of a row: `frame_labels` is [[label, frames], ...], as `eval frames` reads
    it."""
    row: dict[str, Any] = {"segments": [segment.to_json() for segment in found.segments]}
    if found.frame_labels is not None:
        row["frame_labels"] = [list(run) for run in found.frame_labels]
    return row
