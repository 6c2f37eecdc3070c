"""Flow that was computed and rounded elsewhere, into the cache: denseflow's JPEG pairs, and .flo files.

It is an entry of its own, never taken for flow that vpipe computed: its key holds the digest of its files,
and the manifest's `provenance` says where it is from and that it is lossy.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from vpipe.cache.claims import claimed
from vpipe.cache.export import FLO_TAG
from vpipe.cache.files import cache_faults
from vpipe.cache.keys import DECODE_RECIPE, canonical_json, source_digest
from vpipe.cache.mending import open_sealed, tidy
from vpipe.cache.plan import open_source, plan_grid
from vpipe.cache.records import Record, encode
from vpipe.cache.slots import Slot
from vpipe.cache.writing import write_sealed
from vpipe.errors import InputError
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage
from vpipe.limits import MAX_PIXELS
from vpipe.whole_file import whole

_JPEG = re.compile(r"flow_([xy])_(\d+)\.jpg")
_FLO = re.compile(r".*?(\d+)\.flo")
_UNKNOWN_PX = 1e9  # Middlebury writes larger numbers where the flow is not known


def import_flow(
    root: Path, folder: Path, video: Path, grid_of: FlowParams, storage: Storage, *, bound_px: float
) -> Path:
    """Put the flow in `folder` into the cache as that of `video`; the path of its sealed file.

    grid_of: its fps and step say between which frames. bound_px: what 0 and 255 of the JPEGs mean.
    Raises InputError (no_flow, flow_count, damaged_flow, those of reading the video), EnvironmentFault.
    """
    kind, files = _files(folder)
    digest = source_digest(video, root / "sources")
    grid = plan_grid(open_source(video, grid_of, threads=1), grid_of, digest)
    if grid.pairs != len(files):
        raise InputError(
            "flow_count",
            f"{folder}: holds {len(files)} flows, but the video has {grid.pairs} on this grid of frames: "
            "say with --fps and --step between which frames they are",
        )
    content = hashlib.sha256()
    for paths in files:
        for path in paths:
            content.update(hashlib.sha256(path.read_bytes()).digest())
    provenance: dict[str, Any] = {"from": kind, "lossy": True, "sha256": content.hexdigest()}
    if kind == "denseflow-jpg":
        provenance["bound_px"] = float(bound_px)
    frames = {"step": grid_of.step, "fps": None if grid_of.fps is None else str(grid_of.fps)}
    flow = {"method": "imported", "preset": None, "short_side_px": None, **frames}
    facts = {"decode": DECODE_RECIPE, "flow": flow, "provenance": provenance}
    key = hashlib.sha256(canonical_json({"source": digest, **facts}).encode()).hexdigest()
    height, width = _load(kind, files[0], bound_px).shape[1:]
    slot, grid = Slot(root, key, storage.name), replace(grid, size=(width, height))

    def records() -> Iterator[Record]:
        for pair, paths in enumerate(files):
            loaded = _load(kind, paths, bound_px)
            if loaded.shape != (2, height, width):
                raise InputError("damaged_flow", f"{paths[0]}: its size differs from that of the first flow")
            yield encode(pair, loaded, storage, grid.size)

    with claimed(slot.work, faults=cache_faults(root)) as claim, cache_faults(root):
        tidy(slot)
        if open_sealed(slot) is not None:
            return slot.sealed
        beside = slot.work / f"import.{claim.token}.tmp"
        recipe = {"key": key, **facts, "engine": {"id": "imported", "version": content.hexdigest()[:16]}}
        volatile = {
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": socket.gethostname(),
            "file": video.name.encode("utf-8", "backslashreplace").decode(),
        }
        with whole(slot.sealed, beside=beside, lasting=True):
            write_sealed(beside, records(), grid, storage, recipe, volatile)
            claim.check()
    return slot.sealed


def _files(folder: Path) -> tuple[str, list[tuple[Path, ...]]]:
    """The kind of flow in a folder, and the files of each flow in order. Raises InputError."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise InputError("no_flow", f"{folder}: {error.strerror or error}") from None
    planes: dict[str, dict[int, Path]] = {"x": {}, "y": {}, "flo": {}}
    for name in names:
        if match := _JPEG.fullmatch(name):
            planes[match[1]][int(match[2])] = folder / name
        elif match := _FLO.fullmatch(name):
            planes["flo"][int(match[1])] = folder / name
    x, y, flo = planes["x"], planes["y"], planes["flo"]
    if bool(flo) == bool(x or y):
        raise InputError(
            "no_flow",
            f"{folder}: needs either flow_x_00000.jpg and flow_y_00000.jpg and so on, or numbered .flo files",
        )
    numbers = sorted(flo or x)
    if (not flo and set(x) != set(y)) or numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise InputError("no_flow", f"{folder}: some numbers are missing, or an x without its y")
    if flo:
        return "flo", [(flo[number],) for number in numbers]
    return "denseflow-jpg", [(x[number], y[number]) for number in numbers]


def _load(kind: str, paths: tuple[Path, ...], bound_px: float) -> npt.NDArray[np.float32]:
    """One flow, float32 (2, H, W), px. Raises InputError damaged_flow."""
    try:
        if kind == "flo":
            return read_flo(paths[0])
        planes = [cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_GRAYSCALE) for path in paths]
    except (OSError, cv2.error) as error:
        raise InputError("damaged_flow", f"{paths[0]}: cannot be read: {error}") from None
    u, v = planes
    if u is None or v is None or u.shape != v.shape:
        raise InputError(
            "damaged_flow", f"{paths[0]}: it and its partner are no pair of pictures of one size"
        )
    codes = np.stack([u, v]).astype(np.float32)
    return codes * np.float32(2 * bound_px / 255) - np.float32(bound_px)


def read_flo(path: Path) -> npt.NDArray[np.float32]:
    """One .flo file, float32 (2, H, W), px; 0 where the flow is not known. Raises InputError damaged_flow."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(12)
        width, height = (int(n) for n in np.frombuffer(head[4:], "<i4")) if len(head) == 12 else (0, 0)
        fits = width > 0 and height > 0 and width * height <= MAX_PIXELS and size == 12 + 8 * width * height
        if head[:4] != FLO_TAG or not fits:
            raise InputError("damaged_flow", f"{path}: not a whole .flo file")
        flow = np.frombuffer(file.read(), "<f4").reshape(height, width, 2).transpose(2, 0, 1)
    known = np.isfinite(flow) & (np.abs(flow) < _UNKNOWN_PX)
    return np.ascontiguousarray(np.where(known, flow, 0), np.float32)
