"""The store: from a video and a recipe to its flow, computed once, by whichever process comes first.

<root>/flow/ab/<key>.<storage>.flow.h5     sealed: every flow of the video
<root>/flow/ab/<key>.<storage>.work/       unfinished: parts, and the claim of whoever works on it
<root>/sources/...                         remembered digests of videos
"""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from vpipe.cache.entry import Counts, FlowEntry
from vpipe.cache.files import cache_faults
from vpipe.cache.keys import entry_key, source_digest
from vpipe.cache.slots import Slot
from vpipe.flow.batch import flow_device
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage

__all__ = ["Counts", "FlowCache", "FlowEntry", "default_root"]


def default_root() -> Path:
    """VPIPE_CACHE_DIR, or the user's cache folder."""
    named = os.environ.get("VPIPE_CACHE_DIR")
    return Path(named) if named else Path(platformdirs.user_cache_dir("vpipe", appauthor=False))


class FlowCache:
    """The flow cache in a folder (None: `default_root()`), which is created when there is flow to keep."""

    def __init__(self, root: Path | None = None) -> None:
        # Absolute: the paths that are handed out stay true when the working folder changes.
        self.root = Path(os.path.abspath(root if root is not None else default_root()))

    def entry(
        self,
        path: str | os.PathLike[str],
        params: FlowParams,
        storage: Storage = Storage(),  # noqa: B008 (frozen)
        *,
        device: str = "cpu",
        verify_source: bool = False,
        remember: bool = True,
    ) -> FlowEntry:
        """The flow of a video, wherever the video lies and whatever it is called; nothing is computed yet.

        device: where flow that is missing is computed, as `vpipe.devices.resolve_device` gives it.
        Where only the finer storage is sealed, it serves. `verify_source` hashes the video even where its
        digest is remembered; without `remember` nothing is written. Raises InputError where the file cannot
        be read, EnvironmentFault `no_triton` where the device needs what is not installed.
        """
        device = flow_device(params, device)
        video = Path(path)
        digest = source_digest(video, self.root / "sources", verify=verify_source, remember=remember)
        key = entry_key(digest, params)
        with cache_faults(self.root):
            if not self._is_sealed(key, storage) and self._is_sealed(key, Storage("high")):
                storage = Storage("high")
        return FlowEntry(self.root, key, digest, video, params, storage, device)

    def _is_sealed(self, key: str, storage: Storage) -> bool:
        return Slot(self.root, key, storage.name).sealed.exists()
