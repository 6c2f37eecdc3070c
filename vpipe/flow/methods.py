"""One interface for every way to compute flow: `compute(a, b, params)`; each thread owns its cv2 objects."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from vpipe.flow.inputs import checked_pair
from vpipe.flow.params import FlowParams

if TYPE_CHECKING:
    from vpipe.flow.tvl1_engine import Pyramid

# Revision of the settings below; raised when the same FlowParams would give other flow.
_REVISION = 1
# Of our own engine: raised when the same numbers would give other flow.
TVL1_VERSION = "2"

_DIS_PRESETS = {
    "parity": cv2.DISOPTICAL_FLOW_PRESET_FAST,  # what cv2.DISOpticalFlow_create() gives
    "accurate": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
}
# pyr_scale, levels, winsize, iterations, poly_n, poly_sigma
_FARNEBACK_PRESETS = {
    "parity": (0.5, 3, 15, 3, 5, 1.2),  # the values of OpenCV's own sample
    "accurate": (0.5, 6, 21, 5, 7, 1.5),
    "fast": (0.5, 3, 15, 1, 5, 1.1),
}
_mine = threading.local()
_cv2: Any = cv2  # the wheel's type stubs leave out the flow factories


def engine_version(method: str) -> str:
    """The version that belongs in a cache key: of our algorithm, or of the library's."""
    return TVL1_VERSION if method == "tvl1" else f"{_REVISION}+opencv-{cv2.__version__}"


class FlowFrame:
    """A picture that is the second of one pair and the first of the next: what a method makes of one picture
    alone is made once, by the thread that first asks for it.

    image: as for `compute`.
    """

    def __init__(self, image: npt.NDArray[Any], params: FlowParams) -> None:
        self.image = image
        self.params = params
        self._lock = threading.Lock()
        self._pyramid: Pyramid | None = None

    def pyramid(self) -> Pyramid:
        """Of TV-L1 only."""
        from vpipe.flow.tvl1_engine import Pyramid  # numba only where our engine runs (start-up)

        with self._lock:
            if self._pyramid is None:
                self._pyramid = Pyramid(self.image, self.params)
            return self._pyramid


def flow_between(first: FlowFrame, second: FlowFrame) -> npt.NDArray[np.float32]:
    """`compute` for frames of one sequence: the same flow, with less work. Both have the same params."""
    params = first.params
    if params.method != "tvl1":
        return compute(first.image, second.image, params)
    from vpipe.flow import tvl1_engine  # numba only where our engine runs (start-up)

    checked_pair(first.image, second.image)
    return tvl1_engine.flow_between(first.pyramid(), second.pyramid(), params)


def compute(a: npt.NDArray[Any], b: npt.NDArray[Any], params: FlowParams) -> npt.NDArray[np.float32]:
    """Flow from picture `a` to picture `b`: where each point of `a` went.

    a, b: gray (H, W), uint8, or float32 or float64 in 0..255 (rounded to uint8, which is all that methods
    other than `tvl1` take). Returns float32 (2, H, W): u (px to the right), then v (px down).
    Only method and numbers of `params` are used; the pictures come scaled already.
    Safe to call from many threads at once; the GIL is released while OpenCV works.
    Raises FlowInputError (a VpipeError and a ValueError).
    """
    if params.method == "tvl1":
        from vpipe.flow.tvl1_engine import tvl1  # numba only where our engine runs (start-up)

        return tvl1(a, b, params)
    first, second = (_uint8(image) for image in checked_pair(a, b))
    flow = _engine(params).calc(first, second, None)
    return np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float32)


def _uint8(image: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    return np.ascontiguousarray(image if image.dtype == np.uint8 else np.rint(image).astype(np.uint8))


def _engine(params: FlowParams) -> Any:
    """This thread's object for `params`: cv2's flow objects keep buffers and must not be shared."""
    kept: dict[FlowParams, Any] = _mine.__dict__.setdefault("engines", {})
    if params not in kept:
        cv2.setNumThreads(1)  # one pair a thread: OpenCV's own pool would fight ours
        kept.clear()
        kept[params] = _build(params)
    if params.method == "opencv-tvl1":
        # A small picture lowers OpenCV's number of scales for good; the next one may be large.
        kept[params].setScalesNumber(params.scales)
    return kept[params]


def _build(params: FlowParams) -> Any:
    preset = params.preset_name
    if params.method == "opencv-tvl1":
        engine = _cv2.optflow.DualTVL1OpticalFlow_create()
        engine.setTau(params.tau)
        engine.setLambda(params.lambda_)
        engine.setTheta(params.theta)
        engine.setScalesNumber(params.scales)
        engine.setScaleStep(params.scale_step)
        engine.setWarpingsNumber(params.warps)
        engine.setEpsilon(params.epsilon)
        engine.setOuterIterations(params.outer_iterations)
        engine.setInnerIterations(params.inner_iterations)
        engine.setMedianFiltering(params.median)
        engine.setGamma(params.gamma)
        engine.setUseInitialFlow(False)
        return engine
    assert preset is not None  # FlowParams fills it for library methods
    if params.method == "dis":
        return _cv2.DISOpticalFlow_create(_DIS_PRESETS[preset])
    scale, levels, window, iterations, poly_n, poly_sigma = _FARNEBACK_PRESETS[preset]
    return _cv2.FarnebackOpticalFlow_create(levels, scale, False, window, iterations, poly_n, poly_sigma, 0)
