"""The smallest form of a sealed file: flow as FFV1 video, lossless, in groups of 16.

A flow is one picture of u over v (W x 2H), gray in 8 bits (`standard`) or 16 (`high`, code + 32768). FFV1's
adaptive state runs through a group, so a flow is read by decoding its group up to it.

FFV1 (RFC 9043) at level 3 with the large context model (context 1) and the range coder: its defaults are
40 % larger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np
import numpy.typing as npt

from vpipe.cache.records import GROUP, DamagedFile
from vpipe.cache.writing import new_file, write_index
from vpipe.flow.quantise import Storage

if TYPE_CHECKING:
    from vpipe.cache.sealed import SealedFile

# slices: FFmpeg takes four at these sizes anyway; slicecrc: our checksums are stronger.
_OPTIONS = {"level": "3", "context": "1", "coder": "range_def", "slices": "4", "slicecrc": "0"}
_HIGH_OFFSET = 32768
_COPY_BYTES = 1 << 20


def write_packed(path: Path, sealed: SealedFile, spool: Path) -> None:
    """Write the packed form of a sealed file to `path`; `spool` is a file for the packets, which is removed.

    Memory stays flat. Raises DamagedFile where a flow of `sealed` is damaged.
    """
    pairs = sealed.grid.pairs
    ends, digests = np.zeros(pairs, "<i8"), np.zeros((pairs, 32), np.uint8)
    extradata, end = b"", 0
    try:
        with open(spool, "wb") as packets:
            for pair, packet, extradata in _packets(sealed):  # noqa: B007 (equal in all)
                packets.write(packet)
                end += len(packet)
                ends[pair] = end
                digests[pair] = np.frombuffer(hashlib.sha256(packet).digest(), np.uint8)
        codec = {
            "id": "ffv1",
            "group": GROUP,
            "pix_fmt": _pix_fmt(sealed.storage),
            "extradata": extradata.hex(),
            "version": ".".join(map(str, av.library_versions["libavcodec"])),
        }
        facts = {name: value for name, value in sealed.manifest.items() if name != "tables"}
        facts["storage"] = sealed.storage.to_dict() | {"codec": codec}
        tables = sealed.index.tables | {"flow_sha256": digests, "packet_end": ends}
        with new_file(path) as h5:
            dataset = h5.create_dataset("packets", (end,), np.uint8)
            with open(spool, "rb") as packets:
                for start in range(0, end, _COPY_BYTES):
                    piece = np.frombuffer(packets.read(_COPY_BYTES), np.uint8)
                    dataset[start : start + len(piece)] = piece
            write_index(h5, facts, tables, sealed.volatile)
    finally:
        spool.unlink(missing_ok=True)


def _packets(sealed: SealedFile) -> Iterator[tuple[int, bytes, bytes]]:
    """(pair, its packet, the stream's extradata), a coder of its own for each group."""
    width, height = sealed.grid.size
    for first in range(0, sealed.grid.pairs, GROUP):
        coder: Any = av.CodecContext.create("ffv1", "w")
        coder.width, coder.height, coder.pix_fmt = width, 2 * height, _pix_fmt(sealed.storage)
        coder.time_base = Fraction(1, GROUP)
        coder.gop_size, coder.thread_count = GROUP, 1
        coder.options = _OPTIONS
        for pair in range(first, min(first + GROUP, sealed.grid.pairs)):
            picture = _to_picture(sealed.codes(pair), sealed.storage)
            picture.pts = pair - first
            (packet,) = coder.encode(picture)  # FFV1 holds nothing back
            yield pair, bytes(packet), bytes(coder.extradata)


class PacketReader:
    """Reads flow from packets, going on where it is where that helps. Not for use by several threads at once.

    packet(pair) returns verified bytes or raises DamagedFile.
    """

    def __init__(
        self, codec: dict[str, Any], storage: Storage, size: tuple[int, int], packet: Callable[[int], bytes]
    ) -> None:
        self._storage, self._size = storage, size
        try:
            self._extradata = bytes.fromhex(codec["extradata"])
            known = codec["group"] == GROUP and codec["pix_fmt"] == _pix_fmt(storage)
        except (KeyError, TypeError, ValueError):
            known = False
        if not known:
            raise DamagedFile("packed in another way than this version knows")
        self._packet = packet
        self._decoder: Any = None
        self._last = -1
        self._codes: npt.NDArray[Any] | None = None

    def codes(self, pair: int) -> npt.NDArray[Any]:
        """The codes (2, H, W) of one flow. Raises DamagedFile."""
        first = pair - pair % GROUP
        if self._decoder is None or not first <= self._last <= pair:
            self._decoder = self._new_decoder()
            self._last = first - 1
        for k in range(self._last + 1, pair + 1):
            self._codes = self._decode(k)
            self._last = k
        assert self._codes is not None
        return self._codes

    def _new_decoder(self) -> Any:
        decoder: Any = av.CodecContext.create("ffv1", "r")
        decoder.extradata = self._extradata
        decoder.width, decoder.height = self._size[0], 2 * self._size[1]
        decoder.thread_count = 1
        return decoder

    def _decode(self, pair: int) -> npt.NDArray[Any]:
        packet = self._packet(pair)
        try:
            pictures: Sequence[av.VideoFrame] = self._decoder.decode(av.Packet(packet))
        except av.FFmpegError as error:
            raise DamagedFile(f"flow {pair}: {error}") from None
        width, height = self._size
        if len(pictures) != 1 or (pictures[0].width, pictures[0].height) != (width, 2 * height):
            raise DamagedFile(f"flow {pair}: not one picture of {width}x{2 * height}")
        if pictures[0].format.name != _pix_fmt(self._storage):
            raise DamagedFile(f"flow {pair}: a {pictures[0].format.name} picture")
        return _from_picture(pictures[0], self._storage)


def _pix_fmt(storage: Storage) -> str:
    return "gray" if storage.dtype.itemsize == 1 else "gray16le"


def _to_picture(codes: npt.NDArray[Any], storage: Storage) -> av.VideoFrame:
    values = codes if codes.itemsize == 1 else (codes.astype(np.int32) + _HIGH_OFFSET).astype("<u2")
    _, height, width = values.shape
    return av.VideoFrame.from_ndarray(
        np.ascontiguousarray(values.reshape(2 * height, width)), format=_pix_fmt(storage)
    )


def _from_picture(picture: av.VideoFrame, storage: Storage) -> npt.NDArray[Any]:
    values = picture.to_ndarray()
    if values.itemsize > 1:
        values = (values.astype(np.int32) - _HIGH_OFFSET).astype(storage.dtype)
    return np.ascontiguousarray(values).reshape(2, picture.height // 2, picture.width)
