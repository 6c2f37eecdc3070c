"""Bytes that come on a file descriptor, perhaps slowly, perhaps never: read without hanging."""

from __future__ import annotations

import os
import select
import tempfile
from typing import IO

from vpipe.errors import InputError
from vpipe.media.pulse import beat

NAME = "stdin"
HEAD_BYTES = 4096
BLOCK_BYTES = 65536
WAIT_S = 0.2  # between looks at whether the reading is to stop


class Pipe:
    """A file descriptor as a file object for PyAV: reads what is there, and ends where nothing comes for
    long.

    head: bytes that were read from it before, and come again first. `stalled`: the end was taken for lack of
    data. `stopped`: set to read no more, from another thread too.
    """

    def __init__(self, descriptor: int, stall_s: float, head: bytes = b"") -> None:
        self._descriptor, self._stall_s = descriptor, stall_s
        self._head = head
        self.stalled = self.stopped = False

    def read(self, size: int = BLOCK_BYTES) -> bytes:
        """At most `size` bytes; none at the end. Raises InputError os_error."""
        if self._head:
            block, self._head = self._head[:size], self._head[size:]
            return block
        waited = 0.0
        while not self.stopped and not self.stalled:
            beat()  # to wait for others is no hang
            if select.select([self._descriptor], [], [], WAIT_S)[0]:
                try:
                    return os.read(self._descriptor, size)
                except OSError as error:
                    raise InputError("os_error", f"{NAME}: cannot be read: {error.strerror}") from error
            waited += WAIT_S
            self.stalled = waited >= self._stall_s
        return b""

    def head(self) -> bytes:
        """The first bytes, which `read` will give again."""
        head = b""
        while len(head) < HEAD_BYTES and (block := self.read(HEAD_BYTES - len(head))):
            head += block
        self._head = head
        return head

    def kept(self) -> IO[bytes]:
        """All that comes, in a temporary file that goes when it is closed. Raises InputError, OSError."""
        whole = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as its reader
        try:
            while block := self.read():
                whole.write(block)
            whole.seek(0)
        except BaseException:
            whole.close()
            raise
        return whole


def index_is_late(head: bytes) -> bool:
    """Whether the pictures (mdat) of an MP4 come before its index (moov), as far as its first bytes tell."""
    position = 0
    while position + 8 <= len(head):
        kind, length = head[position + 4 : position + 8], int.from_bytes(head[position : position + 4], "big")
        if kind in (b"moov", b"mdat"):
            return kind == b"mdat"
        if length < 8:
            return False
        position += length
    return False
