"""Frames of videos, decoded once and kept small, so that later epochs and later runs never decode.

One file for each video and way of preparing it, named by the content of both:

    <cache>/clips/ab/<key>.clips      MAGIC, the frames one after the other, index, its length and SHA-256

It is written beside and renamed, so what is under its name is whole. Every frame has a checksum, which each
read checks; a file that does not hold what was written is made again. The folder has a bound: what was not
used for longest goes first, and a run that needs more than the bound is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpipe.cache.files import megabytes, write_atomic
from vpipe.cache.keys import canonical_json, source_digest
from vpipe.errors import EnvironmentFault

MAGIC = b"vpipe clips 1\n"
DEFAULT_BOUND = 20 * 10**9  # bytes
_TAIL = struct.Struct("<Q32s")  # length of the index, its SHA-256
_ABANDONED_S = 3600.0  # an unfinished file that nobody has written to for so long is nobody's


class Damaged(Exception):
    """A file of the store is missing or is not what was written."""


@dataclass(frozen=True)
class Contents:
    """What a video gives: facts for the index, and its frames, each as bytes, with its time in seconds."""

    facts: dict[str, Any]
    frames: Iterator[tuple[float, bytes]]
    after: Callable[[], dict[str, Any]]  # facts that are known once all frames are there


class StoredVideo:
    """The frames of one video in the store. times_s (n,) float64; facts as they were given."""

    def __init__(self, path: Path) -> None:
        """Raises Damaged."""
        self.path = path
        try:
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - _TAIL.size))
                length, digest = _TAIL.unpack(file.read(_TAIL.size))
                begin = size - _TAIL.size - length
                if begin < len(MAGIC):
                    raise Damaged(f"{path}: cut off")
                file.seek(begin)
                data = file.read(length)
            if hashlib.sha256(data).digest() != digest:
                raise Damaged(f"{path}: its index is damaged")
            index = json.loads(data)
        except (OSError, struct.error, ValueError) as error:
            raise Damaged(f"{path}: {error}") from None
        self.facts: dict[str, Any] = index["facts"]
        self.times_s = np.array(index["times_s"], dtype=np.float64)
        self._ends = np.array([len(MAGIC), *index["ends"]], dtype=np.int64)
        self._sums = index["crc32"]

    def __len__(self) -> int:
        return len(self.times_s)

    def read(self, indices: Sequence[int]) -> list[bytes]:
        """The bytes of these frames. Raises Damaged."""
        distinct = sorted(set(indices))
        found: dict[int, bytes] = {}
        try:
            with self.path.open("rb") as file:
                for index in distinct:
                    file.seek(self._ends[index])
                    found[index] = file.read(self._ends[index + 1] - self._ends[index])
        except OSError as error:
            raise Damaged(f"{self.path}: {error}") from None
        for index, data in found.items():
            if zlib.crc32(data) != self._sums[index]:
                raise Damaged(f"{self.path}: frame {index} is damaged")
        return [found[index] for index in indices]

    def verify(self) -> None:
        """Reads everything. Raises Damaged."""
        self.read(range(len(self)))


class ClipStore:
    """The store below the cache folder `root`, which holds at most `bound` bytes."""

    def __init__(self, root: Path, bound: int = DEFAULT_BOUND) -> None:
        self.root, self.folder, self.bound = root, root / "clips", bound
        self._mine: set[Path] = set()  # what this run uses stays

    def digest(self, video: Path) -> str:
        """SHA-256 of a video file, remembered as the flow cache does. Raises InputError."""
        return source_digest(video, self.root / "sources")

    def place(self, digest: str, recipe: dict[str, Any]) -> Path:
        """Where the frames of the video with this digest, prepared by this recipe, are or will be."""
        key = hashlib.sha256(canonical_json({"source": digest, "recipe": recipe}).encode()).hexdigest()
        return self.folder / key[:2] / f"{key}.clips"

    def get(self, path: Path, make: Callable[[], Contents], *, verify: bool = False) -> StoredVideo:
        """The stored video at `path`; made where it is not there or damaged.

        Raises EnvironmentFault: `clip_store_full`, `clip_store_unwritable`; and what `make` raises.
        """
        self._mine.add(path)
        try:
            stored = StoredVideo(path)
            if verify:
                stored.verify()
            os.utime(path)
            return stored
        except (Damaged, PermissionError):
            pass
        self._write(path, make)
        return StoredVideo(path)

    def _write(self, path: Path, make: Callable[[], Contents]) -> None:
        beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(path, self._pieces(make()), beside=beside)
            self._make_room(0)
        except EnvironmentFault:
            path.unlink(missing_ok=True)  # too much, as it turned out
            raise
        except OSError as error:
            raise EnvironmentFault(
                "clip_store_unwritable",
                f"{self.folder}: cannot keep decoded frames ({error.strerror or error}); make room, or "
                "choose another folder with --cache-dir DIR or VPIPE_CACHE_DIR",
            ) from error

    def _pieces(self, contents: Contents) -> Iterator[bytes]:
        ends, sums, times = [], [], []
        at, checked = len(MAGIC), 0
        yield MAGIC
        for time_s, data in contents.frames:
            at += len(data)
            if at - checked > self.bound // 100:  # other files may have to go already
                self._make_room(at)
                checked = at
            ends.append(at)
            sums.append(zlib.crc32(data))
            times.append(time_s)
            yield data
        facts = contents.facts | contents.after()
        index = {"facts": facts, "times_s": times, "ends": ends, "crc32": sums}
        data = json.dumps(index, separators=(",", ":")).encode()
        yield data
        yield _TAIL.pack(len(data), hashlib.sha256(data).digest())

    def _make_room(self, needed: int) -> None:
        """Removes what was not used for longest until `needed` more bytes stay within the bound."""
        found = sorted(self._files(), key=lambda entry: entry[1])
        size = sum(entry[2] for entry in found) + needed
        for path, _, bytes_ in found:
            if size <= self.bound:
                return
            if path not in self._mine:
                path.unlink(missing_ok=True)
                size -= bytes_
        if size > self.bound:
            raise EnvironmentFault(
                "clip_store_full",
                f"{self.folder}: the frames of this run need more than {megabytes(self.bound)}; raise "
                "--clip-store, or train on fewer or shorter videos",
            )

    def _files(self) -> Iterator[tuple[Path, float, int]]:
        """(path, last used, bytes) of every finished file; abandoned unfinished ones are removed."""
        for path in self.folder.glob("*/*"):
            try:
                status = path.stat()
                if path.suffix == ".clips":
                    yield path, status.st_mtime, status.st_size
                elif path.suffix == ".part" and time.time() - status.st_mtime > _ABANDONED_S:
                    path.unlink()
            except FileNotFoundError:
                continue
