"""Feature files: `<id>.npy` with `<id>.json` beside it, or one `<id>.h5`; and plain `.npy` of other tools.

The table is (T, C) float32, a row for each snippet. What makes it usable is in the JSON (schema
`vpipe.features/1`): window, stride, fps and offset in frames of the grid, the times of every snippet from the
PTS of the video's frames, those PTS in runs, and the model with its hash. HDF5 holds the table as `features`,
the times as `start_s`, `centre_s`, `end_s`, and all else as the text `json`.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from vpipe.documents import read_document
from vpipe.errors import EnvironmentFault, InputError

SCHEMA = "vpipe.features/1"
TIMES = ("start_s", "centre_s", "end_s")
MOST_FRAMES = 50_000_000  # that a file may claim for its video: three weeks at 25 a second
SUFFIXES = (".npy", ".h5")


@dataclass(frozen=True)
class Spacing:
    """How snippets lie on frames: the centre of snippet i is frame offset + i * stride of a grid at `fps`."""

    window: float  # frames
    stride: float
    fps: float
    offset: float

    @property
    def stride_s(self) -> float:
        return self.stride / self.fps

    def like(self, other: Spacing) -> bool:
        """Whether a head that learnt on one may be given the other: same frames, or same seconds."""
        frames = self.window == other.window and self.stride == other.stride
        mine, theirs = (np.array([s.window, s.stride]) / s.fps for s in (self, other))
        return frames or bool(np.allclose(mine, theirs, rtol=0.02, atol=0))

    def __str__(self) -> str:
        return f"window {self.window:g}, stride {self.stride:g} at {self.fps:.4g} fps"


@dataclass(frozen=True)
class Features:
    """The snippet features of one video with their times in seconds."""

    table: np.ndarray  # (T, C) float32, finite
    spacing: Spacing
    start_s: np.ndarray  # (T,) float64
    centre_s: np.ndarray  # (T,) float64, never falling
    end_s: np.ndarray  # (T,) float64
    duration_s: float  # of the video; where nobody says it, the end of the last snippet
    frame_times_s: np.ndarray  # (N,) float64
    model: dict[str, Any] | None  # name, hash, labels, background; None for files of other tools
    path: Path


def feature_files(folder: Path) -> dict[str, Path]:
    """The feature files below a folder by video id, sorted. Raises InputError `no_features`, `two_files`."""
    found: dict[str, Path] = {}
    paths = [path for path in sorted(folder.rglob("*")) if path.suffix in SUFFIXES and path.is_file()]
    for path in paths:
        video = path.relative_to(folder).with_suffix("").as_posix()
        if path.name.startswith("."):
            continue
        if video in found:
            raise InputError(
                "two_files", f"{folder}: {video} is there as .npy and as .h5: leave one of the two"
            )
        found[video] = path
    if not found:
        raise InputError(
            "no_features",
            f"{folder}: no .npy or .h5 below it; make some: vpipe features INPUT... -o {folder}",
        )
    return found


def read_features(path: Path, spacing: Spacing | None = None) -> Features:
    """One feature file; `spacing` is for files that do not say theirs, and must not contradict those that do.

    Raises InputError: `not_found`, `bad_features` (damaged, not a table, not finite), `no_spacing`,
    `other_spacing`.
    """
    table, description = _read_h5(path) if path.suffix == ".h5" else _read_npy(path)
    table = _checked(path, table)
    if description is None:
        if spacing is None:
            raise InputError(
                "no_spacing",
                f"{path}: no {path.stem}.json beside it says when its snippets are: "
                "give --stride, --window and --fps (and --offset)",
            )
        return _plain(path, table, spacing)
    try:
        found = _described(path, table, description)
    except (KeyError, TypeError, ValueError, OverflowError, ZeroDivisionError) as error:
        raise _bad(path, f"its JSON is not complete ({type(error).__name__}: {error})") from None
    if spacing is not None and not found.spacing.like(spacing):
        raise InputError(
            "other_spacing",
            f"{path}: has {found.spacing}, not {spacing}: leave the options out for this file",
        )
    return found


def spacing_of(
    window: float | None, stride: float | None, fps: float | None, offset: float | None
) -> Spacing | None:
    """The spacing that options say; offset is half a window unless it is given. None where none is given.

    Raises InputError `bad_spacing`.
    """
    if window is None and stride is None and fps is None and offset is None:
        return None
    if window is None or stride is None or fps is None:
        raise InputError("bad_spacing", "--stride, --window and --fps go together: give all three")
    given = Spacing(window, stride, fps, window / 2 if offset is None else offset)
    good = all(math.isfinite(n) for n in (window, stride, fps, given.offset)) and min(window, stride, fps) > 0
    if not good or given.offset < 0:
        raise InputError("bad_spacing", "--stride, --window and --fps are above 0, --offset at least 0")
    return given


def write_features(target: Path, table: np.ndarray, description: dict[str, Any]) -> None:
    """Writes `target` (.npy with its .json, or .h5), beside and renamed when all is written, the table last.

    `description` gets the schema, the shape and the digest of the table. Raises EnvironmentFault.
    """
    table = np.ascontiguousarray(table, dtype=np.float32)
    document = {
        "schema": SCHEMA,
        **description,
        "snippets": len(table),
        "channels": table.shape[1],
        "digest": _digest(table),
    }
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".h5":
            _beside(target, lambda part: _write_h5(part, table, document))
        else:
            text = json.dumps(document, ensure_ascii=False, allow_nan=False, indent=1) + "\n"

            def both(part: Path) -> None:
                _write_npy(part, table)  # the larger one first: a JSON without its table is of no use
                _beside(target.with_suffix(".json"), lambda notes: notes.write_text(text, encoding="utf-8"))

            _beside(target, both)
    except OSError as error:
        raise EnvironmentFault(
            "unwritable_output", f"{target}: cannot be written: {error.strerror or error}; choose another -o"
        ) from None


def read_description(target: Path) -> dict[str, Any] | None:
    """The JSON of a whole feature file of ours; None where there is none, or it is not of its table."""
    try:
        table, description = _read_h5(target) if target.suffix == ".h5" else _read_npy(target)
        if description is None or description["digest"] != _digest(np.asarray(table, dtype=np.float32)):
            return None
        return description
    except (InputError, KeyError, TypeError, ValueError):
        return None


def pts_runs(ticks: Any) -> list[list[int]]:
    """Ticks of frames, the first 0, as [how many steps, ticks of each]: one run for a constant rate."""
    steps = np.diff(np.asarray(ticks, dtype=np.int64))
    edges = np.flatnonzero(np.r_[True, steps[1:] != steps[:-1]]) if len(steps) else np.zeros(0, np.int64)
    return [
        [int(count), int(steps[at])]
        for at, count in zip(edges, np.diff(np.r_[edges, len(steps)]), strict=True)
    ]


def _described(path: Path, table: np.ndarray, description: dict[str, Any]) -> Features:
    if description["schema"] != SCHEMA:
        raise ValueError(f"schema is not {SCHEMA}")
    if description["snippets"] != len(table) or description["channels"] != table.shape[1]:
        raise ValueError(
            f"it describes {description['snippets']} x {description['channels']}, "
            f"the table is {len(table)} x {table.shape[1]}"
        )
    if description["digest"] != _digest(table):
        raise ValueError("its digest is that of another table")
    when = {name: np.asarray(description[name], dtype=np.float64) for name in TIMES}
    if any(t.shape != (len(table),) or not np.isfinite(t).all() for t in when.values()):
        raise ValueError("its times are not one finite number for each snippet")
    if (np.diff(when["centre_s"]) < 0).any():  # equal where a slow video shows the same frames for long
        raise ValueError("its centres do not rise")
    runs = description["frame_pts"]["runs"]
    unit = Fraction(description["frame_pts"]["unit"])
    if not 0 <= sum(count for count, _ in runs) <= MOST_FRAMES or any(c < 0 or s < 0 for c, s in runs):
        raise ValueError("its frame_pts are not runs of steps")
    steps = np.repeat(
        np.array([step for _, step in runs], np.int64), np.array([count for count, _ in runs], np.int64)
    )
    frame_times = np.r_[0, np.cumsum(steps)] * float(unit)
    spacing = Spacing(*(float(description[key]) for key in ("window", "stride", "fps", "offset")))
    duration_s = float(description["duration_s"])
    values = (spacing.window, spacing.stride, spacing.fps, duration_s)
    if not all(math.isfinite(v) and v > 0 for v in values):
        raise ValueError("window, stride, fps and duration_s are above 0")
    model = description["model"]
    if not isinstance(model, dict) or not isinstance(model.get("hash"), str):
        raise ValueError("it does not name its model")
    return Features(
        table,
        spacing,
        when["start_s"],
        when["centre_s"],
        when["end_s"],
        duration_s,
        frame_times,
        model,
        path,
    )


def _plain(path: Path, table: np.ndarray, spacing: Spacing) -> Features:
    """Times of a table without a JSON, by its spacing alone."""
    centre = (spacing.offset + np.arange(len(table)) * spacing.stride) / spacing.fps
    half = spacing.window / 2 / spacing.fps
    start, end = np.maximum(centre - half, 0.0), centre + half
    frames = max(1, round(min(float(end[-1]) * spacing.fps, MOST_FRAMES)))
    return Features(
        table,
        spacing,
        start,
        centre,
        end,
        float(end[-1]),
        np.arange(frames) / spacing.fps,
        None,
        path,
    )


def _read_npy(path: Path) -> tuple[np.ndarray, dict[str, Any] | None]:
    try:
        # Mapped, so that nothing is allocated from what a header claims.
        table = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise InputError("not_found", f"{path}: no such file") from None
    except (OSError, ValueError, EOFError, SyntaxError, TypeError) as error:
        raise _bad(path, f"it is not a whole .npy file ({error})") from None
    beside = path.with_suffix(".json")
    if not beside.exists():
        return table, None
    try:
        description = json.loads(read_document(beside))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad(path, f"{beside.name} beside it cannot be read ({error})") from None
    if not isinstance(description, dict):
        raise _bad(path, f"{beside.name} beside it is not an object")
    return table, description if description.get("schema", "").startswith("vpipe.") else None


def _read_h5(path: Path) -> tuple[np.ndarray, dict[str, Any] | None]:
    if not path.exists():
        raise InputError("not_found", f"{path}: no such file")
    try:
        with h5py.File(path, "r") as file:
            table = np.asarray(file["features"])
            description = json.loads(file["json"][()])
            return table, {**description, **{name: file[name][()] for name in TIMES}}
    except (OSError, KeyError, ValueError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        raise _bad(path, f"it is not a feature file of `vpipe features --as h5` ({error})") from None


def _checked(path: Path, table: np.ndarray) -> np.ndarray:
    """(T, C) float32 of what was read."""
    if table.dtype.kind not in "fiu":
        raise _bad(path, f"it holds {table.dtype}, not numbers")
    shape = table.shape
    if table.ndim != 2:
        table = table.reshape([n for n in shape if n != 1] or [1])
    if table.ndim != 2 or 0 in table.shape:
        raise _bad(path, f"its shape is {shape}, not snippets x channels")
    table = np.array(table, dtype=np.float32, order="C")  # in memory, and ours to write to
    if not (finite := np.isfinite(table).all(axis=1)).all():
        raise _bad(path, f"{int((~finite).sum())} of its {len(table)} snippets are not finite numbers")
    return table


def _write_npy(part: Path, table: np.ndarray) -> None:
    header = np.lib.format.header_data_from_array_1_0(table)
    with part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.write(table.data)  # `np.save` would not say why it fails


def _write_h5(part: Path, table: np.ndarray, document: dict[str, Any]) -> None:
    rest = {key: value for key, value in document.items() if key not in TIMES}
    # In memory first: on a full disk HDF5 ends the process when it closes a file.
    image = io.BytesIO()
    with h5py.File(image, "w") as file:
        file.create_dataset("features", data=table, track_times=False)
        for name in TIMES:
            file.create_dataset(name, data=np.asarray(document[name], np.float64), track_times=False)
        file.create_dataset("json", data=json.dumps(rest, ensure_ascii=False), track_times=False)
    part.write_bytes(image.getbuffer())


def _beside(target: Path, write: Callable[[Path], object]) -> None:
    """`write` fills a file beside the target, which then takes its name."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _digest(table: np.ndarray) -> str:
    found = hashlib.sha256(f"{table.shape}".encode())
    found.update(np.ascontiguousarray(table).tobytes())
    return found.hexdigest()


def _bad(path: Path, why: str) -> InputError:
    return InputError("bad_features", f"{path}: not usable features: {why}; make it again")
