"""Bits flip, files are cut: found whenever flow is read, computed again, never handed out."""

from __future__ import annotations

import random
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cache.clips import DIS, contents, strays, write_moving
from vpipe.cache import Counts, FlowCache, care
from vpipe.cache.records import DamagedFile
from vpipe.cache.sealed import SealedFile
from vpipe.flow.quantise import Storage

PAIRS = 8


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moving(tmp_path_factory.mktemp("moving") / "moving.mp4", [1, 2, 3, 4, 3, 2, 1, 0])


@pytest.fixture
def cache(tmp_path: Path) -> FlowCache:
    return FlowCache(tmp_path / "cache")


def flow_bytes(path: Path, key: str, pair: int) -> tuple[int, int]:
    """(offset, length) of a flow's chunk in a sealed file."""
    offset, length = SealedFile(path, key).index.places[pair].tolist()
    return offset, length


def flip(path: Path, offset: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1 << bit
    path.write_bytes(data)


def test_one_damaged_flow_costs_one_flow(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, DIS)
    entry.ensure()
    assert entry.path
    before, flows = contents(entry.path), entry.read(range(PAIRS))
    offset, length = flow_bytes(entry.path, entry.key, 5)
    flip(entry.path, offset + length // 2)
    with pytest.raises(DamagedFile, match=rf"{entry.path.name}: flow 5: checksum"):
        SealedFile(entry.path, entry.key).codes(5)
    again = cache.entry(clip, DIS)
    assert again.ensure() == Counts(PAIRS, 1, PAIRS - 1)
    (warning,) = again.warnings
    assert warning.code == "cache_damaged"
    assert "flow (5)" in warning.message
    assert contents(entry.path) == before
    assert np.array_equal(again.read(range(PAIRS)), flows)
    assert strays(cache.root) == []


def test_reading_an_open_file_that_rots(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, DIS)
    flows = entry.read(range(PAIRS))
    entry.ensure()
    assert entry.path
    entry.read([0])
    offset, _ = flow_bytes(entry.path, entry.key, 2)
    with open(entry.path, "r+b") as file:
        file.seek(offset + 20)
        file.write(b"\xff\x00\xff")
    assert np.array_equal(entry.read([1, 2]), flows[1:3])
    assert [warning.code for warning in entry.warnings] == ["cache_damaged"]


def test_a_damaged_part_costs_what_is_damaged(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, DIS)
    entry.ensure([1, 2, 3])
    entry.ensure([6])
    parts = sorted(cache.root.rglob("*.part"))
    assert len(parts) == 2
    flip(parts[0], parts[0].stat().st_size - 10)  # in the last flow of it
    assert cache.entry(clip, DIS).ensure([1, 2, 3]) == Counts(3, 1, 2)
    for part in cache.root.rglob("*.part"):
        flip(part, 30)  # in the header
    again = cache.entry(clip, DIS)
    assert again.ensure([1, 6]) == Counts(2, 2, 0)
    assert {warning.code for warning in again.warnings} == {"cache_damaged"}
    again.ensure()
    assert strays(cache.root) == []


def test_any_byte_of_the_manifest(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, DIS)
    entry.ensure()
    assert entry.path
    whole = entry.path.read_bytes()
    with h5py.File(entry.path) as h5:
        manifest = bytes(h5.attrs["manifest"])
    start = whole.index(manifest)
    rng = random.Random(5)
    for offset in range(start, start + len(manifest)):
        damaged = bytearray(whole)
        damaged[offset] ^= 1 << rng.randrange(8)
        entry.path.write_bytes(damaged)
        with pytest.raises(DamagedFile, match=entry.path.name):
            SealedFile(entry.path, entry.key)


def damage(data: bytes, rng: random.Random) -> bytes:
    """One bit flipped, or the end cut off; half of the flips where headers and tables are."""
    damaged = bytearray(data)
    if rng.random() < 0.2:
        del damaged[rng.randrange(len(damaged)) :]
    else:
        start = rng.choice([0, rng.randrange(len(damaged))])
        damaged[rng.randrange(start, min(len(damaged), start + 4096))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def rot(cache: FlowCache, clip: Path, form: str, count: int, seed: int) -> tuple[int, int]:
    """Damage a file of `form` (standard, high, packed, parts) `count` times, and run again each time.

    Returns how often the damage was found, and how often it changed nothing. Anything else fails.
    """
    entry = cache.entry(clip, DIS, Storage("high" if form == "high" else "standard"))
    wanted = [0, 2, 3, 7] if form == "parts" else list(range(PAIRS))
    entry.ensure(wanted if form == "parts" else None)
    if form == "packed":
        care.pack(entry.slot)
    folder = entry.slot.work if form == "parts" else entry.slot.sealed.parent
    kept = {path: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
    (target, whole), *_ = kept.items()
    flows = cache.entry(clip, DIS, entry.storage).read(wanted)
    facts = (entry.grid, entry.times, entry.source)
    rng, found, harmless = random.Random(seed), 0, 0
    for _ in range(count):
        for path in folder.iterdir():
            if path.is_file():
                path.unlink()
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(damage(whole, rng))
        faults = care.faults(entry.slot)
        again = cache.entry(clip, DIS, entry.storage)
        counts = again.ensure(wanted if form == "parts" else None)
        assert bool(faults) == (counts.computed > 0) == bool(again.warnings), faults
        assert all(target.name in fault for fault in faults)
        assert np.array_equal(again.read(wanted), flows)
        assert (again.grid, again.times, again.source) == facts
        assert care.faults(entry.slot) == []
        # Damage to flows is named, and costs those flows; in a packed file the rest of their group.
        named = [int(n) for fault in faults for n in re.findall(r"flow \(?(\d+)", fault)]
        if named and form != "packed":
            assert counts.computed == len(named)
        found, harmless = found + bool(faults), harmless + (not faults)
        if not target.parent.exists():
            target.parent.mkdir()
    return found, harmless


@pytest.mark.parametrize("form", ["standard", "high", "packed", "parts"])
def test_random_damage_is_found_or_changes_nothing(cache: FlowCache, clip: Path, form: str) -> None:
    found, harmless = rot(cache, clip, form, 15, seed=1)
    assert found >= 8
    assert found + harmless == 15


@pytest.mark.slow
@pytest.mark.parametrize("form", ["standard", "high", "packed", "parts"])
def test_five_hundred_times(cache: FlowCache, clip: Path, form: str) -> None:
    found, harmless = rot(cache, clip, form, 125, seed=2)
    print(f"{form}: {found} found, {harmless} changed nothing")
    assert found >= 80


def test_another_videos_file_under_this_name_is_not_believed(
    cache: FlowCache, clip: Path, tmp_path: Path
) -> None:
    other = cache.entry(write_moving(tmp_path / "other.mp4", [5] * PAIRS), DIS)
    entry = cache.entry(clip, DIS)
    other.ensure()
    entry.ensure()
    assert entry.path
    assert other.path
    flows = entry.read(range(PAIRS))
    entry.path.write_bytes(other.path.read_bytes())
    again = cache.entry(clip, DIS)
    assert again.ensure() == Counts(PAIRS, PAIRS, 0)
    assert np.array_equal(again.read(range(PAIRS)), flows)


def test_garbage_is_not_believed(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, DIS)
    entry.ensure()
    assert entry.path
    for garbage in (b"", b"\x89HDF\r\n\x1a\n", b"x" * 5000):
        entry.path.write_bytes(garbage)
        assert cache.entry(clip, DIS).ensure() == Counts(PAIRS, PAIRS, 0)
