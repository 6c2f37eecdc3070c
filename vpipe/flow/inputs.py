"""What a flow method accepts: two gray pictures of one size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from vpipe.errors import VpipeError

MIN_SIDE_PX = 16


class FlowInputError(VpipeError, ValueError):
    """Arrays no flow can be computed between: sizes differ, wrong dtype or shape, empty, NaN."""


def checked_pair(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Both, as they are. Raises FlowInputError where one is no gray picture or their sizes differ.

    Gray is (H, W), at least 16 px a side: uint8, or float32 or float64 in 0..255 without NaN.
    """
    for image, which in ((a, "first"), (b, "second")):
        _check(image, which)
    if a.shape != b.shape:
        raise FlowInputError("flow_sizes_differ", f"the pictures differ in size: {a.shape} and {b.shape}")
    return a, b


def _check(image: npt.NDArray[Any], which: str) -> None:
    if not isinstance(image, np.ndarray) or image.ndim != 2:
        shape = getattr(image, "shape", type(image).__name__)
        raise FlowInputError("flow_bad_shape", f"the {which} picture is {shape}: give a gray array (H, W)")
    if image.size == 0:
        raise FlowInputError("flow_empty", f"the {which} picture is empty: {image.shape}")
    if min(image.shape) < MIN_SIDE_PX:
        raise FlowInputError(
            "flow_too_small", f"the {which} picture {image.shape} has a side under {MIN_SIDE_PX} px"
        )
    if image.dtype == np.uint8:
        return
    if image.dtype not in (np.float32, np.float64):
        raise FlowInputError("flow_bad_dtype", f"the {which} picture is {image.dtype}: give uint8 or float")
    if not np.isfinite(image).all():
        raise FlowInputError("flow_not_finite", f"the {which} picture holds NaN or infinity")
    if image.min() < 0 or image.max() > 255:
        raise FlowInputError("flow_bad_range", f"the {which} picture leaves 0..255")
