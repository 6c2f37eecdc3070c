"""Files written by `torch.save`, opened without running anything that is in them.

A pickle is a program; `pickle.load` runs it with every function of every installed package at its disposal.
Here it gets three things only: OrderedDict, the names of storage types, and our own stand-ins for torch's
functions that rebuild tensors. Any other global becomes an inert placeholder class: it accepts whatever the
pickle does to it, does nothing, is never imported, and its name is reported. Tensors are made afterwards,
from bytes whose size was checked against what the file really holds.

Two containers: the zip of PyTorch 1.6 and later, and the older stream (magic number, protocol, system, the
object, then the storages), whose strings may be those of Python 2.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor

from vpipe.errors import UsageError

_MAGIC = 0x1950A86A20F9469CFC6C  # of the older stream
_PROTOCOL = 1001
_PICKLE_LIMIT = 256 << 20  # bytes; the pickle holds names and shapes, not weights
_DTYPES = {
    "Float": torch.float32,
    "Double": torch.float64,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
}
_BY_NAME = {str(dtype).removeprefix("torch."): dtype for dtype in _DTYPES.values()}


class Inert:
    """Stands for an object of a class that was not imported. It keeps nothing and does nothing."""

    name = ""  # of the class, "module.Class"

    def __new__(cls, *args: object, **kwargs: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        """Whatever the pickle would have called it with."""

    def __setitem__(self, key: object, value: object) -> None:
        """The pickle fills dict-like objects so."""

    def append(self, item: object) -> None:
        """The pickle fills list-like objects so."""

    extend = append

    def __call__(self, *args: object, **kwargs: object) -> Inert:
        return self

    # An instance may be a key of a dict in the pickle.
    def __hash__(self) -> int:
        return id(self)


@dataclass(frozen=True)
class _StorageType:
    """`torch.FloatStorage` and its like: a name for a dtype; None where the tensor says it."""

    dtype: torch.dtype | None


class _Storage:
    """Where a storage lies in the file, by its key; `start` and `length` in elements."""

    __slots__ = ("dtype", "key", "length", "start")

    def __init__(self, key: str, dtype: torch.dtype | None, length: int, start: int = 0) -> None:
        self.key, self.dtype, self.length, self.start = key, dtype, length, start


class _TensorPlan:
    """A tensor that will be made once the pickle has ended."""

    __slots__ = ("dtype", "offset", "size", "storage", "stride")

    def __init__(self, storage: object, offset: object, size: object, stride: object) -> None:
        if not isinstance(storage, _Storage):
            raise pickle.UnpicklingError("a tensor without a storage")
        self.storage = storage
        self.dtype = storage.dtype
        self.offset = _whole(offset)
        self.size = tuple(_whole(n) for n in _sequence(size))
        self.stride = tuple(_whole(n) for n in _sequence(stride))
        if len(self.size) != len(self.stride) or len(self.size) > 16:
            raise pickle.UnpicklingError("a tensor whose size and stride do not agree")


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 48:
        raise pickle.UnpicklingError("a tensor with an impossible size")
    return value


def _sequence(value: object) -> tuple[object, ...]:
    if not isinstance(value, (tuple, list)):
        raise pickle.UnpicklingError("a tensor with an impossible size")
    return tuple(value)


def _tensor(storage: object, offset: object, size: object, stride: object, *rest: object) -> _TensorPlan:
    """Stands for torch._utils._rebuild_tensor and _rebuild_tensor_v2."""
    return _TensorPlan(storage, offset, size, stride)


def _tensor_v3(
    storage: object, offset: object, size: object, stride: object, grad: object, hooks: object, dtype: object,
    *rest: object,
) -> _TensorPlan:  # fmt: skip
    plan = _TensorPlan(storage, offset, size, stride)
    if not isinstance(dtype, torch.dtype):
        raise pickle.UnpicklingError("a tensor without a type")
    plan.dtype = dtype
    return plan


def _parameter(data: object, *rest: object) -> object:
    """Stands for torch._utils._rebuild_parameter: the tensor in it."""
    return data


def _from_type(function: object, kind: object, args: object, *rest: object) -> object:
    """Stands for torch._tensor._rebuild_from_type_v2: what the inner rebuilder gives."""
    if function not in (_tensor, _tensor_v3, _parameter):
        raise pickle.UnpicklingError("a tensor that is rebuilt by a foreign function")
    return function(*_sequence(args))


def _ordered(pairs: object = ()) -> dict[object, object]:
    """Stands for OrderedDict, which dict has been since Python 3.7."""
    filled: dict[object, object] = {}
    for pair in _sequence(pairs):
        key, value = _sequence(pair)
        filled[_key(key)] = value
    return filled


def _key(key: object) -> object:
    """A key of a dict. Tuples in tuples in tuples, as a key, would overflow the stack of the interpreter."""
    flat = key if isinstance(key, tuple) else (key,)
    if not all(one is None or isinstance(one, (str, bytes, int, float, Inert)) for one in flat):
        raise pickle.UnpicklingError("a dict with keys of an unexpected kind")
    return key


def _size(dims: object = ()) -> tuple[object, ...]:
    return _sequence(dims)


_REAL: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _ordered,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_tensor_v3"): _tensor_v3,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _from_type,
    ("torch", "Size"): _size,
    ("torch.storage", "UntypedStorage"): _StorageType(None),
    ("torch", "UntypedStorage"): _StorageType(None),
    **{(m, f"{n}Storage"): _StorageType(d) for n, d in _DTYPES.items() for m in ("torch", "torch.cuda")},
    **{("torch", name): dtype for name, dtype in _BY_NAME.items()},
}


# Typed loosely, because the type stubs leave out its methods.
_InPython: Any = pickle._Unpickler


# The unpickler written in Python, because the one in C reserves memory by numbers that the pickle gives.
class _Unpickler(_InPython):
    """Knows `_REAL` and nothing else."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(_InPython.dispatch)
    # torch writes none of these, and they reserve memory, hash what they are given or reach a registry.
    for _opcode in (
        pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.EXT1, pickle.EXT2, pickle.EXT4,
        pickle.EMPTY_SET, pickle.ADDITEMS, pickle.FROZENSET,
    ):  # fmt: skip
        del dispatch[_opcode[0]]

    def __init__(self, file: BinaryIO, inert: set[str]) -> None:
        super().__init__(file, encoding="latin1")  # Python 2 strings: every byte is a character
        self._inert = inert

    def find_class(self, module: str, name: str) -> Any:
        known = _REAL.get((module, name))
        if known is not None:
            return known
        full = f"{module}.{name}"
        self._inert.add(full)
        return type("Inert", (Inert,), {"name": full})

    def load_build(self) -> None:
        """State of an object: let go; dicts and tensors need no attributes, placeholders keep none."""
        self.stack.pop()
        if not isinstance(self.stack[-1], (dict, Inert, _TensorPlan)):
            raise pickle.UnpicklingError("it sets attributes of a function")

    def load_setitem(self) -> None:
        value = self.stack.pop()
        key = self.stack.pop()
        self.stack[-1][_key(key)] = value

    def load_setitems(self) -> None:
        items = self.pop_mark()
        for place in range(0, len(items), 2):
            self.stack[-1][_key(items[place])] = items[place + 1]

    def load_dict(self) -> None:
        items = self.pop_mark()
        self.append({_key(items[place]): items[place + 1] for place in range(0, len(items), 2)})

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict

    def persistent_load(self, pid: object) -> _Storage:
        match pid:
            case ("storage", _StorageType(dtype), str(key), _, int(length), *more):
                pass
            case _:
                raise pickle.UnpicklingError("a storage that is not described as torch does it")
        view = more[0] if more else None
        if view is None:
            return _Storage(key, dtype, _whole(length))
        _, start, view_length = _sequence(view)
        if _whole(start) + _whole(view_length) > _whole(length):
            raise pickle.UnpicklingError("a view that leaves its storage")
        return _Storage(key, dtype, view_length, start)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Opened:
    """What a file holds: containers and numbers as they are, tensors real, the rest `Inert`."""

    content: object
    inert: tuple[str, ...]  # names of the globals that were not imported, sorted


def open_torch_file(path: Path) -> Opened:
    """Reads a file of `torch.save` without running what is in it.

    Raises UsageError `bad_checkpoint` for a file that is truncated, absurd or of another kind; OSError
    where it cannot be read.
    """
    inert: set[str] = set()
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                content, storages = _from_zip(file, inert)
            else:
                file.seek(0)
                content, storages = _from_stream(file, inert)
        return Opened(_made(content, storages), tuple(sorted(inert)))
    except OSError:
        raise
    # A pickle is a program: one that is nonsense can fail in any way, and none of them is ours.
    except (MemoryError, Exception) as error:
        why = f"{type(error).__name__}: {str(error)[:200]}" if str(error) else type(error).__name__
        raise UsageError(
            "bad_checkpoint",
            f"{path}: not a whole PyTorch checkpoint ({why}); download it again, or give a .pth, .pt, .tar "
            "or .safetensors file",
        ) from None


def _from_zip(file: BinaryIO, inert: set[str]) -> tuple[object, Callable[[str, int], bytes]]:
    archive = zipfile.ZipFile(file)
    pickles = [name for name in archive.namelist() if name == "data.pkl" or name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise ValueError("a zip file without a data.pkl")
    root = pickles[0].removesuffix("data.pkl")
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        raise ValueError("a zip file that is compressed, which torch never does")
    if archive.getinfo(pickles[0]).file_size > _PICKLE_LIMIT:
        raise ValueError("its pickle is larger than any real one")
    if f"{root}byteorder" in archive.namelist() and archive.read(f"{root}byteorder") != b"little":
        raise ValueError("it was written on a big-endian machine")
    content = _Unpickler(io.BytesIO(archive.read(pickles[0])), inert).load()
    # Read here, while the file is open; each storage once.
    held = {
        name.removeprefix(f"{root}data/"): archive.read(name)
        for name in archive.namelist()
        if name.startswith(f"{root}data/")
    }
    return content, lambda key, _: held[key]


def _from_stream(file: BinaryIO, inert: set[str]) -> tuple[object, Callable[[str, int], bytes]]:
    if file.read(1) != b"\x80":
        raise ValueError("neither a zip file nor a pickle")
    file.seek(0)
    if _Unpickler(file, inert).load() != _MAGIC:
        raise ValueError("a pickle that torch did not write")
    if _Unpickler(file, inert).load() != _PROTOCOL:
        raise ValueError("an unknown protocol")
    system = _Unpickler(file, inert).load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise ValueError("it was written on a big-endian machine")
    content = _Unpickler(file, inert).load()
    keys = _Unpickler(file, inert).load()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise ValueError("no list of storages")
    sizes = _element_sizes(content)
    held: dict[str, bytes] = {}
    for key in keys:
        (length,) = struct.unpack("<q", file.read(8))
        wanted = length * sizes.get(key, 1)
        held[key] = file.read(wanted) if 0 <= length < 1 << 48 else b""
        if len(held[key]) != wanted:
            raise ValueError("it ends in the middle of its weights")
    return content, lambda key, _: held[key]


def _walk(content: object) -> list[_TensorPlan]:
    """Every tensor in nested containers, each container once however often it is named."""
    found, waiting, seen = [], [content], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, _TensorPlan):
            found.append(one)
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, (list, tuple, set)):
            waiting += one
    return found


def _element_sizes(content: object) -> dict[str, int]:
    """Bytes of an element of each storage; storages only inside placeholders are skipped by bytes."""
    return {plan.storage.key: (plan.storage.dtype or torch.uint8).itemsize for plan in _walk(content)}


def _made(content: object, storages: Callable[[str, int], bytes]) -> object:
    """The content with tensors in place of their plans; dicts and lists are filled where they are."""
    plans = _walk(content)
    tensors = {id(plan): _tensor_of(plan, storages) for plan in plans}
    done: dict[int, object] = {}

    def real(one: object) -> object:
        if isinstance(one, _TensorPlan):
            return tensors[id(one)]
        if id(one) in done:
            return done[id(one)]
        if isinstance(one, dict):
            copy: dict[object, object] = {}
            done[id(one)] = copy
            copy.update((key, real(value)) for key, value in one.items())
            return copy
        if isinstance(one, (list, tuple)):
            items: list[object] = []
            done[id(one)] = items
            items += [real(item) for item in one]
            return items
        return one

    return real(content)


def _tensor_of(plan: _TensorPlan, storages: Callable[[str, int], bytes]) -> Tensor:
    dtype = plan.dtype
    if dtype is None:
        raise ValueError("a tensor without a type")
    storage = plan.storage
    unit = (storage.dtype or torch.uint8).itemsize
    data = memoryview(storages(storage.key, storage.length))
    data = data[storage.start * unit : (storage.start + storage.length) * unit]
    elements = len(data) // dtype.itemsize
    count = 1
    for n in plan.size:
        count *= n
    last = plan.offset + sum((n - 1) * step for n, step in zip(plan.size, plan.stride, strict=True))
    if count == 0:
        return torch.empty(plan.size, dtype=dtype)
    if last >= elements or count > elements:
        raise ValueError("a tensor that is larger than its bytes")
    flat = torch.frombuffer(bytearray(data), dtype=dtype)
    return flat.as_strided(plan.size, plan.stride, plan.offset).clone()
