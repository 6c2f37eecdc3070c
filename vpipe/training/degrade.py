"""What recording and flow estimation do to exact pictures and exact flow, for training on generated clips."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import av
import cv2
import numpy as np
from av.video.frame import VideoFrame

from vpipe.flow.quantise import Storage


def jpeg(frames: Sequence[np.ndarray], quality: int) -> list[np.ndarray]:
    """Each uint8 RGB frame through JPEG at this quality (1..100)."""
    coded = (cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, quality])[1] for frame in frames)
    return [np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR)) for data in coded]


def h264(frames: Sequence[np.ndarray], crf: int) -> list[np.ndarray]:
    """Uint8 RGB frames of one even size through H.264 at this constant rate factor."""
    height, width = frames[0].shape[:2]
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.framerate, encoder.thread_count = Fraction(8), 1
    encoder.options = {
        "preset": "ultrafast" if crf % 2 else "veryfast",
        "crf": str(crf),
        "x264-params": "cpu-independent=1",
    }
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    packets = []
    for number, frame in enumerate(frames):
        picture = VideoFrame.from_ndarray(frame, format="rgb24")
        picture.pts = number
        packets += encoder.encode(picture)
    packets += encoder.encode(None)
    decoded = [frame for packet in packets for frame in decoder.decode(packet)] + list(decoder.decode(None))
    decoded.sort(key=lambda frame: frame.pts or 0)
    return [frame.to_ndarray(format="rgb24") for frame in decoded]


def like_tvl1(flow: np.ndarray, rng: np.random.Generator, px_scale: float, storage: Storage) -> np.ndarray:
    """Turns the exact flows of a clip into what TV-L1 and the cache would give.

    flow float32 (T, 2, H, W), px of this picture; `px_scale` converts to px of the picture that TV-L1 would
    have run on, in which `storage` rounds. Smoothing over edges, weak texture (flow shrinks in places that
    stay the same for the whole clip), small fast things lost or seen in a wrong direction, displacements too
    long to follow, outliers, noise, then rounding.
    """
    frames, _, height, width = flow.shape
    flow = flow * px_scale
    smooth = float(rng.uniform(0.3, 2.2))
    weak = None
    if rng.random() < 0.35:
        field = cv2.resize(
            rng.standard_normal((5, 5)).astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
        weak = 1 - rng.uniform(0.3, 1.0) / (1 + np.exp(-4 * (field - rng.uniform(0.0, 1.2))))
    reach = float(np.exp(rng.uniform(np.log(8), np.log(60))))
    noise = float(rng.choice([0.0, 0.03, 0.1, 0.2]))
    outliers = rng.poisson(0.12, size=(frames,))
    losing = rng.random() < 0.7
    for t in range(frames):
        moved = _lose_small(flow[t], rng) if losing else flow[t]
        length = np.sqrt((moved**2).sum(0))
        if length.max() > reach:
            moved = moved * np.where(
                length > reach, rng.uniform(0, 0.8) * reach / np.maximum(length, 1e-6), 1
            )
        for _ in range(outliers[t]):
            blob = np.zeros((height, width), np.uint8)
            at = (int(rng.integers(width)), int(rng.integers(height)))
            axes = (int(rng.integers(2, 10)), int(rng.integers(2, 10)))
            cv2.ellipse(blob, at, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
            wrong = rng.normal(0, rng.choice([0.5, 3.0]), 2) if rng.random() < 0.6 else np.zeros(2)
            moved = np.where(blob[None] > 0, wrong[:, None, None], moved)
        if noise:
            grain = rng.standard_normal((2, height // 3 + 1, width // 3 + 1)).astype(np.float32) * noise
            moved = moved + np.stack([cv2.resize(g, (width, height)) for g in grain])
        if weak is not None:
            moved = moved * weak
        flow[t] = np.stack([cv2.GaussianBlur(c.astype(np.float32), (0, 0), smooth) for c in moved])
    return storage.dequantise(storage.quantise(flow)) / px_scale


def _lose_small(flow: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Coarse-to-fine methods lose what moves further than it is wide: an arm, a ball. Flow (2, H, W), px.

    Measured with TV-L1 on swinging arms: a third of the true speed is seen, and of that less than half in the
    true direction.
    """
    height, width = flow.shape[1:]
    around = np.stack([cv2.GaussianBlur(c, (0, 0), float(rng.uniform(3, 7))) for c in flow])
    own = flow - around
    speed = np.sqrt((own**2).sum(0))
    lost = np.clip((speed - 0.5) / 2, 0, 1) * float(rng.uniform(0.2, 1.0))
    wrong = np.stack(
        [cv2.resize(g, (width, height)) for g in rng.standard_normal((2, 12, 16)).astype(np.float32)]
    )
    wrong *= speed * float(rng.uniform(0, 0.6))
    return around + own * (1 - lost) + wrong * lost
