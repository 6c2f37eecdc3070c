"""One video's flow under one recipe: what is there of it, what must be computed, and reading it."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpipe import threads
from vpipe.cache import parts
from vpipe.cache.claims import Claim, ClaimLost, claimed
from vpipe.cache.files import cache_faults
from vpipe.cache.keys import DECODE_RECIPE
from vpipe.cache.mending import mend_parts, mend_sealed, open_sealed, tidy
from vpipe.cache.pipeline import compute_records
from vpipe.cache.plan import open_source, plan_grid
from vpipe.cache.records import DamagedFile, Grid, Record, decode
from vpipe.cache.sealed import SealedFile
from vpipe.cache.slots import Slot
from vpipe.cache.writing import write_sealed
from vpipe.errors import EnvironmentFault, Warning_
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import CLIPPED_LIMIT, Storage
from vpipe.media.first_look import display_name
from vpipe.media.source import FrameSource
from vpipe.whole_file import whole

# A part is written when it is full, large, or this long after the last: what a kill can cost is bounded in
# memory and in time.
_PART_BYTES = 16 << 20
_PART_EVERY_S = 15.0
_USED_EVERY_S = 3600.0  # how exactly the time of last use is kept
_TYPICAL_RATIO = 12  # raw bytes over compressed ones, until there is a flow to measure

_log = logging.getLogger("vpipe.cache")


@dataclass(frozen=True)
class Counts:
    """Of `pairs` flows asked for, `computed` were computed now and `reused` were there."""

    pairs: int
    computed: int
    reused: int


class FlowEntry:
    """Made by `FlowCache.entry`. Not for use by several threads at once; several processes may."""

    def __init__(
        self,
        root: Path,
        key: str,
        digest: str,
        video: Path,
        params: FlowParams,
        storage: Storage,
        device: str = "cpu",
    ) -> None:
        self.root, self.key, self.video, self.params, self.storage = root, key, video, params, storage
        self.slot = Slot(root, key, storage.name)
        self._digest, self._device = digest, device
        self._sealed_file: SealedFile | None = None
        self._planned: Grid | None = None
        self._source: FrameSource | None = None
        self._damage: list[Warning_] = []
        self._seen: list[tuple[bool, float, float]] = []  # valid, clipped, fitting bound

    # What it is

    @property
    def path(self) -> Path | None:
        """The sealed file; None while flows are missing."""
        return self.slot.sealed if self.slot.sealed.exists() else None

    @property
    def grid(self) -> tuple[int, ...]:
        """Decoded frame (0-based) of each of the n grid frames; flow k goes from grid frame k to k+1."""
        return self._grid().frame_index

    @property
    def times(self) -> tuple[Fraction, ...]:
        """Seconds since the first frame, of each of the n grid frames."""
        return self._grid().times

    @property
    def pairs(self) -> int:
        """The number of flows, n-1; 0 where the video is shorter than a step of the grid."""
        return self._grid().pairs

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the flow."""
        return self._grid().size

    @property
    def source(self) -> Mapping[str, Any]:
        """The manifest's `source`: sha256, codec, width, height, rotation, frames, duration_s, warnings."""
        return self._grid().source

    @property
    def warnings(self) -> list[Warning_]:
        """What decoding, and the flows ensured so far, give reason to say."""
        known = {
            w["code"]: Warning_(
                w["code"], w["message"], {k: v for k, v in w.items() if k not in ("code", "message")}
            )
            for w in self.source["warnings"]
        }
        if self._source is not None:  # decoding says more than the plan knew
            known |= {warning.code: warning for warning in self._source.warnings}
        said = list(known.values())
        invalid = sum(not valid for valid, _, _ in self._seen)
        if invalid:
            text = f"{invalid} of {len(self._seen)} flows touch a damaged frame: zero and marked invalid"
            said.append(Warning_("invalid_flows", text, {"flows": invalid}))
        clipped = sum(part for _, part, _ in self._seen) / max(1, len(self._seen))
        if clipped > CLIPPED_LIMIT:
            said.append(self._clipped(clipped))
        return said + self._damage

    def _clipped(self, clipped: float) -> Warning_:
        bound, fitting = self.storage.bound_px, fitting_bound([(c, f) for _, c, f in self._seen])
        way = "--storage high"
        if fitting < Storage("high").bound_px:
            way = f"--bound {fitting:g} (then at most 1 % is; errors to {fitting / 254:.2g} px) or {way}"
        return Warning_(
            "flow_clipped",
            f"{clipped:.1%} of the flow is faster than the bound of {bound:g} px and was clipped: use {way}",
            {"clipped": round(clipped, 6), "bound_px": bound, "fitting_bound_px": fitting},
        )

    def _grid(self) -> Grid:
        if self._planned is None:
            with contextlib.suppress(DamagedFile):
                sealed = self._open_sealed()
                self._planned = sealed.grid if sealed else None
        if self._planned is None:
            self._planned = plan_grid(self._frames(), self.params, self._digest)
        return self._planned

    def _frames(self) -> FrameSource:
        if self._source is None:
            self._source = open_source(self.video, self.params, threads=threads.jobs())
        return self._source

    # Computing

    def ensure(
        self,
        pairs: Sequence[int] | None = None,
        *,
        jobs: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Counts:
        """Have the flows `pairs` (None: all, sealed) in the cache, verified; compute those that are not.

        `progress(done, total)` is told of those that had to be computed. Waits where another process works on
        the same entry. Raises EnvironmentFault (disk_full, cache_unwritable), InputError as decoding does,
        ValueError for a pair out of range.
        """
        wanted = self._checked(pairs)
        computed = 0
        while True:
            with self._faults():
                sealed, missing = self._look(wanted)
            if not missing and (sealed or len(wanted) < self.pairs):
                break
            with contextlib.suppress(ClaimLost), self._claim() as claim:
                work = self._complete(claim, wanted, jobs or threads.jobs())
                with contextlib.closing(work):
                    for count in work:
                        computed += count
                        if progress:
                            progress(computed, max(computed, len(missing)))
        if sealed:
            self._mark_used()
        if sealed and self.slot.work.exists():
            # Somebody was killed between sealing and tidying; where that cannot be done, it does no harm.
            with contextlib.suppress(ClaimLost, EnvironmentFault), self._claim() as claim:
                for _ in self._complete(claim, [], 1):
                    pass
        computed = min(computed, len(wanted))
        return Counts(len(wanted), computed, len(wanted) - computed)

    def _checked(self, pairs: Sequence[int] | None) -> list[int]:
        if pairs is None:
            return list(range(self.pairs))
        wanted = sorted({int(pair) for pair in pairs})
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.pairs:
            raise ValueError(f"flows {wanted[0]} to {wanted[-1]} of a video with {self.pairs}")
        return wanted

    def _claim(self) -> contextlib.AbstractContextManager[Claim]:
        def say() -> None:
            _log.info("%s: another process computes this flow: waiting for it", display_name(self.video))

        return claimed(self.slot.work, faults=self._faults(), waiting=say)

    def _look(self, wanted: Sequence[int]) -> tuple[bool, list[int]]:
        """Whether it is sealed, and which of `wanted` are not there or damaged; changes nothing on disk."""
        try:
            sealed = self._open_sealed()
        except DamagedFile:
            return False, list(wanted)
        if sealed is not None:
            self._seen = [sealed.facts(pair) for pair in wanted]
            return True, sealed.damaged(wanted)
        places, _ = parts.find_flows(self.slot.work, self.slot.name)
        here = [places[pair] for pair in wanted if pair in places]
        self._seen = [(place.valid, place.clipped, place.fitting_bound_px) for place in here]
        try:
            bad = {place.pair for place in parts.damaged(here)}
        except FileNotFoundError:  # sealed by another process meanwhile
            return self._look(wanted)
        return False, [pair for pair in wanted if pair not in places or pair in bad]

    def _complete(self, claim: Claim, wanted: Sequence[int], jobs: int) -> Generator[int]:
        """With the claim held: mend, compute what is missing of `wanted`, seal if that was the last of it.

        Yields how many flows were computed since the last time.
        """
        with self._faults():
            tidy(self.slot)
            self._forget_sealed()
            self._sealed_file, notes = mend_sealed(self.slot, claim)
            self._damage += notes
            if self._sealed_file is not None:
                for path in parts.list_parts(self.slot.work):  # killed between sealing and tidying
                    path.unlink()
                return
            self._damage += mend_parts(self.slot, claim)
            places, _ = parts.find_flows(self.slot.work, self.slot.name)
        missing = [pair for pair in wanted if pair not in places]
        if missing:
            records = compute_records(
                self._frames(),
                self.grid,
                missing,
                self.params,
                self.storage,
                self.size,
                jobs=jobs,
                device=self._device,
            )
            with contextlib.closing(records):
                yield from self._write(records, claim)
        with self._faults():
            self._seal(claim)

    def _write(self, records: Iterator[Record], claim: Claim) -> Iterator[int]:
        waiting: list[Record] = []
        written = time.monotonic()

        def flush() -> None:
            nonlocal written
            with self._faults():
                if waiting:
                    parts.write_part(self.slot.work, self.slot.name, waiting, claim)
                    waiting.clear()
            written = time.monotonic()

        try:
            for record in records:
                waiting.append(record)
                large = sum(len(r.blob) for r in waiting) > _PART_BYTES
                if len(waiting) == parts.MAX_PAIRS or large or time.monotonic() - written > _PART_EVERY_S:
                    flush()
                yield 1
        finally:
            # Also after Ctrl-C or a fault of the video: what was computed is kept.
            flush()

    def _seal(self, claim: Claim) -> None:
        """Make the sealed file from the parts, if they hold every flow."""
        places, _ = parts.find_flows(self.slot.work, self.slot.name)
        if len(places) < self.pairs:
            return
        beside = self.slot.work / f"seal.{claim.token}.tmp"
        recipe = {
            "key": self.key,
            "decode": DECODE_RECIPE,
            "flow": self.params.to_dict(),
            "engine": self.params.engine(),
        }
        volatile = {
            "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "host": socket.gethostname(),
            "file": self.video.name.encode("utf-8", "backslashreplace").decode(),
        }
        try:
            records = (places[pair].load() for pair in range(self.pairs))
            with whole(self.slot.sealed, beside=beside, lasting=True):
                write_sealed(beside, records, self._grid(), self.storage, recipe, volatile)
                claim.check()
        except DamagedFile:
            return  # a part rotted since it was looked at: the next look finds it
        for path in parts.list_parts(self.slot.work):
            path.unlink()

    def _faults(self) -> contextlib.AbstractContextManager[None]:
        return cache_faults(self.root, self._bytes_needed)

    def _bytes_needed(self) -> int:
        """About how much more it takes to finish: parts of what is missing, then the sealed file."""
        pairs, (width, height) = self.pairs, self.size
        places, _ = parts.find_flows(self.slot.work, self.slot.name)
        mean = 2 * width * height * self.storage.dtype.itemsize / _TYPICAL_RATIO
        if places:
            mean = sum(place.length for place in places.values()) / len(places)
        return math.ceil(mean * (pairs - len(places) + pairs)) + 100 * pairs

    def _mark_used(self) -> None:
        """The sealed file's mtime is when it was last used: `vpipe cache gc` goes by it."""
        with contextlib.suppress(OSError):
            if time.time() - self.slot.sealed.stat().st_mtime > _USED_EVERY_S:
                os.utime(self.slot.sealed)

    # Reading

    def read(self, pairs: Sequence[int]) -> npt.NDArray[np.float32]:
        """Flows `pairs`, in the order given, float32 (len(pairs), 2, H, W), px; every checksum verified.

        What is missing or damaged is computed first, as by `ensure`.
        """
        wanted = [int(pair) for pair in pairs]
        self._checked(wanted)
        width, height = self.size
        out = np.empty((len(wanted), 2, height, width), np.float32)
        while wanted:
            try:
                for row, codes in enumerate(self._codes(wanted)):
                    self.storage.dequantise(codes, out=out[row])
                break
            except (DamagedFile, FileNotFoundError):
                self._forget_sealed()
                self.ensure(wanted)
        return out

    def _codes(self, wanted: Iterable[int]) -> Iterator[npt.NDArray[Any]]:
        sealed = self._open_sealed()
        if sealed is not None:
            yield from (sealed.codes(pair) for pair in wanted)
            return
        places, _ = parts.find_flows(self.slot.work, self.slot.name)
        for pair in wanted:
            if pair not in places:
                raise DamagedFile(f"{self.slot.work}: flow {pair}: not there")
            record, what = places[pair].load(), f"{places[pair].path}: flow {pair}"
            yield decode(record.blob, record.sha256, self.storage, self.size, what=what)

    def _open_sealed(self) -> SealedFile | None:
        """The sealed file, kept open; None where there is none. Raises DamagedFile."""
        if self._sealed_file is None:
            with self._faults():
                self._sealed_file = open_sealed(self.slot)
        return self._sealed_file

    def _forget_sealed(self) -> None:
        self._sealed_file = None


def fitting_bound(flows: Sequence[tuple[float, float]]) -> float:
    """A bound, whole px, that clips at most 1 % of all flows; (clipped, fitting bound) are given of each."""
    for _, candidate in sorted(flows, key=lambda flow: flow[1]):
        # A wider bound clips no more than this one did, and at most 1 % where it fits.
        worst = sum(min(clipped, CLIPPED_LIMIT) if fits <= candidate else clipped for clipped, fits in flows)
        if worst <= CLIPPED_LIMIT * len(flows):
            return float(math.ceil(candidate))
    return float(math.ceil(max(fits for _, fits in flows)))
