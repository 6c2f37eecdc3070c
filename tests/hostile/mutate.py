"""A seeded mutator: damage as disks, networks and ill will do it. The same seed gives the same mutants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

LENGTHS = (0, 1, 7, 8, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
TAGS = (
    b"moov", b"trak", b"mdia", b"stbl", b"stsd", b"stts", b"ctts", b"stsc", b"stsz", b"stco", b"avcC",
    b"elst", b"mvhd", b"tkhd", b"mdhd", b"mdat", b"ftyp", b"LIST", b"strh", b"strf", b"avih", b"movi",
    b"idx1", b"\x1a\x45\xdf\xa3", b"\x16\x54\xae\x6b", b"\x1f\x43\xb6\x75", b"\xa3", b"\xae", b"\x47",
)  # fmt: skip
Random = np.random.Generator
Op = Callable[[bytearray, Sequence[bytes], Random], bytearray]


def flip_bytes(data: bytearray, _: Sequence[bytes], random: Random) -> bytearray:
    for place in random.integers(0, len(data), random.integers(1, 40)):
        data[place] = int(random.integers(256))
    return data


def flip_head(data: bytearray, _: Sequence[bytes], random: Random) -> bytearray:
    """Where the headers are."""
    for place in random.integers(0, min(len(data), 1500), random.integers(1, 12)):
        data[place] ^= 1 << int(random.integers(8))
    return data


def set_number(data: bytearray, _: Sequence[bytes], random: Random) -> bytearray:
    for _ in range(int(random.integers(1, 6))):
        place = int(random.integers(0, max(1, len(data) - 4)))
        order = "big" if random.integers(2) else "little"
        data[place : place + 4] = int(random.choice(LENGTHS)).to_bytes(4, order)  # type: ignore[arg-type]
    return data


def set_length(data: bytearray, _: Sequence[bytes], random: Random) -> bytearray:
    """The length before, or the bytes after, the name of a box, chunk or element."""
    known = [tag for tag in TAGS if tag in data]
    if not known:
        return flip_head(data, (), random)
    tag = known[int(random.integers(len(known)))]
    starts = [at for at in range(len(data)) if data.startswith(tag, at)][:200]
    at = starts[int(random.integers(len(starts)))]
    place = at - 4 if random.integers(2) and at >= 4 else at + len(tag) + 4 * int(random.integers(0, 6))
    data[place : place + 4] = int(random.choice(LENGTHS)).to_bytes(4, "big")
    return data


def rename(data: bytearray, _: Sequence[bytes], random: Random) -> bytearray:
    known = [tag for tag in TAGS if tag in data]
    if known:
        tag = known[int(random.integers(len(known)))]
        at = data.find(tag)
        data[at : at + len(tag)] = random.integers(0, 256, len(tag), np.uint8).tobytes()
    return data


def truncate(data: bytearray, _: Sequence[bytes], random: Random) -> bytearray:
    return data[: int(random.integers(0, len(data))) + 1]


def cut_out(data: bytearray, _: Sequence[bytes], random: Random) -> bytearray:
    start, stop = sorted(random.integers(0, len(data), 2).tolist())
    return data[:start] + data[min(stop, start + 4096) :]


def repeat(data: bytearray, _: Sequence[bytes], random: Random) -> bytearray:
    start, stop = sorted(random.integers(0, len(data), 2).tolist())
    return data[:stop] + data[start:]


def zero(data: bytearray, _: Sequence[bytes], random: Random) -> bytearray:
    start = int(random.integers(len(data)))
    stop = min(len(data), start + int(random.integers(1, 2000)))
    data[start:stop] = bytes(stop - start)
    return data


def splice(data: bytearray, others: Sequence[bytes], random: Random) -> bytearray:
    other = others[int(random.integers(len(others)))]
    return data[: int(random.integers(len(data)))] + other[int(random.integers(len(other))) :]


OPS: tuple[Op, ...] = (
    flip_bytes, flip_head, flip_head, set_number, set_length, set_length, rename, truncate, cut_out, repeat,
    zero, splice,
)  # fmt: skip


def mutants(originals: Sequence[bytes], count: int, seed: int) -> Iterator[bytes]:
    """`count` files, each an original in turn after one to three operations."""
    random = np.random.default_rng(seed)
    for number in range(count):
        data = bytearray(originals[number % len(originals)])
        for _ in range(int(random.integers(1, 4))):
            data = OPS[int(random.integers(len(OPS)))](data or bytearray(b"\0"), originals, random)
        yield bytes(data)
