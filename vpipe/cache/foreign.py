"""Flow files from elsewhere are opened by a process of their own: it may crash, hang or eat memory, not we.

    python -m vpipe.cache.foreign FILE      the worker: opens FILE, then answers on stdout

    worker -> the index, then an answer to each request
    us     -> "damaged" or "codes 12", a line each
    answer: 8 bytes, the length of a JSON header, the header; then the arrays whose lengths the header gives

Nothing the worker says is executed or unpickled: it may have been taken over by the file.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from vpipe.cache.records import DamagedFile
from vpipe.cache.sealed import FlowFile, SealedFile
from vpipe.cache.structure import Index, check_manifest, table_specs

ANSWER_WITHIN_S = 30.0
MEMORY_BYTES = 2 << 30  # beyond what the worker has when it begins
_HEADER_LIMIT_BYTES = 4 << 20


class ForeignFile(FlowFile):
    """A flow file that is read by a worker; a context manager, which ends it.

    Raises DamagedFile where the file is not one, or the worker dies or does not answer.
    """

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "vpipe.cache.foreign", os.path.abspath(path)]
        self._worker = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0
        )
        self.path = path
        try:
            header = self._header()
            manifest = header["manifest"]
            check_manifest(manifest, lambda reason: DamagedFile(f"{path}: {reason}"))
            if manifest["shape"][0] > os.stat(path).st_size:
                raise DamagedFile(f"{path}: claims more flows than it has bytes")
            tables = {
                name: np.frombuffer(self._exactly(dtype.itemsize * int(np.prod(shape))), dtype).reshape(shape)
                for name, (dtype, shape) in table_specs(manifest).items()
            }
            super().__init__(path, Index(manifest, header["volatile"], tables, np.empty((0, 2), np.int64)))
        except BaseException as error:
            self.close()
            if isinstance(error, (KeyError, TypeError, ValueError)):
                raise DamagedFile(f"{path}: {type(error).__name__}: {error}") from None
            raise

    def __enter__(self) -> ForeignFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the worker."""
        self._worker.kill()
        self._worker.wait()
        for pipe in (self._worker.stdin, self._worker.stdout):
            assert pipe is not None
            pipe.close()

    def damaged(self, pairs: Iterable[int]) -> list[int]:
        """Those of `pairs` that cannot be read as they were written."""
        self._ask("damaged")
        bad = set(self._header()["damaged"])
        return [pair for pair in pairs if pair in bad]

    def codes(self, pair: int) -> npt.NDArray[Any]:
        """The codes (2, H, W) of one flow. Raises DamagedFile, naming it."""
        self._ask(f"codes {pair}")
        self._header()
        width, height = self.grid.size
        data = self._exactly(2 * width * height * self.storage.dtype.itemsize)
        return np.frombuffer(data, self.storage.dtype).reshape(2, height, width)

    def _ask(self, request: str) -> None:
        assert self._worker.stdin is not None
        try:
            self._worker.stdin.write(f"{request}\n".encode())
        except OSError:
            raise self._gone() from None

    def _header(self) -> dict[str, Any]:
        length = int.from_bytes(self._exactly(8), "little")
        if length > _HEADER_LIMIT_BYTES:
            raise DamagedFile(f"{self.path}: its index is too long")
        header: dict[str, Any] = json.loads(self._exactly(length))
        if "error" in header:
            raise DamagedFile(str(header["error"]))
        return header

    def _exactly(self, length: int) -> bytes:
        assert self._worker.stdout is not None
        pipe, deadline = self._worker.stdout.fileno(), time.monotonic() + ANSWER_WITHIN_S
        pieces = []
        while length:
            if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise DamagedFile(f"{self.path}: reading it takes too long")
            piece = os.read(pipe, min(length, 1 << 20))
            if not piece:
                raise self._gone()
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def _gone(self) -> DamagedFile:
        code = self._worker.wait()
        return DamagedFile(f"{self.path}: the process that reads it ended (exit code {code})")


def _serve(path: Path, requests: IO[bytes], answers: IO[bytes]) -> None:
    """The worker: the index of `path`, then an answer to each request."""

    def send(header: dict[str, Any], *arrays: npt.NDArray[Any]) -> None:
        text = json.dumps(header).encode()
        answers.write(len(text).to_bytes(8, "little") + text)
        for array in arrays:
            answers.write(np.ascontiguousarray(array).tobytes())
        answers.flush()

    try:
        file = SealedFile(path)
    except (DamagedFile, OSError, MemoryError) as error:
        send({"error": str(error) or f"{path}: takes more memory than flow can"})
        return
    tables = [file.index.tables[name] for name in table_specs(file.manifest)]
    send({"manifest": file.manifest, "volatile": file.volatile}, *tables)
    for line in requests:
        try:
            if line == b"damaged\n":
                send({"damaged": file.damaged(range(file.grid.pairs))})
            else:
                send({}, file.codes(int(line.split()[1])))
        except (DamagedFile, MemoryError) as error:
            send({"error": str(error) or f"{path}: takes more memory than flow can"})


def _limit_memory() -> None:
    try:
        import resource  # not on every system

        with open("/proc/self/statm") as status:
            now = int(status.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY_BYTES, now + MEMORY_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, OSError, ValueError):
        return  # then the time limit remains


if __name__ == "__main__":
    _limit_memory()
    _serve(Path(sys.argv[1]), sys.stdin.buffer, sys.stdout.buffer)
