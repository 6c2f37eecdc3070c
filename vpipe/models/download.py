"""Fetching a published checkpoint: resumed where it stopped, checked before it gets its name.

While it is fetched the file is `NAME.part`. Its SHA-256 is compared with the hash that a page publishes, else
with the beginning of it in the file's name; where there is neither, it is recorded beside the file on the
first use and every later one is compared with that.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpipe.errors import EnvironmentFault, UsageError
from vpipe.models.catalogue import Entry
from vpipe.models.importer.importing import Imported, import_checkpoint
from vpipe.models.importer.layout import Choices

MOST_BYTES = 2 << 30  # of a checkpoint; the largest in the catalogue is a tenth of it
TIMEOUT_S = 60.0  # without a byte
_PIECE = 1 << 20
Progress = Callable[[int, int | None], None]  # bytes so far, of how many


@dataclass(frozen=True)
class Downloaded:
    path: Path
    sha256: str
    checked: str  # against what
    fetched: bool  # False: it was there already


def fetch(
    entry: Entry, folder: Path, *, url: str | None = None, progress: Progress | None = None
) -> Downloaded:
    """The checkpoint of `entry` in `folder`, which is made where it is missing. `url`: a mirror of it.

    Raises EnvironmentFault: `download_failed`, `download_truncated` (run it again: it goes on where it
    stopped), `download_too_large`, `unwritable_output`; UsageError `wrong_hash`.
    """
    path = folder / entry.file_name
    part = path.with_name(f"{path.name}.part")
    there = path.is_file()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not there:
            _transfer(url or entry.url, part, progress)
        digest = _sha256(path if there else part)
        checked = _check(entry, path, digest, path if there else part)
        if not there:
            os.replace(part, path)
        _record(path, digest)
    except OSError as error:
        raise EnvironmentFault(
            "unwritable_output", f"{path}: cannot be written ({error.strerror}); choose another --to"
        ) from None
    return Downloaded(path, digest, checked, not there)


def import_entry(entry: Entry, got: Downloaded, output: Path) -> Imported:
    """The downloaded checkpoint as a weight file. Raises UsageError as import_checkpoint does."""
    choices = Choices(segments=entry.segments, sampling=entry.sampling)
    return import_checkpoint(
        got.path,
        output,
        entry.labels,
        choices=choices,
        architecture=entry.architecture,
        licence=f"{entry.licence}; {entry.url}",
    )


def _transfer(url: str, part: Path, progress: Progress | None) -> None:
    """Fetches `url` into `part`, from where that ends if the server can."""
    done = part.stat().st_size if part.exists() else 0
    try:
        with _opened(url, done) as answer:
            if done and not _goes_on(answer, done):  # it begins anew
                done = 0
            length = answer.headers.get("Content-Length", "")
            total = done + int(length) if length.isdigit() else None
            if max(total or 0, done) > MOST_BYTES:
                raise _too_large(url)
            with part.open("ab" if done else "wb") as file:
                while piece := answer.read(_PIECE):
                    done += len(piece)
                    if done > MOST_BYTES:
                        raise _too_large(url)
                    file.write(piece)
                    if progress is not None:
                        progress(done, total)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # the part is as long as the file, or longer: its hash will tell
            return
        raise EnvironmentFault(
            "download_failed", f"{url}: the server says {error.code} {error.reason}"
        ) from None
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        why = getattr(error, "reason", None) or error
        raise EnvironmentFault(
            "download_failed", f"{url}: {why}; run it again, {part} is gone on with"
        ) from None
    if total is not None and done < total:
        raise EnvironmentFault(
            "download_truncated",
            f"{url}: it ended after {done} of {total} bytes; run it again, {part} is gone on with",
        )


def _goes_on(answer: Any, start: int) -> bool:
    """Whether the server answers with the part that was asked for."""
    return answer.status == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")


def _opened(url: str, start: int) -> Any:
    if not url.startswith(("https://", "http://")):
        raise EnvironmentFault("download_failed", f"{url}: not an http address")
    headers = {"User-Agent": "vpipe", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)


def _check(entry: Entry, path: Path, digest: str, held: Path) -> str:
    """What the file's hash agrees with. Removes it, and raises UsageError, where it does not."""
    recorded = _recorded(path)
    if entry.sha256:
        wanted, against = entry.sha256, f"the published SHA-256 ({entry.hash_source or entry.source})"
    elif entry.hash_prefix:
        wanted, against = entry.hash_prefix, "the beginning of the SHA-256 in the file's name"
    elif recorded:
        wanted, against = recorded, "the SHA-256 recorded at the first download"
    else:
        return "nothing: no hash is published; it is recorded now"
    if not digest.startswith(wanted):
        held.unlink(missing_ok=True)
        raise UsageError(
            "wrong_hash",
            f"{path}: its SHA-256 is {digest} and does not agree with {against}, {wanted}; it was removed, "
            "run it again",
        )
    return against


def _record(path: Path, digest: str) -> None:
    """Notes the full hash beside the file, in the form that `sha256sum -c` reads."""
    if _recorded(path) is None:
        path.with_name(f"{path.name}.sha256").write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def _recorded(path: Path) -> str | None:
    note = path.with_name(f"{path.name}.sha256")
    words = note.read_text(encoding="utf-8", errors="replace").split() if note.is_file() else []
    return words[0] if words and len(words[0]) == 64 else None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _too_large(url: str) -> EnvironmentFault:
    return EnvironmentFault(
        "download_too_large", f"{url}: more than {MOST_BYTES >> 30} GiB, which no checkpoint needs"
    )
