"""Draws the pictures of the docs: python docs/pictures.py (needs the installed package).

vocabulary.jpg  one row a label: six moments of a shot, then its exact flow in the colour wheel
flow.jpg        a frame of a sample video beside its TV-L1 flow, as `vpipe flow --render` draws it
tvl1.jpg        a generated pair: the first picture, the true flow, `accurate`, and OpenCV's TV-L1
"""

from __future__ import annotations

import sys
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from vpipe.flow.color import display_max_px, flow_to_rgb, render
from vpipe.flow.methods import compute
from vpipe.flow.params import FlowParams
from vpipe.media import FrameSource
from vpipe.synth.scene import random_scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import LABELS

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))  # the benchmarks are no part of the package

from benchmarks.flow_pairs import generated_pair  # noqa: E402

WIDTH, HEIGHT = 192, 144
MOMENTS_S = np.arange(6) * 0.25


def vocabulary() -> np.ndarray:
    """RGB picture: labels down, time to the right."""
    rng = np.random.default_rng(26)
    pool = TexturePool(stock=30, stock_rng=rng)
    rows = []
    for label in LABELS:
        shot = random_scene(label, rng, pool, aspect=WIDTH / HEIGHT, duration_s=1.5)
        cells = [shot.render(float(t), WIDTH, HEIGHT) for t in MOMENTS_S]
        cells.append(flow_to_rgb(shot.flow(0.6, 0.725, WIDTH, HEIGHT), max_px=6))
        row = np.hstack(cells)
        cv2.putText(row, label, (5, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(row, label, (5, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 1, cv2.LINE_AA)
        rows.append(row)
    return np.vstack(rows)


def flow() -> np.ndarray:
    """RGB picture: the sixth frame of the sample at 8 frames a second, and the flow to the next one."""
    video = HERE.parent / "sample_videos" / "clips" / "clip_00001_zoom_in.mp4"
    grey = [
        frame.image for _, frame in FrameSource(video, short_side_px=128, color="gray").resample(Fraction(8))
    ]
    colour = [frame.image for _, frame in FrameSource(video, short_side_px=360).resample(Fraction(8))]
    found = compute(grey[5], grey[6], FlowParams.preset("accurate", short_side_px=128, fps=Fraction(8)))
    return np.hstack([colour[5], render(found, display_max_px([found]))])


def tvl1() -> np.ndarray:
    """RGB picture: three objects that move over moving ground, and what is found of it."""
    pair = generated_pair("objects", np.random.default_rng(4))
    reach = float(np.hypot(*pair.truth).max())
    found = [
        compute(pair.first, pair.second, params)
        for params in (FlowParams.preset("accurate"), FlowParams.preset("parity", method="opencv-tvl1"))
    ]
    flows = [flow_to_rgb(flow, reach) for flow in (pair.truth, *found)]
    return np.hstack([cv2.cvtColor(pair.first, cv2.COLOR_GRAY2RGB), *flows])


if __name__ == "__main__":
    for name, picture in (("vocabulary", vocabulary()), ("flow", flow()), ("tvl1", tvl1())):
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(HERE / f"{name}.jpg"), bgr, [cv2.IMWRITE_JPEG_QUALITY, 82])
