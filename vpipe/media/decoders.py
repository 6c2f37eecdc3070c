"""Our decoder processes: one kept warm for each thread that reads, begun anew after a crash."""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from vpipe.errors import EnvironmentFault, InputError
from vpipe.limits import limits
from vpipe.media.first_look import display_name
from vpipe.media.ring import Ring, slots_for
from vpipe.workers import Worker, WorkerDied, WorkerLied, WorkerStalled, forget_early

STOP_WITHIN_S = 1.0  # for a decoder that is told to leave off; then it is ended

_lock = threading.Lock()
_idle: list[Decoder] = []
_working: set[Decoder] = set()


class UsedDecoderCrashed(InputError):
    """A decoder that had read other files crashed: it may have been their fault."""


class Decoder(Worker):
    """A worker that decodes. `resting` is whether it waits for the next request."""

    def __init__(self) -> None:
        super().__init__("vpipe.media.worker")
        self.memory_bytes = limits().memory_bytes
        self.resting = self.fresh = True
        self.tired = False
        super().send({"memory_bytes": self.memory_bytes}, stall_s=limits().stall_s)

    def ask(self, request: dict[str, Any], payload: bytes = b"", *, fd: int | None = None) -> None:
        self.resting = False
        self.send(request, payload, fd=fd, stall_s=limits().stall_s)

    def answer(self) -> tuple[dict[str, Any], bytes]:
        """The next message but ticks. Raises InputError where the request failed, WorkerFault."""
        while True:
            header, payload = self.receive(stall_s=limits().stall_s)
            if "tick" not in header:
                break
        if "done" in header:
            self.resting = True
            self.fresh = False
            self.tired = header.get("retire") is True
        return header, payload

    @contextmanager
    def believed(self) -> Iterator[None]:
        """What cannot be true ends the decoder. Raises WorkerLied."""
        try:
            yield
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            self.resting = False
            raise WorkerLied(str(error)[:200]) from None

    def dismiss(self, *, keep: bool = True) -> None:
        """It is needed no more: kept for the next one where it can be."""
        with _lock:
            _working.discard(self)
            if keep and self.resting and not self.tired and self.alive:
                _idle.append(self)
                return
        self.close()

    def leave_off(self) -> None:
        """End the request under way. Raises WorkerFault where that takes long: then the process is to end."""
        deadline = time.monotonic() + STOP_WITHIN_S
        self.send({"stop": True}, stall_s=STOP_WITHIN_S)
        while not self.resting and time.monotonic() < deadline:
            header, _ = self.receive(stall_s=STOP_WITHIN_S)
            self.resting = "done" in header


@contextmanager
def decoder(path: str | os.PathLike[str], *, anew: bool = False) -> Iterator[Decoder]:
    """A decoder for one request about `path`, warm where there is one and it need not be `anew`.

    Raises InputError as `explained` does, EnvironmentFault as `hire`.
    """
    worker = hire(anew=anew)
    try:
        with explained(worker, display_name(path)):
            yield worker
    finally:
        worker.dismiss()


@contextmanager
def explained(worker: Decoder, name: str) -> Iterator[None]:
    """What befalls `worker` at work on the file `name`, as InputError: decoder_crashed, timeout."""
    fresh = worker.fresh
    try:
        yield
    except WorkerStalled as fault:
        text = f"{name}: the decoder hangs ({fault}): the file is skipped; --max-stall waits longer"
        raise InputError("timeout", text) from None
    except WorkerLied as fault:
        raise InputError("decoder_crashed", f"{name}: the decoder speaks nonsense ({fault})") from None
    except WorkerDied as fault:
        why = " (out of memory?)" if fault.how == "SIGKILL" else ""
        text = f"{name}: the decoder crashed on this file: {fault.how}{why}; convert it, or leave it out"
        raise (InputError if fresh else UsedDecoderCrashed)("decoder_crashed", text) from None


def hire(*, anew: bool) -> Decoder:
    """A decoder, warm where there is one and it need not be `anew`; to be dismissed.

    Raises EnvironmentFault no_decoder.
    """
    with _lock:
        while _idle and not anew:
            worker = _idle.pop()
            if worker.alive and worker.memory_bytes == limits().memory_bytes:
                _working.add(worker)
                return worker
            worker.close()
    try:
        worker = Decoder()
    except (OSError, WorkerDied) as error:
        raise EnvironmentFault(
            "no_decoder",
            f"cannot start a decoder process: {getattr(error, 'strerror', None) or error}; allow more "
            "processes, files or memory (ulimit -a shows what is allowed)",
        ) from error
    with _lock:
        _working.add(worker)
    return worker


@contextmanager
def shared_ring(shape: tuple[int, ...]) -> Iterator[Ring]:
    """Room for frames of uint8 `shape`. Raises EnvironmentFault where there is none."""
    size = math.prod(shape)
    try:
        ring = Ring(shape, slots_for(size))
    except OSError as error:
        raise EnvironmentFault(
            "no_shared_memory",
            f"no room for {slots_for(size)} frames of {size >> 10} KiB: {error.strerror or error}; free some "
            "memory, or descriptors (ulimit -n)",
        ) from error
    try:
        yield ring
    finally:
        ring.close()
        ring.close_fd()


def end_all() -> None:
    """End every decoder process, working or not: who waits for one hears that it died."""
    with _lock:
        workers = [*_idle, *_working]
        _idle.clear()
    for worker in workers:
        worker.process.kill()


def _forget() -> None:
    """In a forked child: they are the parent's."""
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    _working.clear()
    forget_early()


atexit.register(end_all)
os.register_at_fork(after_in_child=_forget)
