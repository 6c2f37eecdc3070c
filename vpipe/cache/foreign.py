"""Flow files from elsewhere are opened by a process of their own: it may crash, hang or eat memory, not we.

request            answer
open (path)        manifest, volatile; the tables end to end as payload
damaged            the pairs that cannot be read
codes (pair)       the codes of one flow as payload

Nothing the worker says is executed or unpickled: it may have been taken over by the file.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vpipe.cache.records import DamagedFile
from vpipe.cache.sealed import FlowFile, SealedFile
from vpipe.cache.structure import Index, check_manifest, table_specs
from vpipe.workers import Channel, Worker, WorkerDied, WorkerFault, WorkerStalled, restrict

ANSWER_WITHIN_S = 30.0
MEMORY_BYTES = 2 << 30  # beyond what the worker has when it begins


class ForeignFile(FlowFile):
    """A flow file that is read by a worker; a context manager, which ends it.

    Raises DamagedFile where the file is not one, or the worker dies or does not answer.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._worker = Worker("vpipe.cache.foreign")
        try:
            header, data = self._ask({"open": os.path.abspath(path)})
            manifest = header["manifest"]
            check_manifest(manifest, lambda reason: DamagedFile(f"{path}: {reason}"))
            if manifest["shape"][0] > os.stat(path).st_size:
                raise DamagedFile(f"{path}: claims more flows than it has bytes")
            tables = {}
            for name, (dtype, shape) in table_specs(manifest).items():
                size = dtype.itemsize * int(np.prod(shape))
                tables[name] = np.frombuffer(data[:size], dtype).reshape(shape)
                data = data[size:]
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
        self._worker.close()

    def damaged(self, pairs: Iterable[int]) -> list[int]:
        """Those of `pairs` that cannot be read as they were written."""
        bad = set(self._ask({"damaged": True})[0]["damaged"])
        return [pair for pair in pairs if pair in bad]

    def codes(self, pair: int) -> npt.NDArray[Any]:
        """The codes (2, H, W) of one flow. Raises DamagedFile, naming it."""
        width, height = self.grid.size
        _, data = self._ask({"codes": pair})
        if len(data) != 2 * width * height * self.storage.dtype.itemsize:
            raise DamagedFile(f"{self.path}: a flow of another size than it says")
        return np.frombuffer(data, self.storage.dtype).reshape(2, height, width)

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        try:
            self._worker.send(request, stall_s=ANSWER_WITHIN_S)
            header, data = self._worker.receive(stall_s=ANSWER_WITHIN_S)
        except WorkerStalled:
            raise DamagedFile(f"{self.path}: reading it takes too long") from None
        except WorkerDied as fault:
            raise DamagedFile(f"{self.path}: the process that reads it ended ({fault.how})") from None
        except WorkerFault as fault:
            raise DamagedFile(f"{self.path}: the process that reads it speaks nonsense ({fault})") from None
        if "error" in header:
            raise DamagedFile(str(header["error"]))
        return header, data


def main(channel: Channel) -> None:
    """The worker: the index of a file, then an answer to each request."""
    restrict(MEMORY_BYTES)
    first, _ = channel.receive()
    path = Path(first["open"])
    try:
        file = SealedFile(path)
    except (DamagedFile, OSError, MemoryError) as error:
        channel.send({"error": str(error) or f"{path}: takes more memory than flow can"})
        return
    tables = b"".join(file.index.tables[name].tobytes() for name in table_specs(file.manifest))
    channel.send({"manifest": file.manifest, "volatile": file.volatile}, tables)
    while True:
        request, _ = channel.receive()
        try:
            if "damaged" in request:
                channel.send({"damaged": file.damaged(range(file.grid.pairs))})
            else:
                channel.send({}, np.ascontiguousarray(file.codes(int(request["codes"]))).tobytes())
        except (DamagedFile, MemoryError) as error:
            channel.send({"error": str(error) or f"{path}: takes more memory than flow can"})
