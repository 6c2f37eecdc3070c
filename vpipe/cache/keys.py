"""What names a cache entry: the content of the video and the whole recipe, never a file name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from vpipe.cache.files import ABSENT
from vpipe.errors import InputError
from vpipe.flow.params import FlowParams
from vpipe.media.first_look import display_name, read_head

# How frames reach the flow methods; `version` is raised when the same video would give other pictures.
DECODE_RECIPE = {"color": "gray", "stream": "default", "rotation": "applied", "version": 1}

_READ_BYTES = 1 << 20
# A file written this recently may be written again within the same tick of its clock: hash it each time.
_RACY_NS = 2_000_000_000


def canonical_json(value: Any) -> str:
    """One spelling per value: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def entry_key(digest: str, params: FlowParams) -> str:
    """The key of the flow of the video with this SHA-256 under this recipe: 64 hex digits."""
    recipe = {
        "source": digest,
        "decode": DECODE_RECIPE,
        "flow": params.canonical_json(),
        "engine": params.engine(),
    }
    return hashlib.sha256(canonical_json(recipe).encode()).hexdigest()


def source_digest(path: Path, memo_dir: Path, *, verify: bool = False, remember: bool = True) -> str:
    """SHA-256 of a file's bytes, remembered by (path, device, inode, size, mtime_ns); `verify` hashes again.

    Raises InputError: those of `vpipe.media.opening.read_head`, which opens the file even where its digest is
    remembered: what may not be read any more is not served.
    """
    read_head(path)
    try:
        status = os.stat(path)
        identity = [status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns]
        real = os.fsencode(os.path.realpath(path))
        memo = memo_dir / f"{hashlib.sha256(real).hexdigest()[:40]}.json"
        if not verify and (known := _recall(memo, identity)):
            return known
        digest = hashlib.sha256()
        with open(path, "rb") as source:
            while piece := source.read(_READ_BYTES):
                digest.update(piece)
    except OSError as error:
        raise InputError("os_error", f"{display_name(path)}: {error.strerror or error}") from error
    if remember and time.time_ns() - status.st_mtime_ns > _RACY_NS:
        _remember(memo, identity, digest.hexdigest(), real)
    return digest.hexdigest()


def known_videos(memo_dir: Path) -> dict[str, list[Path]]:
    """SHA-256 -> where files with it were seen. They may be gone or changed since."""
    found: dict[str, list[Path]] = {}
    with contextlib.suppress(*ABSENT):
        for name in sorted(os.listdir(memo_dir)):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                known = json.loads((memo_dir / name).read_text())
                found.setdefault(str(known["sha256"]), []).append(Path(known["path"]))
    return found


def _recall(memo: Path, identity: list[int]) -> str | None:
    try:
        known = json.loads(memo.read_text())
        same = known["identity"] == identity
        return str(known["sha256"]) if same and len(known["sha256"]) == 64 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(memo: Path, identity: list[int], digest: str, real: bytes) -> None:
    # Only a memo, written in place: a torn one is not JSON, and a lost one costs a hash.
    with contextlib.suppress(OSError):
        memo.parent.mkdir(parents=True, exist_ok=True)
        content = {"identity": identity, "sha256": digest, "path": os.fsdecode(real)}
        memo.write_text(canonical_json(content))
