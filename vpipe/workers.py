"""Worker processes that may crash, hang or eat memory in our place, because what they read is not trusted.

    we                         a fresh Python: MODULE.main(channel)
    Worker.send ──header, payload, fds──► Channel.receive
    Worker.receive ◄──header, payload─── Channel.send

A message is 4 bytes with the length of its JSON header, 4 with that of its payload, the header, the payload.
Nothing a worker says is executed or unpickled: the file it reads may have taken it over.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import logging
import math
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

_LENGTHS = struct.Struct("<II")
_HEADER_BYTES = 16 << 20
_PAYLOAD_BYTES = 1 << 30
_SLICE_S = 0.5  # of waiting; a longer one means that we were stopped or asleep ourselves
_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
_FILES = 64  # that a worker may have open
_PACKAGE_PARENT = str(Path(__file__).resolve().parent.parent)
# -P and the folder of this very package: no module of the current folder is taken for one of ours.
_BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from vpipe.workers import serve;"
    " serve(sys.argv[2], int(sys.argv[3]))"
)


class WorkerFault(Exception):
    """A worker that cannot go on; it is gone by now."""


class WorkerDied(WorkerFault):
    """It ended by itself or was killed. `how` is "SIGSEGV" or "exit code 1"."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class WorkerStalled(WorkerFault):
    """It said nothing for as long as it may."""


class WorkerLied(WorkerFault):
    """What it said makes no sense."""


_Started = tuple[subprocess.Popen[bytes], socket.socket]
_early: dict[str, _Started] = {}


def begin_early(module: str) -> None:
    """Start the process of the next worker of `module`, so that it is ready when it is asked for."""
    if module not in _early:
        with contextlib.suppress(OSError):  # then the worker says so when it is needed
            _early[module] = _launch(module)


def forget_early() -> None:
    """In a forked child: they are the parent's."""
    _early.clear()


def _launch(module: str) -> _Started:
    ours, its = socket.socketpair()
    said = None if logging.getLogger("vpipe").isEnabledFor(logging.DEBUG) else subprocess.DEVNULL
    command = [sys.executable, "-P", "-c", _BOOT, _PACKAGE_PARENT, module, str(its.fileno())]
    try:
        with its:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                pass_fds=[its.fileno()],
                env=os.environ | dict.fromkeys(_THREADS, "1"),
                start_new_session=True,  # Ctrl-C and Ctrl-Z are ours to handle
            )
    except BaseException:
        ours.close()
        raise
    ours.setblocking(False)
    return process, ours


class Worker:
    """One process, from our side. Every fault ends it. Not for several threads at once."""

    def __init__(self, module: str) -> None:
        early: _Started | None = _early.pop(module, None)
        if early is None or early[0].poll() is not None:
            early = _launch(module)
        self.process, self._socket = early
        self._buffer = bytearray()

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        """End it at once."""
        self._socket.close()
        self.process.kill()
        self.process.wait()

    def send(
        self, header: dict[str, Any], payload: bytes = b"", *, fd: int | None = None, stall_s: float
    ) -> None:
        """Raises WorkerDied, WorkerStalled."""
        data = memoryview(_pack(header, payload))
        while data:
            try:
                if fd is not None:
                    sent = socket.send_fds(self._socket, [data], [fd])
                    fd = None
                else:
                    sent = self._socket.send(data)
                data = data[sent:]
            except BlockingIOError:
                self._wait(select.POLLOUT, stall_s)
            except OSError:
                raise self._died() from None

    def receive(self, *, stall_s: float) -> tuple[dict[str, Any], bytes]:
        """The next message. Raises WorkerDied, WorkerLied, WorkerStalled where none comes for `stall_s`."""
        while (message := self._message()) is None:
            try:
                piece = self._socket.recv(1 << 18)
            except BlockingIOError:
                self._wait(select.POLLIN, stall_s)
                continue
            except OSError:
                piece = b""
            if not piece:
                raise self._died()
            self._buffer += piece
        return message

    def _message(self) -> tuple[dict[str, Any], bytes] | None:
        try:
            return _unpack(self._buffer)
        except ValueError as error:
            self.close()
            raise WorkerLied(str(error)) from None

    def _wait(self, events: int, stall_s: float) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        waited = 0.0
        while True:
            begin = time.monotonic()
            if poll.poll(1000 * min(_SLICE_S, max(0.0, stall_s - waited))):
                return
            # While we are stopped (Ctrl-Z), time that passes is not the worker's.
            waited += min(time.monotonic() - begin, 2 * _SLICE_S)
            if waited >= stall_s:
                self.close()
                raise WorkerStalled(f"no answer for {stall_s:g} s")

    def _died(self) -> WorkerDied:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)  # the socket closes a moment before the process is gone
        code = self.process.poll()
        self.close()
        if code is None:
            return WorkerDied("closed its end")
        return WorkerDied(f"exit code {code}" if code >= 0 else _signal_name(-code))


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _pack(header: dict[str, Any], payload: bytes) -> bytes:
    text = json.dumps(header, separators=(",", ":")).encode()
    return _LENGTHS.pack(len(text), len(payload)) + text + payload


def _unpack(buffer: bytearray) -> tuple[dict[str, Any], bytes] | None:
    """Take the first message out of `buffer`; None where it is not whole yet. Raises ValueError."""
    if len(buffer) < _LENGTHS.size:
        return None
    header_length, payload_length = _LENGTHS.unpack_from(buffer)
    if header_length > _HEADER_BYTES or payload_length > _PAYLOAD_BYTES:
        raise ValueError("an answer that is too long")
    middle = _LENGTHS.size + header_length
    end = middle + payload_length
    if len(buffer) < end:
        return None
    try:
        header = json.loads(buffer[_LENGTHS.size : middle])
    except RecursionError:
        raise ValueError("an answer that is nested too deeply") from None
    if not isinstance(header, dict):
        raise ValueError("an answer that is no object")
    payload = bytes(buffer[middle:end])
    del buffer[:end]
    return header, payload


# The worker's side


class Channel:
    """Our end of the socket, inside a worker. When the other end goes, the process ends."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._buffer = bytearray()
        self._fds: list[int] = []
        threading.Thread(target=self._end_with_parent, daemon=True).start()

    def _end_with_parent(self) -> None:
        # Also in the middle of a native call, and without waking up until it happens.
        poll = select.poll()
        poll.register(self._socket, 0)
        poll.poll()
        os._exit(0)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next message, whenever it comes."""
        while (message := _unpack(self._buffer)) is None:
            self._read()
        return message

    def waiting(self) -> bool:
        """Whether a message has come."""
        return bool(self._buffer) or bool(select.select([self._socket], [], [], 0)[0])

    def take_fd(self) -> int:
        """The file descriptor that came with a message; the caller closes it."""
        return self._fds.pop(0)

    def send(self, header: dict[str, Any], payload: bytes = b"") -> None:
        try:
            self._socket.sendall(_pack(header, payload))
        except OSError:
            os._exit(0)

    def _read(self) -> None:
        piece, fds, _, _ = socket.recv_fds(self._socket, 1 << 18, 4)
        self._fds += fds
        if not piece:
            os._exit(0)
        self._buffer += piece


def serve(module: str, fd: int) -> NoReturn:
    """What a worker runs: `main(channel)` of `module`."""
    _volunteer_for_the_oom_killer()
    importlib.import_module(module).main(Channel(fd))
    os._exit(0)


def _volunteer_for_the_oom_killer() -> None:
    """Where memory runs out, a worker goes before the process that would lose the batch."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("800")


def restrict(memory_bytes: int) -> None:
    """Let this process have `memory_bytes` more than now, write no file, open few and dump no core."""
    try:
        import resource  # not on every system
    except ImportError:
        return  # then the time limit remains
    wanted = {
        resource.RLIMIT_AS: address_space_bytes() + memory_bytes,
        resource.RLIMIT_FSIZE: 0,
        resource.RLIMIT_NOFILE: _FILES,
        resource.RLIMIT_CORE: 0,
    }
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (value, value))


def room_bytes() -> float:
    """What this process may still map; infinity where nothing limits it."""
    try:
        import resource  # not on every system
    except ImportError:
        return math.inf
    most, _ = resource.getrlimit(resource.RLIMIT_AS)
    return math.inf if most == resource.RLIM_INFINITY else most - address_space_bytes()


def address_space_bytes() -> int:
    """What this process has mapped."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except (OSError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
