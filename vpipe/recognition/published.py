"""What published models look at: their index formulas, their resizing and their crops.

uniform segments (TSN, TSM)      tick = (n - stack + 1) / segments, segment i begins at int(tick / 2 + tick i)
frames    0 . . . . . 6 . . . . . 12 . . . . . 18 . . . . . 24
segment         |           |            |            |           tick 6: 3, 9, 15, 21
twice     |           |            |             |                the second sample: int(tick i)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from vpipe.media import FrameSource
from vpipe.models import Stream
from vpipe.models.convention import Convention
from vpipe.recognition.preprocess import Crops, View

DENSE_WINDOW = 64  # frames that TSM's dense sampling spans


def clip_indices(
    convention: Convention, inputs: int, length: int, *, clips: int, twice: bool
) -> list[list[int]]:
    """Which of `length` frames (or flows) each clip of `inputs` takes; past the end as the convention says.

    Raises ValueError for a length below 1.
    """
    if length < 1:
        raise ValueError("a video has at least one frame")
    if convention.sampling == "segments":
        found = _segments(convention, length, twice)
    elif convention.sampling == "dense":
        found = _dense(convention, length, clips)
    else:
        found = _consecutive(inputs, convention.stride, length, clips, twice)
    if convention.past_end == "wrap":
        return [[index % length for index in clip] for clip in found]
    return [[min(index, length - 1) for index in clip] for clip in found]


def _segments(convention: Convention, length: int, twice: bool) -> list[list[int]]:
    count, stack = convention.segments, convention.stack
    tick = max(length - stack + 1, 1) / count
    starts = [[int(tick / 2 + tick * i) for i in range(count)]]
    if twice:
        starts.append([int(tick * i) for i in range(count)])
    return [[start + k for start in clip for k in range(stack)] for clip in starts]


def _dense(convention: Convention, length: int, clips: int) -> list[list[int]]:
    """TSM's dense sampling: windows of 64 frames from evenly spread starts, wrapping at the end."""
    stride = max(DENSE_WINDOW // convention.segments, 1)
    places = max(1, 1 + length - DENSE_WINDOW)
    starts = np.linspace(0, places - 1, num=clips, dtype=int)
    return [[(int(start) + stride * i) % length for i in range(convention.segments)] for start in starts]


def _consecutive(inputs: int, stride: int, length: int, clips: int, twice: bool) -> list[list[int]]:
    """Clips in the middle of equal shares of the possible starts (mmaction2's SampleFrames)."""
    share = max(length - inputs * stride + 1, 1) / clips
    starts = [int(share / 2 + share * i) for i in range(clips)]
    if twice:
        starts += [int(share * i) for i in range(clips)]
    return [[start + stride * k for k in range(inputs)] for start in dict.fromkeys(starts)]


def read_frames(source: FrameSource, clips: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """Clips (T, H, W, 3) uint8 ; each frame is decoded once and kept while a clip needs it."""
    last_use = {index: number for number, clip in enumerate(clips) for index in clip}
    decoded = source.select(sorted(last_use))
    held: dict[int, np.ndarray] = {}
    for number, clip in enumerate(clips):
        while not all(index in held for index in clip):
            frame = next(decoded)
            held[frame.index] = frame.image
        yield np.stack([held[index] for index in clip])
        held = {index: image for index, image in held.items() if last_use[index] > number}


def resized(picture: np.ndarray, convention: Convention) -> np.ndarray:
    """(H, W, C) uint8 -> (h, w, C) uint8 by the model's resize rule and interpolation."""
    height, width = picture.shape[:2]
    if convention.resize == "fixed":
        to = (convention.scale[0], convention.scale[1])
    else:
        to = short_side(width, height, convention.scale[0], rounding=convention.interpolation == "cv2")
    if to == (width, height):
        return picture
    if convention.interpolation == "cv2":
        import cv2  # here, because most models do without and start-up should too

        return np.asarray(cv2.resize(picture, to, interpolation=cv2.INTER_LINEAR))
    # torch's antialiased bilinear on bytes is Pillow's, which the reference calls.
    planes = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None]
    smaller = torch.nn.functional.interpolate(planes, (to[1], to[0]), mode="bilinear", antialias=True)
    return smaller[0].permute(1, 2, 0).contiguous().numpy()


def short_side(width: int, height: int, side: int, *, rounding: bool) -> tuple[int, int]:
    """(width, height) whose short side is `side`; the other rounded (mmaction2) or cut (torchvision)."""
    up = 0.5 if rounding else 0.0
    if width < height:
        return side, int(side * height / width + up)
    return int(side * width / height + up), side


def windows(clip: np.ndarray, size: tuple[int, int], crops: Crops, convention: Convention) -> Iterator[View]:
    """The crops of a resized clip (T, H, W, C).

    1: the centre. 3: squares of the short side, at the ends and in the middle of the long one. 10: four
    corners and the centre, and the five mirrored; a mirrored flow runs the other way.
    """
    height, width = clip.shape[1:3]
    wide, high = (min(size[0], width), min(size[1], height)) if crops != 3 else (min(width, height),) * 2
    room_x, room_y = width - wide, height - high
    # Corners and centre stand on a grid of quarters, as in TSN's oversampling.
    step_x, step_y = room_x // 4, room_y // 4
    if crops == 1:
        half_up = convention.interpolation == "pil"  # torchvision rounds half to even, OpenCV users cut
        places = [(round(room_x / 2), round(room_y / 2)) if half_up else (room_x // 2, room_y // 2)]
    elif crops == 3:
        places = [(0, 0), (step_x * 4, step_y * 4), (step_x * 2, step_y * 2)]
    else:
        ends_x, ends_y = (0, 4 * step_x), (0, 4 * step_y)
        places = [(x, y) for y in ends_y for x in ends_x] + [(2 * step_x, 2 * step_y)]
    for mirrored in (False, True) if crops == 10 else (False,):
        for x, y in places:
            window = clip[:, y : y + high, x : x + wide]
            if mirrored:
                window = window[:, :, ::-1]
                if clip.shape[-1] == 2:
                    window = window * np.array([-1, 1], dtype=window.dtype)
            yield View(window, mirrored)


def rgb_frames(source: FrameSource, stream: Stream, *, clips: int, twice: bool) -> list[list[int]]:
    """The frames of every clip, in its order."""
    convention: Convention = stream.convention
    grid = source.grid(None if convention.native else stream.fps)
    taken = clip_indices(convention, stream.frames, len(grid), clips=clips, twice=twice)
    return [[grid[k] for k in indices] for indices in taken]


def rgb_views(path: Path, stream: Stream, *, clips: int, crops: Crops, twice: bool) -> Iterator[View]:
    """Every crop of every clip, (T, h, w, 3) uint8 in the order of channels of the model."""
    convention: Convention = stream.convention
    source = FrameSource(path)
    for clip in read_frames(source, rgb_frames(source, stream, clips=clips, twice=twice)):
        pictures = np.stack([resized(picture, convention) for picture in clip])
        if convention.order == "bgr":
            pictures = pictures[..., ::-1]
        yield from windows(pictures, stream.size, crops, convention)


def flow_views(flows: Iterable[np.ndarray], stream: Stream, *, crops: Crops) -> Iterator[View]:
    """Every crop of clips of flow (T, 2, H, W), px -> (T, h, w, 2), clipped to the bound, stacks in order.

    Flow that was computed at the model's scale is not resized; for a fixed scale it is, its values staying.
    """
    import cv2  # here, because RGB models do without and start-up should too

    convention: Convention = stream.convention
    for clip in flows:
        pictures = np.clip(clip.transpose(0, 2, 3, 1), -stream.bound, stream.bound)
        if convention.resize == "fixed":
            to = (convention.scale[0], convention.scale[1])
            pictures = np.stack([cv2.resize(one, to, interpolation=cv2.INTER_LINEAR) for one in pictures])
        if convention.first_pair_last:  # jeffreyyihuang's loader counts channels from one
            stacks = pictures.reshape(-1, convention.stack, *pictures.shape[1:])
            pictures = np.roll(stacks, -1, axis=1).reshape(pictures.shape)
        yield from windows(pictures, stream.size, crops, convention)
