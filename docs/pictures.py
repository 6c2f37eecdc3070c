"""Draws the pictures of the docs: python docs/pictures.py (needs the installed package).

vocabulary.jpg  one row a label: six moments of a shot, then its exact flow in the colour wheel
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from vpipe.flow.color import flow_to_rgb
from vpipe.synth.scene import random_scene
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import LABELS

HERE = Path(__file__).parent
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


if __name__ == "__main__":
    picture = cv2.cvtColor(vocabulary(), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(HERE / "vocabulary.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 82])
