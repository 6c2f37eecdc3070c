"""From decoded frames and cached flow to what a network takes.

Letters in shapes: N clips, T inputs of a clip, C channels (3 RGB, 2 flow), H, W.

Crops, for models that see the whole frame stretched to their input size (w, h):
  1   the whole frame
  3   the frame stretched to 8/7 of the size, and three w x h windows along the longer side of the video
  10  the same larger frame, its four corners and its centre, and the five mirrored
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from vpipe.models import Stream

Crops = Literal[1, 3, 10]
CROP_SCALE = (8, 7)  # the larger frame over the window, as 256 over 224


@dataclass(frozen=True)
class View:
    """One clip as the network will see it: (T, H, W, 3) uint8 RGB or (T, H, W, 2) float32 flow in px."""

    inputs: np.ndarray
    mirrored: bool = False


def decode_size(size: tuple[int, int], crops: Crops) -> tuple[int, int]:
    """(width, height) to stretch frames to, so that `crops` windows of `size` can be cut from them."""
    if crops == 1:
        return size
    up, down = CROP_SCALE
    width, height = (round(side * up / down) for side in size)
    return width, height


def views(clip: np.ndarray, size: tuple[int, int], crops: Crops, *, wide: bool) -> Iterator[View]:
    """The windows of one clip (T, H, W, C), which has the decode size; `wide`: the video is wider than high.

    A mirrored flow runs the other way: its u is negated.
    """
    width, height = size
    room_x, room_y = clip.shape[2] - width, clip.shape[1] - height
    middle = (room_x // 2, room_y // 2)
    if crops == 1:
        corners = [(0, 0)]
    elif crops == 3 and wide:
        corners = [(x, middle[1]) for x in (0, middle[0], room_x)]
    elif crops == 3:
        corners = [(middle[0], y) for y in (0, middle[1], room_y)]
    else:
        corners = [(0, 0), (room_x, 0), (0, room_y), (room_x, room_y), middle]
    for mirrored in (False, True) if crops == 10 else (False,):
        for x, y in corners:
            window = clip[:, y : y + height, x : x + width]
            if mirrored:
                window = window[:, :, ::-1]
                if clip.shape[-1] == 2:
                    window = window * np.array([-1, 1], dtype=window.dtype)
            yield View(window, mirrored)


def resize_flow(flows: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(T, 2, H, W) float32 px -> (T, h, w, 2), averaged over areas, in px of the new size (width, height)."""
    import cv2  # here, because only flow streams need it and start-up should not

    width, height = size
    scale = np.array([width / flows.shape[3], height / flows.shape[2]], dtype=np.float32)
    resized = np.empty((len(flows), height, width, 2), dtype=np.float32)
    for out, flow in zip(resized, flows, strict=True):
        picture = np.ascontiguousarray(flow.transpose(1, 2, 0))
        out[...] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA) * scale
    return resized


class Normalise:
    """(..., H, W, C) uint8 RGB or float32 flow, as stored -> (..., C, H, W) float on the device, normalised.

    RGB: (x / 255 - mean) / std; flow: (px - mean) / std.
    """

    def __init__(self, stream: Stream, device: str, dtype: torch.dtype) -> None:
        unit = 255.0 if stream.modality == "rgb" else 1.0
        shape = (-1, 1, 1)
        self._scale = (1 / (unit * torch.tensor(stream.std))).view(shape).to(device)
        self._shift = (torch.tensor(stream.mean) / torch.tensor(stream.std)).view(shape).to(device)
        self._device, self._dtype = device, dtype
        self._upload, self._one_at_a_time = Upload(device), threading.Lock()

    def __call__(self, inputs: np.ndarray) -> Tensor:
        return self._normalised(torch.from_numpy(np.ascontiguousarray(inputs)).to(self._device))

    def clips(self, inputs: Sequence[np.ndarray]) -> Tensor:
        """The same for N arrays of one shape: (N, ..., C, H, W)."""
        if self._device == "cpu":
            return self._normalised(torch.from_numpy(np.stack(inputs)))
        with self._one_at_a_time:
            return self._normalised(self._upload.copied(inputs))

    def _normalised(self, tensor: Tensor) -> Tensor:
        return (tensor.movedim(-1, -3).float() * self._scale - self._shift).to(self._dtype)


class Upload:
    """Copies arrays to a GPU by way of two buffers whose pages stay where they are.

    The GPU takes one by itself while the other is filled, and not more than two batches wait for it.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self._buffers: list[Tensor | None] = [None, None]
        self._taken: list[Any] = [None, None]  # events: the GPU has come to the work that needs this copy
        self._turn = 0

    def copied(self, inputs: Sequence[np.ndarray]) -> Tensor:
        """N arrays of one shape -> (N, ...) on the device, which may still be at it."""
        turn, self._turn = self._turn, 1 - self._turn
        if self._taken[turn] is not None:
            self._taken[turn].synchronize()
        kind = torch.from_numpy(np.empty(0, inputs[0].dtype)).dtype
        shape = (len(inputs), *inputs[0].shape)
        buffer = self._buffers[turn]
        if buffer is None or buffer.shape != shape or buffer.dtype != kind:
            buffer = self._buffers[turn] = torch.empty(shape, dtype=kind, pin_memory=True)
        np.stack(inputs, out=buffer.numpy())
        there = buffer.to(self._device, non_blocking=True)
        self._taken[turn] = torch.cuda.Event()
        self._taken[turn].record(torch.cuda.current_stream(self._device))
        return there


def mirror_columns(stream: Stream, labels: Sequence[str]) -> np.ndarray:
    """For every label the column that holds its score when the clip was mirrored, (C,) int64.

    A camera that pans left in the mirror pans right.
    """
    flipped: dict[str, Any] = stream.flip_labels
    column = {label: i for i, label in enumerate(labels)}
    return np.array([column[flipped.get(label, label)] for label in labels], dtype=np.int64)
