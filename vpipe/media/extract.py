"""Extraction: chosen frames, encoded while the decoder goes on; whole under their name or not at all."""

from __future__ import annotations

import os
import shutil
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

from vpipe.errors import EnvironmentFault, InputError, Warning_
from vpipe.media.first_look import display_name, read_head
from vpipe.media.frame import Frame
from vpipe.media.sinks import FolderSink, Hdf5Sink, Kind, Sink, encode_image, read_manifest
from vpipe.media.source import FrameSource
from vpipe.timeline import seconds

Naming = Literal["vpipe", "denseflow"]
DEFAULT_JPEG_QUALITY = 95
FORMAT_VERSION = 1
QUEUE_PER_THREAD = 4  # frames decoded ahead of the encoders
QUEUE_BYTES = 256 << 20  # and never more than this, so that memory stays flat on large pictures
REPORT_EVERY = 16  # frames between two calls of `progress`


@dataclass(frozen=True)
class ExtractSettings:
    """What to take and how to write it.

    kind: jpg, png or h5. quality: JPEG quality 1-100 (jpg, h5). fps: at each k / fps the last frame whose
    time is <= k / fps. every: frames whose index is a multiple. short_side_px: scale, None: as stored.
    start_s, end_s: take start <= time < end (with fps: of the time k / fps). naming: vpipe numbers
    frame_000000.jpg from 0; denseflow numbers img_00001.jpg from 1.
    """

    kind: Kind = "jpg"
    quality: int = DEFAULT_JPEG_QUALITY
    fps: Fraction | None = None
    every: int = 1
    short_side_px: int | None = None
    start_s: Fraction | None = None
    end_s: Fraction | None = None
    naming: Naming = "vpipe"

    def to_dict(self) -> dict[str, str | int | None]:
        """JSON-safe; fractions as text."""
        return {k: str(v) if isinstance(v, Fraction) else v for k, v in asdict(self).items()}

    def output_path(self, folder: Path, video_id: str) -> Path:
        """Where the result of one video goes."""
        return folder / f"{video_id}.frames.h5" if self.kind == "h5" else folder / video_id

    def file_name(self, number: int) -> str:
        """Name of the number-th picture, counted from 0."""
        if self.naming == "denseflow":
            return f"img_{number + 1:05d}.{self.kind}"
        return f"frame_{number:06d}.{self.kind}"


@dataclass(frozen=True)
class Extracted:
    """One finished output. frames, duration_s, width, height: of the video; written: pictures."""

    path: Path
    written: int
    frames: int
    duration_s: float
    width: int
    height: int
    partial: bool
    warnings: tuple[Warning_, ...]
    reused: bool = False


Progress = Callable[[int], object]


def extract(
    source_path: Path,
    folder: Path,
    video_id: str,
    settings: ExtractSettings,
    *,
    overwrite: bool = False,
    jobs: int = 1,
    progress: Progress | None = None,
) -> Extracted:
    """Write the frames of one video below `folder`.

    A finished output of the same file with the same settings is left as it is. The result appears under its
    name only when it is whole. `progress` is told how many pictures are done. Memory does not grow with the
    video.

    Raises InputError as `FrameSource` does, and output_exists where something else has the name;
    EnvironmentFault where the folder cannot be written.
    """
    target = settings.output_path(folder, video_id)
    read_head(source_path)
    claim = _claim(source_path, settings)
    try:
        found = _finished(target, settings)
        if found is not None and found["claim"] == claim and not overwrite:
            return _restore(target, found)
        if os.path.lexists(target) and not (overwrite and (found is not None or _is_empty(target))):
            raise InputError("output_exists", _why_not(target, found))
        target.parent.mkdir(parents=True, exist_ok=True)
        _clear_stale(target)
        temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            result = _write(source_path, temporary, target, settings, claim, jobs, progress)
            _put_in_place(temporary, target)
        finally:
            _remove(temporary)
        return result
    except OSError as error:
        raise EnvironmentFault(
            "unwritable_output", f"{display_name(target)}: cannot write: {error.strerror or error}"
        ) from error


def _write(
    source_path: Path,
    temporary: Path,
    target: Path,
    settings: ExtractSettings,
    claim: dict[str, Any],
    jobs: int,
    progress: Progress | None,
) -> Extracted:
    """Decode, encode in threads, write in order."""
    source = FrameSource(source_path, short_side_px=settings.short_side_px, threads=jobs)
    width, height = source.output_size
    ahead = max(2, min(QUEUE_PER_THREAD * jobs, QUEUE_BYTES // (width * height * 3)))
    sink = Hdf5Sink(temporary) if settings.kind == "h5" else FolderSink(temporary, settings.file_name)
    try:
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            waiting: deque[tuple[Frame, Future[bytes]]] = deque()
            for frame in chosen_frames(source, settings):
                waiting.append(
                    (frame, pool.submit(encode_image, frame.image, settings.kind, settings.quality))
                )
                if len(waiting) > ahead:
                    _next_to(sink, waiting, progress)
            while waiting:
                _next_to(sink, waiting, progress)
        timeline = source.timeline()
        if sink.written == 0:
            lasts = f"{float(timeline.duration_s):.2f} s"
            raise InputError(
                "nothing_taken",
                f"{display_name(source_path)}: no frame lies in the asked range; the video lasts {lasts}: "
                "change --start or --end",
            )
        result = Extracted(
            path=target,
            written=sink.written,
            frames=len(timeline),
            duration_s=seconds(timeline.duration_s),
            width=source.info.width,
            height=source.info.height,
            partial=source.partial,
            warnings=tuple(source.warnings),
        )
        sink.finish({"format": FORMAT_VERSION, "claim": claim, "result": _to_json(result)})
        return result
    finally:
        sink.close()


def chosen_frames(source: FrameSource, settings: ExtractSettings) -> Iterator[Frame]:
    """The frames that the settings ask for, in order."""
    if settings.fps is not None:
        for _, frame in source.resample(settings.fps, settings.start_s, settings.end_s):
            yield frame
    else:
        yield from source.frames(settings.start_s, settings.end_s, every=settings.every)


def _next_to(sink: Sink, waiting: deque[tuple[Frame, Future[bytes]]], progress: Progress | None) -> None:
    frame, data = waiting.popleft()
    sink.add(frame, data.result())
    if progress is not None and sink.written % REPORT_EVERY == 0:
        progress(sink.written)


def _claim(source_path: Path, settings: ExtractSettings) -> dict[str, Any]:
    """What makes two runs the same work: the file as it is now, and the settings."""
    status = source_path.stat()
    return {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "settings": settings.to_dict()}


def _finished(target: Path, settings: ExtractSettings) -> dict[str, Any] | None:
    """The manifest of a finished output; None where there is none, or something that is not ours."""
    try:
        manifest = read_manifest(target, settings.kind)
        return manifest if manifest["format"] == FORMAT_VERSION else None
    except (OSError, KeyError, ValueError, TypeError):
        return None


def _to_json(result: Extracted) -> dict[str, Any]:
    values = {k: v for k, v in vars(result).items() if k not in ("path", "warnings", "reused")}
    return {**values, "warnings": [asdict(warning) for warning in result.warnings]}


def _restore(target: Path, manifest: dict[str, Any]) -> Extracted:
    values = dict(manifest["result"])
    warnings = tuple(Warning_(**warning) for warning in values.pop("warnings"))
    return Extracted(path=target, warnings=warnings, reused=True, **values)


def _why_not(target: Path, found: dict[str, Any] | None) -> str:
    name = display_name(target)
    if found is None:
        return f"{name}: exists and was not made by vpipe extract: remove it or choose another -o"
    return f"{name}: exists, made from another file or with other settings: --overwrite replaces it"


def _is_empty(target: Path) -> bool:
    return target.is_dir() and not any(target.iterdir())


def _put_in_place(temporary: Path, target: Path) -> None:
    """Give the finished work its name; what was there goes only now, of a link the link."""
    if target.is_symlink() and target.is_dir():
        target.unlink()
    if target.is_dir():
        old = target.with_name(f".{target.name}.{os.getpid()}.old.part")
        target.rename(old)
        temporary.rename(target)
        shutil.rmtree(old)
    else:
        os.replace(temporary, target)


def _clear_stale(target: Path) -> None:
    """Remove what killed runs left beside the target."""
    for path in target.parent.glob(f".{_glob_safe(target.name)}.*.part"):
        number = path.name[len(target.name) + 2 :].split(".")[0]
        if number.isdigit() and (int(number) == os.getpid() or not _alive(int(number))):
            _remove(path)


def _glob_safe(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
