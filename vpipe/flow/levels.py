"""The levels of a picture's pyramid: their sizes, and the blur between them."""

from __future__ import annotations

import math

from vpipe.flow.inputs import MIN_SIDE_PX
from vpipe.flow.params import FlowParams


def level_sizes(height: int, width: int, params: FlowParams) -> list[tuple[int, int]]:
    """(height, width) of each level, finest first: at most `scales`, none under 16 px."""
    sizes = [(height, width)]
    while len(sizes) < params.scales:
        height, width = round(height * params.scale_step), round(width * params.scale_step)
        if min(height, width) < MIN_SIDE_PX:
            break
        sizes.append((height, width))
    return sizes


def blur_sigma(params: FlowParams) -> float:
    """Deviation, in px of the finer level, of the blur before each reduction; 0: none."""
    return params.pyramid_blur * math.sqrt(1 / params.scale_step**2 - 1)
