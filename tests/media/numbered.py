"""Videos whose every frame carries its own number, readable after any compression, scaling or decoding."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

os.environ.setdefault("SVT_LOG", "1")  # errors only

WIDTH, HEIGHT = 160, 96
PRESETS = {"libx264": {"preset": "veryfast"}, "libx265": {"preset": "ultrafast"}}
BIT_ROWS, BIT_COLUMNS = 2, 5  # a 10-bit number in a grid of black and white blocks


def picture(number: int, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """uint8 (H, W, 3): the bits of `number` as blocks, with some texture that moves."""
    bits = [(number >> bit) & 1 for bit in range(BIT_ROWS * BIT_COLUMNS)]
    blocks = np.array(bits, np.uint8).reshape(BIT_ROWS, BIT_COLUMNS) * 170 + 30
    rows = np.arange(height) * BIT_ROWS // height
    columns = np.arange(width) * BIT_COLUMNS // width
    image = blocks[rows][:, columns].astype(np.int16)
    texture = 12 * np.sin((np.arange(width) + 3 * number) / 5)
    image = image + texture[None, :].astype(np.int16)
    return np.repeat(image.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def number_of(image: NDArray[np.uint8]) -> int:
    """The number drawn into a decoded frame (gray or RGB) of any size."""
    gray = image if image.ndim == 2 else image.mean(axis=2)
    height, width = gray.shape
    number = 0
    for bit in range(BIT_ROWS * BIT_COLUMNS):
        row, column = divmod(bit, BIT_COLUMNS)
        y0, y1 = (4 * row + 1) * height // (4 * BIT_ROWS), (4 * row + 3) * height // (4 * BIT_ROWS)
        x0, x1 = (4 * column + 1) * width // (4 * BIT_COLUMNS), (4 * column + 3) * width // (4 * BIT_COLUMNS)
        number |= int(gray[y0:y1, x0:x1].mean() > 115) << bit
    return number


@dataclass(frozen=True)
class Recipe:
    """How to write one video. times_s: of each frame as stored; None: index / 30."""

    suffix: str
    codec: str
    options: dict[str, str] = field(default_factory=dict)
    times_s: tuple[Fraction, ...] | None = None
    time_base: Fraction = Fraction(1, 15360)
    frames: int = 60
    rate: Fraction = Fraction(30)
    rotation: int = 0
    mirrored: bool = False
    pix_fmt: str = "yuv420p"

    def stored_times(self) -> tuple[Fraction, ...]:
        return self.times_s or tuple(index / self.rate for index in range(self.frames))


def write(path: Path, recipe: Recipe) -> Path:
    """Write the video; frame i shows number i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            recipe.codec, rate=recipe.rate, options=PRESETS.get(recipe.codec, {}) | recipe.options
        )
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, recipe.pix_fmt
        base = 1 / recipe.rate if recipe.suffix == ".avi" else recipe.time_base
        stream.codec_context.time_base = stream.time_base = base
        stream.codec_context.thread_count = 1
        if recipe.rotation or recipe.mirrored:
            stream.set_display_rotation(recipe.rotation, hflip=recipe.mirrored)
        for number, time_s in enumerate(recipe.stored_times()):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
            frame.pts, frame.time_base = round(time_s / base), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def jittered(count: int, seed: int, start_s: Fraction = Fraction(0)) -> tuple[Fraction, ...]:
    """Rising times in whole milliseconds, 10 to 90 ms apart."""
    steps = np.random.default_rng(seed).integers(10, 90, count)
    return tuple(start_s + Fraction(int(ms), 1000) for ms in np.cumsum(steps) - steps[0])


MS = Fraction(1, 1000)
OPEN_GOP = "open-gop=1:keyint=12:min-keyint=12:bframes=3:b-adapt=0:scenecut=0"
X265 = "log-level=none:open-gop=1:keyint=12:min-keyint=12:bframes=3:pools=none:wpp=0:frame-threads=1"

RECIPES: dict[str, Recipe] = {
    "h264_cfr": Recipe(".mp4", "libx264", {"bf": "0", "g": "12"}),
    "h264_b_frames": Recipe(".mp4", "libx264", {"bf": "3", "g": "15", "preset": "veryfast"}),
    "h264_ntsc": Recipe(
        ".mp4", "libx264", {"g": "20"}, time_base=Fraction(1, 30000), rate=Fraction(30000, 1001)
    ),
    "h264_open_gop": Recipe(".mp4", "libx264", {"x264-params": OPEN_GOP}),
    "h264_open_gop_mkv": Recipe(".mkv", "libx264", {"x264-params": OPEN_GOP}, jittered(60, 3), time_base=MS),
    "h264_intra_refresh": Recipe(".mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=15:bframes=0"}),
    "h264_one_gop": Recipe(".mp4", "libx264", {"g": "1000", "bf": "3"}),
    "h264_vfr": Recipe(".mp4", "libx264", {"g": "12"}, jittered(60, 1), time_base=Fraction(1, 16000)),
    "h264_gap": Recipe(
        ".mkv",
        "libx264",
        {"g": "12"},
        tuple(Fraction(33 * i + (5000 if i >= 30 else 0), 1000) for i in range(60)),
        time_base=MS,
    ),
    "h264_late_start": Recipe(".mkv", "libx264", {"g": "12"}, jittered(60, 2, Fraction(10)), time_base=MS),
    "h264_ts": Recipe(".ts", "libx264", {"g": "12", "bf": "2"}, time_base=Fraction(1, 90000)),
    "hevc_open_gop": Recipe(".mp4", "libx265", {"x265-params": X265}),
    "mpeg4_avi_b_frames": Recipe(".avi", "mpeg4", {"bf": "2", "g": "12"}),
    "mpeg4_mp4_b_frames": Recipe(".mp4", "mpeg4", {"bf": "2", "g": "12"}),
    "h264_avi_b_frames": Recipe(".avi", "libx264", {"bf": "2", "g": "12"}),
    "vp8_hidden_frames": Recipe(
        ".webm",
        "libvpx",
        {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20", "cpu-used": "8"},
        time_base=MS,
    ),
    "vp9_hidden_frames": Recipe(
        ".webm",
        "libvpx-vp9",
        {"auto-alt-ref": "1", "lag-in-frames": "16", "g": "20", "cpu-used": "8", "deadline": "good"},
        jittered(60, 4),
        time_base=MS,
    ),
    "av1": Recipe(".mp4", "libsvtav1", {"preset": "12", "crf": "30", "g": "20", "svtav1-params": "lp=1"}),
    "mjpeg": Recipe(".avi", "mjpeg", pix_fmt="yuvj420p"),
    "ffv1": Recipe(".mkv", "ffv1", {"g": "12"}, jittered(60, 5), time_base=MS),
}


def expected_times(recipe: Recipe) -> list[Fraction]:
    """What a reader must report: the PTS that were written, the first at 0."""
    base = 1 / recipe.rate if recipe.suffix == ".avi" else recipe.time_base
    pts = [round(time_s / base) for time_s in recipe.stored_times()]
    return [(value - pts[0]) * base for value in pts]
