"""A video that arrives on a pipe: decoded once, in order, while it comes; memory does not grow with its
length.

MP4 and QuickTime files carry an index of all frames. Where it stands behind the pictures nothing can be
decoded before the last byte, so such a stream is kept in a temporary file first; fragmented files, those
written with `-movflags +faststart`, MPEG-TS, Matroska and WebM are decoded as they come.

    StreamSource ──the descriptor, and the bytes that were read from it──► worker: StreamReader
                 ◄──frames in a shared ring, times, warnings──
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from dataclasses import asdict
from fractions import Fraction
from typing import IO, Any

from vpipe.errors import EnvironmentFault, InputError
from vpipe.limits import limits
from vpipe.media.arriving import Told, arriving, walked
from vpipe.media.decoders import explained, hire, shared_ring
from vpipe.media.first_look import PLAYLISTS, declared_size, is_bmff, refuse_size
from vpipe.media.frame import WalkedFrame
from vpipe.media.pipe import NAME, Pipe, index_is_late
from vpipe.media.wire import from_fraction


class StreamSource(Told):
    """Frames of a video on a file descriptor, in order and once: the same frames and times as FrameSource's.

    size: (width, height) of what `walk` gives, px. threads: of the decoder. stall_s: after so many
    seconds without data the stream is taken to be over. `warnings` grows as decoding reports. Raises
    InputError: empty_stream, not_a_video, incomplete, no_video_stream, too_large, no_frames, decoder_crashed,
    timeout; EnvironmentFault disk_full, os_error where there is no room for a stream that must be kept.
    """

    def __init__(
        self, descriptor: int, *, size: tuple[int, int] | None = None, threads: int = 1, stall_s: float = 30.0
    ) -> None:
        super().__init__()
        self.path = NAME
        pipe = Pipe(descriptor, stall_s)
        head = pipe.head()
        if not head:
            why = "no data came" if pipe.stalled else "it is empty"
            raise InputError("empty_stream", f"{NAME}: {why}: pipe a video into it")
        if head.lstrip().startswith(PLAYLISTS) or b"<MPD" in head[:1024]:
            raise InputError("not_a_video", f"{NAME}: is a playlist: pipe the video itself")
        refuse_size(NAME, *declared_size(head))
        kept = _kept(pipe) if is_bmff(head) and index_is_late(head) else None
        self._request: dict[str, Any] = {
            "source": -1,  # the decoder has no other
            "path": NAME,
            "cwd": None,
            "limits": asdict(limits()),
        }
        how: dict[str, Any] = {"kept": kept is not None, "stall_s": stall_s, "stalled": pipe.stalled}
        how |= {"size": None if size is None else list(size), "threads": threads}
        self._worker = hire(anew=True)
        try:
            with explained(self._worker, NAME):
                self._worker.ask(
                    self._request | {"op": "open", "stream": how},
                    head if kept is None else b"",
                    fd=descriptor if kept is None else kept.fileno(),
                )
                header, _ = self._worker.answer()
                with self._worker.believed():
                    self.info, self.output_size = self._opened(header, NAME)
        except BaseException:
            self._worker.dismiss(keep=False)
            raise
        finally:
            if kept is not None:
                kept.close()

    def walk(self, fps: Fraction | None = None) -> Iterator[WalkedFrame]:
        """Every frame, once, as `FrameSource.walk` gives them."""
        from vpipe.media.shots import HEIGHT, WIDTH  # start-up: OpenCV

        shape = [self.output_size[1], self.output_size[0], 3]
        try:
            with explained(self._worker, NAME), shared_ring(tuple(shape)) as ring:
                how = {"op": "walk", "fps": fps and from_fraction(fps), "shape": shape, "slots": ring.slots}
                self._worker.ask(self._request | how, fd=ring.fd)
                read = walked((HEIGHT, WIDTH))
                yield from arriving(self._worker, ring, read, self._learn, small_bytes=HEIGHT * WIDTH)
        finally:
            self._worker.dismiss(keep=False)

    def stop(self) -> None:
        """Read no more: from another thread, while `walk` waits for data."""
        self._worker.process.kill()


def _kept(pipe: Pipe) -> IO[bytes]:
    """The whole stream. Raises EnvironmentFault."""
    try:
        return pipe.kept()
    except OSError as error:
        raise EnvironmentFault(
            "disk_full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "os_error",
            f"{NAME}: its index is at its end, and it cannot be kept until then: {error.strerror or error}; "
            "name a folder with room in TMPDIR, or send it with the index in front (-movflags +faststart)",
        ) from error
