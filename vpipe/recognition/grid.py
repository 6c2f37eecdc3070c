"""Where the snippets of a model lie in a video.

    frames of the grid   0 1 2 3 4 5 6 7 8 9 10 11 ...       window 8, stride 4
    snippet 0           [-------c-------)
    snippet 1                   [-------c-------)

The grid is the video's own frames, or those nearest to k / fps. Packaged models and those of `vpipe train`
look at points of time, so their c is half way from the first frame to the last, (window - 1) / 2; an imported
model looks at frames that last, and its c is where the second half begins, window / 2.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from vpipe.errors import UsageError
from vpipe.models import Stream
from vpipe.recognition.published import DENSE_WINDOW
from vpipe.recognition.recognizer import Recognizer

STRIDE_S = Fraction(1, 4)  # of packaged models and those of `vpipe train`
SHORTEST_DEFAULT = 16  # frames of an imported model's snippet, unless it is told
LONGEST_DEFAULT = 64


@dataclass(frozen=True)
class SnippetGrid:
    """Snippet i covers frames [i * stride, i * stride + window) of the grid; i counts from 0."""

    window: int
    stride: int
    fps: Fraction | None  # of the grid; None: the video's own frames
    offset: Fraction  # of the first snippet's centre, in frames of the grid


def snippet_grid(recognizer: Recognizer, window: int | None = None, stride: int | None = None) -> SnippetGrid:
    """The grid that all streams of a model share; None takes what suits the model.

    Raises UsageError: `streams_differ`, `bad_window`, `bad_stride`.
    """
    for name, value in (("window", window), ("stride", stride)):
        if value is not None and value < 1:
            raise UsageError(f"bad_{name}", f"--{name} {value}: give at least 1 frame")
    streams = [ready.stream for ready in recognizer.streams]
    if len({stream.convention is None for stream in streams}) > 1:
        raise _differ(recognizer)
    if streams[0].convention is not None:
        return _published(recognizer, streams, window, stride)
    grids = {(ready.stream.fps, ready.clip_length) for ready in recognizer.streams}
    if len(grids) > 1:
        raise _differ(recognizer)
    ((fps, length),) = grids
    if window not in (None, length):
        raise UsageError(
            "bad_window",
            f"--window {window}: model '{recognizer.model.name}' looks at {length} frames of {fps} a second, "
            "no more and no fewer; leave --window out",
        )
    return SnippetGrid(length, stride or max(1, round(fps * STRIDE_S)), fps, Fraction(length - 1, 2))


def _published(
    recognizer: Recognizer, streams: list[Stream], window: int | None, stride: int | None
) -> SnippetGrid:
    grids = {None if stream.convention.native else stream.fps for stream in streams}
    if len(grids) > 1:
        raise _differ(recognizer)
    if window is None:
        spans = [
            stream.frames * stream.convention.stride
            if stream.convention.sampling == "clips"
            else DENSE_WINDOW
            for stream in streams
        ]
        window = min(max(SHORTEST_DEFAULT, *spans), LONGEST_DEFAULT)
    return SnippetGrid(window, stride or max(1, window // 4), grids.pop(), Fraction(window, 2))


def _differ(recognizer: Recognizer) -> UsageError:
    return UsageError(
        "streams_differ",
        f"model '{recognizer.model.name}': its streams look at clips of different length or rate; snippets "
        "need one: use its parts on their own",
    )
