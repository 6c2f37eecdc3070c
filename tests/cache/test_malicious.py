"""Files made to harm: refused with a reason, in our own process too, without allocating what they claim."""

from __future__ import annotations

import contextlib
import hashlib
import json
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import pytest
import zstandard

from tests.cache.clips import DIS, write_moving
from vpipe.cache import Counts, FlowCache, foreign
from vpipe.cache.foreign import ForeignFile
from vpipe.cache.packing import write_packed
from vpipe.cache.records import DamagedFile
from vpipe.cache.sealed import SealedFile
from vpipe.cache.structure import table_digest

PAIRS = 4
SHAPE = (PAIRS, 2, 96, 128)
Forge = Callable[[Any, dict[str, Any]], None]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moving(tmp_path_factory.mktemp("moving") / "moving.mp4", [1, 2, 3, 4])


@pytest.fixture(scope="module")
def whole(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    entry = FlowCache(tmp_path_factory.mktemp("cache")).entry(clip, DIS)
    entry.ensure()
    assert entry.path
    return entry.path


def forged(whole: Path, target: Path, forge: Forge) -> Path:
    """A copy of a sealed file after `forge(h5, manifest)`, with the manifest's checksum made right again."""
    target.write_bytes(whole.read_bytes())
    with h5py.File(target, "r+") as h5:
        manifest = json.loads(bytes(h5.attrs["manifest"]))
        forge(h5, manifest)
        text = json.dumps(manifest, sort_keys=True).encode()
        if isinstance(h5.attrs["manifest"], np.bytes_):
            h5.attrs["manifest"] = np.bytes_(text)
        h5.attrs["manifest_sha256"] = np.bytes_(hashlib.sha256(text).hexdigest())
    return target


def replace_table(h5: Any, manifest: dict[str, Any], name: str, table: np.ndarray, **storage: Any) -> None:
    del h5[name]
    h5.create_dataset(name, data=table, **storage)
    manifest["tables"][name] = table_digest(table)


def replace_flow(h5: Any, **how: Any) -> None:
    del h5["flow"]
    flow = h5.create_dataset("flow", **how)
    flow.attrs["scale"], flow.attrs["zero"] = np.float32(20 / 127), np.float32(127)


def external_link(h5: Any, manifest: dict[str, Any]) -> None:
    del h5["flow"]
    h5["flow"] = h5py.ExternalLink("/etc/passwd", "/flow")


def soft_link(h5: Any, manifest: dict[str, Any]) -> None:
    del h5["pts"]
    h5["pts"] = h5py.SoftLink("/frame_index")


def external_storage(h5: Any, manifest: dict[str, Any]) -> None:
    del h5["pts"]
    h5.create_dataset("pts", (PAIRS + 1,), "<i8", external=[("/etc/passwd", 0, 8 * (PAIRS + 1))])


def virtual_dataset(h5: Any, manifest: dict[str, Any]) -> None:
    del h5["frame_index"]
    layout = h5py.VirtualLayout((PAIRS + 1,), "<i8")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (PAIRS + 1,))
    h5.create_virtual_dataset("frame_index", layout)


def group_for_dataset(h5: Any, manifest: dict[str, Any]) -> None:
    del h5["flow"]
    h5.create_group("flow")


def wrong_dtype(h5: Any, manifest: dict[str, Any]) -> None:
    replace_flow(h5, shape=SHAPE, dtype="f8", chunks=(1, *SHAPE[1:]))


def absurd_shape(h5: Any, manifest: dict[str, Any]) -> None:
    manifest["shape"] = [2**39, 2, 8000, 8000]


def absurd_size(h5: Any, manifest: dict[str, Any]) -> None:
    manifest["shape"] = [PAIRS, 2, 2**20, 2**20]


def many_flows(h5: Any, manifest: dict[str, Any]) -> None:
    manifest["shape"][0] = 2**34
    replace_flow(h5, shape=(2**34, *SHAPE[1:]), dtype="u1", chunks=(1, *SHAPE[1:]))
    for name, more in (("valid", 0), ("clipped", 0), ("fitting_bound_px", 0), ("pts", 1), ("time_s", 1)):
        dtype = h5[name].dtype
        del h5[name]
        h5.create_dataset(name, (2**34 + more,), dtype)  # contiguous, never written: nothing in the file


def huge_chunks(h5: Any, manifest: dict[str, Any]) -> None:
    plain = {"shape": SHAPE, "dtype": "u1", "maxshape": (None, 2, None, None)}
    replace_flow(h5, chunks=(1, 2, 2**15, 2**15), **plain)


def bomb_in_a_table(h5: Any, manifest: dict[str, Any]) -> None:
    table = h5["clipped"][()]
    replace_table(h5, manifest, "clipped", table, chunks=(2**23,), maxshape=(None,), compression="gzip")


def known_filter(h5: Any, manifest: dict[str, Any]) -> None:
    replace_flow(h5, shape=SHAPE, dtype="u1", chunks=(1, *SHAPE[1:]), **hdf5plugin.Blosc())


def unknown_filter(h5: Any, manifest: dict[str, Any]) -> None:
    del h5["flow"]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1, *SHAPE[1:]))
    plist.set_filter(31999, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))
    space = h5py.h5s.create_simple(SHAPE)
    h5py.h5d.create(h5.id, b"flow", h5py.h5t.NATIVE_UINT8, space, plist)


def zstd_bomb(h5: Any, manifest: dict[str, Any]) -> None:
    blob = zstandard.ZstdCompressor().compress(bytes(2**28))
    h5["flow"].id.write_direct_chunk((1, 0, 0, 0), blob)
    table = h5["flow_sha256"][()]
    table[1] = np.frombuffer(hashlib.sha256(blob).digest(), np.uint8)
    replace_table(h5, manifest, "flow_sha256", table)


def other_scale(h5: Any, manifest: dict[str, Any]) -> None:
    h5["flow"].attrs["scale"] = np.float32(3)


def huge_scale(h5: Any, manifest: dict[str, Any]) -> None:
    h5["flow"].attrs["scale"] = np.ones(5000, np.float32)


def own_storage(h5: Any, manifest: dict[str, Any]) -> None:
    manifest["storage"]["scale"] = 1e9


def variable_text(h5: Any, manifest: dict[str, Any]) -> None:
    del h5.attrs["manifest"]
    h5.attrs["manifest"] = json.dumps(manifest)


def endless_fraction(h5: Any, manifest: dict[str, Any]) -> None:
    manifest["time_base"] = "1e999999999"


def no_source(h5: Any, manifest: dict[str, Any]) -> None:
    del manifest["source"]


def odd_warnings(h5: Any, manifest: dict[str, Any]) -> None:
    manifest["source"]["warnings"] = [7]


def another_format(h5: Any, manifest: dict[str, Any]) -> None:
    manifest["format"] = "vpipe.flow/99"


def list_for_manifest(h5: Any, manifest: dict[str, Any]) -> None:
    for name in list(manifest):
        del manifest[name]


def extra_dataset(h5: Any, manifest: dict[str, Any]) -> None:
    h5["payload"] = np.zeros(10)


FORGERIES: dict[Forge, str] = {
    external_link: "link",
    soft_link: "link",
    external_storage: "another file",
    virtual_dataset: "one plain piece",
    group_for_dataset: "no dataset",
    wrong_dtype: "float64",
    absurd_shape: "not",
    absurd_size: "shape",
    many_flows: "not|beyond",
    huge_chunks: "chunks",
    bomb_in_a_table: "plain piece",
    known_filter: "filters are",
    unknown_filter: "filters are",
    zstd_bomb: "flow 1|longer",
    other_scale: "scale",
    huge_scale: "scale",
    own_storage: "storage",
    variable_text: "plain text",
    endless_fraction: "time base",
    no_source: "source",
    odd_warnings: "TypeError",
    another_format: "vpipe.flow/99",
    list_for_manifest: "KeyError",
    extra_dataset: "other datasets",
}


@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_refused_with_a_reason(whole: Path, tmp_path: Path, forge: Forge) -> None:
    path = forged(whole, tmp_path / "evil.flow.h5", forge)
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DamagedFile, match=FORGERIES[forge]) as caught:
        SealedFile(path).read(range(PAIRS))
    assert str(path) in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 64 << 10


@pytest.mark.parametrize(
    "forge", [external_link, zstd_bomb, many_flows, unknown_filter], ids=lambda f: f.__name__
)
def test_refused_from_elsewhere(whole: Path, tmp_path: Path, forge: Forge) -> None:
    path = forged(whole, tmp_path / "evil.flow.h5", forge)
    with pytest.raises(DamagedFile, match=FORGERIES[forge]), ForeignFile(path) as file:
        file.read(range(PAIRS))


def test_in_the_cache_it_is_replaced(clip: Path, tmp_path: Path, whole: Path) -> None:
    cache = FlowCache(tmp_path)
    entry = cache.entry(clip, DIS)
    entry.ensure()
    assert entry.path
    flows = entry.read(range(PAIRS))
    for forge in (external_link, many_flows, variable_text):
        forged(whole, entry.path, forge)
        again = cache.entry(clip, DIS)
        assert again.ensure() == Counts(PAIRS, PAIRS, 0)
        assert [warning.code for warning in again.warnings] == ["cache_damaged"]
        assert np.array_equal(again.read(range(PAIRS)), flows)


def test_packets_that_are_no_video(whole: Path, tmp_path: Path) -> None:
    write_packed(tmp_path / "packed", SealedFile(whole), tmp_path / "spool")

    def garbage(h5: Any, manifest: dict[str, Any]) -> None:
        end = int(h5["packet_end"][0])
        h5["packets"][:end] = np.random.default_rng(0).integers(0, 256, end, np.uint8)
        table = h5["flow_sha256"][()]
        digest = hashlib.sha256(h5["packets"][:end].tobytes()).digest()
        table[0] = np.frombuffer(digest, np.uint8)
        replace_table(h5, manifest, "flow_sha256", table)

    def overlapping(h5: Any, manifest: dict[str, Any]) -> None:
        table = h5["packet_end"][()]
        table[1] = -5
        replace_table(h5, manifest, "packet_end", table)

    def other_coder(h5: Any, manifest: dict[str, Any]) -> None:
        manifest["storage"]["codec"]["extradata"] = "zz"

    for forge in (overlapping, other_coder):
        path = forged(tmp_path / "packed", tmp_path / forge.__name__, forge)
        with pytest.raises(DamagedFile):
            SealedFile(path).read(range(PAIRS))
    # Bytes of which the checksum is right are decoded; whatever comes out, nothing else happens.
    path = forged(tmp_path / "packed", tmp_path / "garbage.flow.h5", garbage)
    with ForeignFile(path) as file, contextlib.suppress(DamagedFile):
        assert file.read([0]).shape == (1, *SHAPE[1:])


def test_a_worker_that_hangs_or_dies(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ForeignFile(whole) as file:
        file._worker.process.kill()
        with pytest.raises(DamagedFile, match="ended"):
            file.codes(0)
    monkeypatch.setattr(foreign, "ANSWER_WITHIN_S", 0.0)
    with pytest.raises(DamagedFile, match="too long"):
        ForeignFile(whole)
