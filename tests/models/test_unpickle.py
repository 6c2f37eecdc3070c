"""The restricted unpickler: real containers load, and nothing that is in them runs."""

import argparse
import contextlib
import io
import pickle
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from vpipe.errors import UsageError
from vpipe.models.importer.checkpoint import read_checkpoint
from vpipe.models.importer.unpickle import Inert, open_torch_file

WEIGHTS = OrderedDict(
    [
        ("conv.weight", torch.arange(24.0).view(2, 3, 2, 2)),
        ("conv.bias", torch.tensor([1.5, -2.5])),
        ("bn.num_batches_tracked", torch.tensor(7)),
    ]
)


def same(tensors: dict[str, torch.Tensor]) -> bool:
    return list(tensors) == list(WEIGHTS) and all(torch.equal(tensors[k], v) for k, v in WEIGHTS.items())


@pytest.mark.parametrize("zipped", [True, False])
def test_both_containers(tmp_path: Path, zipped: bool) -> None:
    torch.save(
        {"epoch": 12, "state_dict": WEIGHTS}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped
    )
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert same(checkpoint.tensors)
    assert checkpoint.notes == ("weights taken from its entry 'state_dict'",)


def test_views_types_and_shared_storages(tmp_path: Path) -> None:
    base = torch.arange(12, dtype=torch.float64)
    state = {
        "transposed": base.view(3, 4).t(),
        "tail": base[8:],
        "half": torch.tensor([1, 2], dtype=torch.float16),
        "brain": torch.tensor([3.0], dtype=torch.bfloat16),
        "flags": torch.tensor([True, False]),
        "empty": torch.zeros(0, 4),
        "parameter": torch.nn.Parameter(torch.ones(2)),
    }
    for zipped in (True, False):
        torch.save(state, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        found = open_torch_file(tmp_path / "a.pth").content
        assert isinstance(found, dict)
        for key, value in state.items():
            assert found[key].dtype == value.dtype
            assert torch.equal(found[key], value.detach())


def test_mmengine_history_numpy_scalars_and_namespaces(tmp_path: Path) -> None:
    """Written by a process that has a module `mmengine`, read by one that has not."""
    script = f"""
import argparse, sys, types, numpy as np, torch
module = types.ModuleType("mmengine.logging.history_buffer")
class HistoryBuffer:
    def __init__(self): self._log_history = np.arange(3.0); self._max_length = 3
HistoryBuffer.__module__ = module.__name__; HistoryBuffer.__qualname__ = "HistoryBuffer"
module.HistoryBuffer = HistoryBuffer
for name in ("mmengine", "mmengine.logging"): sys.modules[name] = types.ModuleType(name)
sys.modules[module.__name__] = module
state = {{"module.conv.weight": torch.ones(2, 2), "module.conv.bias": torch.zeros(2)}}
for zipped in (True, False):
    torch.save(
        {{"meta": {{"best": np.float64(76.1), "args": argparse.Namespace(lr=0.1)}}, "state_dict": state,
          "message_hub": {{"log": HistoryBuffer()}}}},
        {str(tmp_path)!r} + f"/{{zipped}}.pth", _use_new_zipfile_serialization=zipped)
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    for zipped in (True, False):
        checkpoint = read_checkpoint(tmp_path / f"{zipped}.pth")
        assert set(checkpoint.tensors) == {"conv.weight", "conv.bias"}
        assert "mmengine.logging.history_buffer.HistoryBuffer" in checkpoint.notes[0]
        assert "argparse.Namespace" in checkpoint.notes[0]
        assert "multiarray.scalar" in checkpoint.notes[0]
    assert not any(name.startswith("mmengine") for name in sys.modules)


class Hostile:
    """Makes a file when it is unpickled the ordinary way."""

    def __init__(self, trap: Path) -> None:
        self.trap = trap

    def __reduce__(self) -> tuple[object, ...]:
        return (exec, (f"open({str(self.trap)!r}, 'w').close()",))


@pytest.mark.parametrize("zipped", [True, False])
def test_hostile_code_does_not_run_and_tensors_load(tmp_path: Path, zipped: bool) -> None:
    trap = tmp_path / "trap"
    torch.save(
        {"state_dict": WEIGHTS, "optimizer": Hostile(trap)},
        tmp_path / "a.pth",
        _use_new_zipfile_serialization=zipped,
    )
    checkpoint = read_checkpoint(tmp_path / "a.pth")
    assert same(checkpoint.tensors)
    assert "__builtin__.exec" in checkpoint.notes[0]
    assert not trap.exists()
    torch.load(tmp_path / "a.pth", weights_only=False)
    assert trap.exists()  # the file is hostile indeed


def test_a_placeholder_among_the_weights_refuses_the_file(tmp_path: Path) -> None:
    torch.save({"state_dict": {**WEIGHTS, "fc.weight": argparse.Namespace(a=1)}}, tmp_path / "a.pth")
    with pytest.raises(UsageError, match=r"'fc.weight'.*argparse.Namespace"):
        read_checkpoint(tmp_path / "a.pth")


def legacy(content: bytes, storages: list[tuple[str, np.ndarray]]) -> bytes:
    """The older stream round a pickle written by hand, as Python 2 wrote it (protocol 2)."""
    out = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True, "protocol_version": 1001}):
        pickle.dump(value, out, protocol=2)
    out.write(content)
    pickle.dump([key for key, _ in storages], out, protocol=2)
    for _, values in storages:
        out.write(struct.pack("<q", values.size) + values.tobytes())
    return out.getvalue()


def python2_pickle(arguments: bytes = b"K\x00K\x02K\x03\x86K\x03K\x01\x86") -> bytes:
    """{"conv\xe9": tensor (2, 3)} with Python 2's byte strings and OrderedDict from pairs."""
    storage = (
        b"(U\x07storage" + b"ctorch\nFloatStorage\n" + b"U\x0294" + b"U\x03cpu" + b"K\x06" + b"N" + b"tQ"
    )
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + storage + arguments + b"tR"
    pairs = b"](](U\x05conv\xe9" + tensor + b"ee"
    return b"\x80\x02ccollections\nOrderedDict\n" + pairs + b"\x85R."


def test_python_2_files(tmp_path: Path) -> None:
    values = np.arange(6, dtype=np.float32)
    (tmp_path / "a.pth").write_bytes(legacy(python2_pickle(), [("94", values)]))
    tensors = read_checkpoint(tmp_path / "a.pth").tensors
    assert list(tensors) == ["conv\xe9"]
    assert torch.equal(tensors["conv\xe9"], torch.arange(6.0).view(2, 3))


@pytest.mark.parametrize(
    "arguments",
    [
        b"K\x00K\x02K\x04\x86K\x04K\x01\x86",  # 8 elements of 6
        b"K\x01K\x02K\x03\x86K\x03K\x01\x86",  # begins one late
        b"K\x00J\xff\xff\xff\x7fK\x03\x86K\x00K\x00\x86",  # one element, two thousand million times
        b"K\x00J\xff\xff\xff\xffK\x03\x86K\x03K\x01\x86",  # a negative size
        b"K\x00K\x02\x85K\x03K\x01\x86",  # size and stride of different length
    ],
)
def test_absurd_tensors(tmp_path: Path, arguments: bytes) -> None:
    content = legacy(python2_pickle(arguments), [("94", np.arange(6, dtype=np.float32))])
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(UsageError, match="not a whole PyTorch checkpoint"):
        read_checkpoint(tmp_path / "a.pth")


def test_every_cut_and_many_flips(tmp_path: Path) -> None:
    """Truncated or damaged: an error that names the file, or weights; never a crash."""
    rng = np.random.default_rng(0)
    for zipped in (True, False):
        torch.save({"state_dict": WEIGHTS}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
        whole = (tmp_path / "a.pth").read_bytes()
        for length in np.linspace(0, len(whole) - 1, 80).astype(int):
            (tmp_path / "b.pth").write_bytes(whole[:length])
            with pytest.raises(UsageError, match=r"b\.pth"):
                read_checkpoint(tmp_path / "b.pth")
        for place in rng.integers(0, len(whole), 200):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << int(rng.integers(8))
            (tmp_path / "b.pth").write_bytes(flipped)
            with contextlib.suppress(UsageError):
                read_checkpoint(tmp_path / "b.pth")


def test_nothing_is_allocated_from_claims(tmp_path: Path) -> None:
    claims = {
        "memo": b"\x80\x02]r\xff\xff\xff\xff.",  # an index of four thousand million
        "bytes": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x00.",
        "bytearray": b"\x80\x05\x96\xff\xff\xff\xff\x0f\x00\x00\x00.",
        "frame": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x00.",
        "deep key": b"\x80\x02}N" + b"\x85" * 500_000 + b"Ks.",
        "function": b"\x80\x02ctorch._utils\n_rebuild_tensor\n}U\x01aK\x01sb.",
    }
    for name, content in claims.items():
        with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
            archive.writestr("a/data.pkl", content)
        with pytest.raises(UsageError, match=r"a\.pth"):
            read_checkpoint(tmp_path / "a.pth")
        assert name


def test_foreign_files(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pth")
    with pytest.raises(UsageError, match=r"torch.nn.modules.linear.Linear.*state_dict"):
        read_checkpoint(tmp_path / "module.pth")
    (tmp_path / "text.pth").write_text("<html>404</html>")
    with pytest.raises(UsageError, match="not a whole PyTorch checkpoint"):
        read_checkpoint(tmp_path / "text.pth")
    with pytest.raises(UsageError, match="no such file"):
        read_checkpoint(tmp_path / "gone.pth")
    (tmp_path / "lying.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(UsageError, match="safetensors"):
        read_checkpoint(tmp_path / "lying.safetensors")
    torch.save({"a": torch.tensor([float("nan")])}, tmp_path / "nan.pth")
    with pytest.raises(UsageError, match="not finite"):
        read_checkpoint(tmp_path / "nan.pth")
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + b"N0" * 100_000 + b"N.")
    with pytest.raises(UsageError, match="compressed"):
        read_checkpoint(tmp_path / "bomb.pth")


def test_a_placeholder_is_nothing_but_its_name() -> None:
    one = type("Inert", (Inert,), {"name": "os.system"})("rm")
    one["a"] = 1
    one.append(2)
    assert one("b") is one
    assert vars(one) == {}
