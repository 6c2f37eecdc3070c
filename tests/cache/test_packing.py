"""Packed files: the same codes in fewer bytes, read the same way, damaged and mended by groups."""

from __future__ import annotations

import random
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cache.clips import DIS, contents, strays, write_moving
from vpipe.cache import Counts, FlowCache, FlowEntry
from vpipe.cache.packing import GROUP, write_packed
from vpipe.cache.sealed import SealedFile
from vpipe.cache.structure import PACKED_TABLES
from vpipe.flow.quantise import Storage

FORMAT_PAGE = Path(__file__).parents[2] / "docs" / "cache-format.md"
PAIRS = 2 * GROUP + 5
SHIFTS = [0.5 + 1.7 * (k % 6) for k in range(PAIRS)]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moving(tmp_path_factory.mktemp("moving") / "moving.mp4", SHIFTS)


@pytest.fixture(params=["standard", "high"])
def entry(request: pytest.FixtureRequest, tmp_path: Path, clip: Path) -> FlowEntry:
    entry = FlowCache(tmp_path / "cache").entry(clip, DIS, Storage(request.param))
    entry.ensure()
    return entry


def pack(entry: FlowEntry) -> SealedFile:
    """Put the packed form in place of the sealed file."""
    assert entry.path
    beside = entry.path.with_name("packed")
    write_packed(beside, SealedFile(entry.path), entry.path.with_name("spool"))
    beside.rename(entry.path)
    return SealedFile(entry.path, entry.key)


def test_packed_flow_is_the_same_in_any_order_of_reading(entry: FlowEntry) -> None:
    assert entry.path
    flows, before = entry.read(range(PAIRS)), SealedFile(entry.path)
    packed = pack(entry)
    assert packed.index.packed
    assert packed.grid == before.grid
    assert packed.manifest["source"] == before.manifest["source"]
    again = FlowCache(entry.root).entry(entry.video, DIS, entry.storage)
    assert np.array_equal(again.read(range(PAIRS)), flows)
    order = random.Random(3).sample(range(PAIRS), PAIRS)
    assert np.array_equal(again.read(order), flows[order])
    assert again.ensure() == Counts(PAIRS, 0, PAIRS)
    assert [packed.facts(k) for k in range(PAIRS)] == [before.facts(k) for k in range(PAIRS)]


def test_packing_is_smaller_and_gives_equal_bytes(entry: FlowEntry, tmp_path: Path) -> None:
    assert entry.path
    sealed, size = SealedFile(entry.path), entry.path.stat().st_size
    paths = [tmp_path / name for name in "ab"]
    for path in paths:
        write_packed(path, sealed, tmp_path / "spool")
    assert not (tmp_path / "spool").exists()
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_size < 0.9 * size


def test_a_stranger_reads_a_packed_file_as_the_page_says(entry: FlowEntry) -> None:
    blocks = re.findall(r"```python\n(.*?)```", FORMAT_PAGE.read_text(), re.DOTALL)
    (snippet,) = [block for block in blocks if "ffv1" in block]
    flows = entry.read(range(PAIRS))
    packed = pack(entry)
    for number in (0, GROUP - 1, GROUP + 2, PAIRS - 1):
        names: dict[str, object] = {"path": packed.path, "number": number}
        exec(snippet, names)
        assert np.allclose(names["flow"], flows[number], rtol=0, atol=1e-5)  # type: ignore[arg-type]
    with h5py.File(packed.path) as h5:
        assert set(h5) == {"packets", *PACKED_TABLES}


def test_a_damaged_packet_costs_the_rest_of_its_group(entry: FlowEntry) -> None:
    assert entry.path
    flows, before = entry.read(range(PAIRS)), contents(entry.path)
    packed = pack(entry)
    offset, length = packed.index.places[GROUP + 3].tolist()
    data = bytearray(entry.path.read_bytes())
    data[offset + length // 2] ^= 4
    entry.path.write_bytes(data)
    assert SealedFile(entry.path).damaged(range(PAIRS)) == list(range(GROUP + 3, 2 * GROUP))
    again = FlowCache(entry.root).entry(entry.video, DIS, entry.storage)
    assert np.array_equal(again.read([0, GROUP + 2, 2 * GROUP]), flows[[0, GROUP + 2, 2 * GROUP]])
    assert again.ensure() == Counts(PAIRS, GROUP - 3, PAIRS - GROUP + 3)
    assert contents(entry.path) == before
    assert strays(entry.root) == []
