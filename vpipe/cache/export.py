"""Flow out of the cache in the forms that other tools read.

flo      DIR/flow_000000.flo: Middlebury's float32 format, u and v interleaved
npz      FILE.npz: flow float32 (n-1, 2, H, W) px, time_s, pts, frame_index, valid, manifest (JSON)
jpg      DIR/flow_x_00000.jpg, flow_y_00000.jpg: denseflow's names and rounding, [-bound, bound] to 0..255
png      DIR/flow_000000.png: KITTI's 16 bit form, R = 64 u + 32768, G = 64 v + 32768, B = 1 where valid
h5-gzip  FILE.h5: the datasets of the cache with HDF5's own gzip, readable without hdf5plugin
"""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import numpy.typing as npt

from vpipe.cache.files import megabytes
from vpipe.cache.sealed import FlowFile
from vpipe.cache.structure import TABLES
from vpipe.errors import EnvironmentFault, InputError
from vpipe.flow.quantise import DEFAULT_BOUND_PX
from vpipe.whole_file import whole

KINDS = ("flo", "npz", "jpg", "png", "h5-gzip")
JPEG_QUALITY = 95  # OpenCV's default, and so denseflow's
FLO_TAG = b"PIEH"  # 202021.25 as a little-endian float32
_OURS = re.compile(r"flow_\d{6,}\.(flo|png)|flow_[xy]_\d{5,}\.jpg")
_KITTI_LIMIT_PX = 511.98


def export_path(kind: str, folder: Path, video_id: str) -> Path:
    """Where `export` writes: a folder for pictures and .flo, a file otherwise."""
    suffix = {"npz": ".npz", "h5-gzip": ".h5"}.get(kind, "")
    return folder / f"{video_id}{suffix}"


def export(
    file: FlowFile,
    kind: str,
    target: Path,
    *,
    bound_px: float | None = None,
    native_scale: bool = False,
    overwrite: bool = False,
) -> None:
    """Write all flow of `file` to `target` (see `export_path`), whole or not at all.

    bound_px: of jpg; None: the file's own, or 20. native_scale: .flo in pixels of the video's own frames.
    Raises InputError output_exists, too_fast (png holds up to 511 px), EnvironmentFault; DamagedFile.
    """
    if target.exists() and not _may_replace(target, overwrite):
        way = "choose another folder" if overwrite else "--overwrite replaces what vpipe wrote"
        raise InputError("output_exists", f"{target}: exists: {way}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with whole(target) as beside:
            _write(file, kind, beside, bound_px, native_scale)
            if target.is_dir():
                shutil.rmtree(target)
    except OSError as error:
        size = megabytes(file.grid.pairs * 8 * file.grid.size[0] * file.grid.size[1])
        reason = error.strerror or str(error)
        raise EnvironmentFault(
            "unwritable_output", f"{target}: cannot be written: {reason}; as float32 it takes {size}"
        ) from error


def _write(file: FlowFile, kind: str, target: Path, bound_px: float | None, native_scale: bool) -> None:
    if kind == "npz":
        _write_npz(file, target)
    elif kind == "h5-gzip":
        _write_h5(file, target)
    else:
        target.mkdir()
        if bound_px is None:
            bound_px = file.storage.bound_px if file.storage.kind == "standard" else DEFAULT_BOUND_PX
        scaled = _native_size(file) if native_scale else None
        for pair, flow in _flows(file):
            if kind == "flo":
                (target / f"flow_{pair:06d}.flo").write_bytes(flo_bytes(rescale(flow, scaled)))
            elif kind == "jpg":
                for axis, plane in zip("xy", denseflow_codes(flow, bound_px), strict=True):
                    picture = _encode(".jpg", plane, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
                    (target / f"flow_{axis}_{pair:05d}.jpg").write_bytes(picture)
            else:
                _write_kitti(target / f"flow_{pair:06d}.png", flow, file.facts(pair)[0])


def flo_bytes(flow: npt.NDArray[np.float32]) -> bytes:
    """A Middlebury .flo file of one flow (2, H, W)."""
    _, height, width = flow.shape
    size = np.array([width, height], "<i4").tobytes()
    return FLO_TAG + size + np.ascontiguousarray(flow.transpose(1, 2, 0), "<f4").tobytes()


def denseflow_codes(flow: npt.NDArray[np.float32], bound_px: float) -> npt.NDArray[np.uint8]:
    """uint8, as denseflow rounds: [-bound, bound] linearly to 0..255, clipped."""
    codes = np.rint((flow + np.float32(bound_px)) * np.float32(255 / (2 * bound_px)))
    return codes.clip(0, 255).astype(np.uint8)


def rescale(flow: npt.NDArray[np.float32], size: tuple[int, int] | None) -> npt.NDArray[np.float32]:
    """One flow (2, H, W) on a picture of `size` (width, height), in its pixels; None: as it is."""
    if size is None:
        return flow
    _, height, width = flow.shape
    u = cv2.resize(flow[0], size, interpolation=cv2.INTER_LINEAR) * np.float32(size[0] / width)
    v = cv2.resize(flow[1], size, interpolation=cv2.INTER_LINEAR) * np.float32(size[1] / height)
    return np.stack([u, v])


def _native_size(file: FlowFile) -> tuple[int, int]:
    source = file.manifest["source"]
    return int(source["width"]), int(source["height"])


def _write_kitti(path: Path, flow: npt.NDArray[np.float32], valid: bool) -> None:
    if np.abs(flow).max() > _KITTI_LIMIT_PX:
        raise InputError("too_fast", f"{path.name}: png holds flow up to 511 px: export as flo or npz")
    codes = np.rint(flow * 64 + 32768).astype(np.uint16)
    blue = np.full(codes.shape[1:], int(valid), np.uint16)
    path.write_bytes(_encode(".png", np.dstack([blue, codes[1], codes[0]]), []))


def _write_npz(file: FlowFile, path: Path) -> None:
    width, height = file.grid.size
    head = {"descr": "<f4", "fortran_order": False, "shape": (file.grid.pairs, 2, height, width)}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open(_member("flow"), "w", force_zip64=True) as out:
            np.lib.format.write_array_header_2_0(out, head)
            for _, flow in _flows(file):
                out.write(np.ascontiguousarray(flow, "<f4").tobytes())
        small: dict[str, Any] = {name: file.index.tables[name] for name in ("time_s", "pts", "frame_index")}
        small["valid"] = file.index.tables["valid"].astype(bool)
        small["manifest"] = np.array(json.dumps(file.manifest))
        for name, array in small.items():
            with archive.open(_member(name), "w") as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def _member(name: str) -> zipfile.ZipInfo:
    """Of one date, so that equal flow gives equal bytes."""
    member = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def _write_h5(file: FlowFile, path: Path) -> None:
    width, height = file.grid.size
    with h5py.File(path, "w", libver=("v110", "v110"), locking=False) as h5:
        flow = h5.create_dataset(
            "flow",
            (file.grid.pairs, 2, height, width),
            file.storage.dtype,
            chunks=(1, 2, height, width),
            shuffle=file.storage.dtype.itemsize > 1,
            compression="gzip",
        )
        flow.attrs["scale"], flow.attrs["zero"] = (
            np.float32(file.storage.scale),
            np.float32(file.storage.zero),
        )
        for pair in range(file.grid.pairs):
            flow[pair] = file.codes(pair)
        for name in TABLES:
            if name != "flow_sha256":  # of the bytes in the cache
                h5.create_dataset(name, data=file.index.tables[name])
        h5.attrs["manifest"] = np.bytes_(json.dumps(file.manifest, sort_keys=True))


def _flows(file: FlowFile) -> Iterator[tuple[int, npt.NDArray[np.float32]]]:
    for pair in range(file.grid.pairs):
        yield pair, file.read([pair])[0]


def _encode(suffix: str, picture: npt.NDArray[Any], options: list[int]) -> bytes:
    done, coded = cv2.imencode(suffix, picture, options)
    if not done:
        raise OSError(f"{suffix} cannot hold a picture of {picture.shape}")
    return coded.tobytes()


def _may_replace(target: Path, overwrite: bool) -> bool:
    """Folders that hold anything but our own files stay."""
    if target.is_dir():
        names = os.listdir(target)
        return not names or (overwrite and all(_OURS.fullmatch(name) for name in names))
    return overwrite
