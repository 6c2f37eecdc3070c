"""The conventions of the repositories, by the names that the layouts give them: pictures, sampling, flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from typing import Any

from vpipe.errors import UsageError
from vpipe.flow.params import FlowParams
from vpipe.models.convention import Convention
from vpipe.models.importer.layout import Choices
from vpipe.models.weights import StreamSpec

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # of RGB in 0..1
IMAGENET_255 = (
    (123.675 / 255, 116.28 / 255, 103.53 / 255),
    (58.395 / 255, 57.12 / 255, 57.375 / 255),
)  # mmaction2 rounds to three places
CAFFE_BGR = ((104 / 255, 117 / 255, 128 / 255), (1 / 255,) * 3)  # minus a mean, in 0..255
HALF = ((0.5,) * 3, (0.5,) * 3)  # RGB in -1..1
PYSLOWFAST = ((0.45,) * 3, (0.225,) * 3)
TORCHVISION_VIDEO = ((0.43216, 0.394666, 0.37645), (0.22803, 0.22145, 0.216989))
BOUND_PX = 20.0  # of the published flow pictures: grey 0..255 is -20..20 px
NOMINAL_FPS = Fraction(30)  # of models that see the video's own frames, for what is said in seconds


def _grey(mean: float, std: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """(mean, std) in px of flow whose grey value in 0..1 has these."""
    return ((mean * 2 - 1) * BOUND_PX,) * 2, (std * 2 * BOUND_PX,) * 2


MMACTION_FLOW = _grey(128 / 255, 128 / 255)


def _segments(rgb: Any, flow: Any, segments: int, **more: Any) -> Callable[[dict[str, Any]], Any]:
    def given(hyper: dict[str, Any]) -> Any:
        stack = 5 if hyper.get("architecture") == "tdn" else hyper.get("stack", 1)
        count = hyper.get("segments", segments)
        convention = Convention("segments", segments=count, stack=stack, **more)
        return convention, count * stack, rgb, flow, 224, None

    return given


def _clips(
    rgb: Any,
    frames: int,
    stride: int,
    size: int = 224,
    fps: Fraction | None = None,
    flow: Any = None,
    **more: Any,
) -> Callable[[dict[str, Any]], Any]:
    def given(hyper: dict[str, Any]) -> Any:
        convention = Convention("clips", stride=stride, native=fps is None, **{"clips": 10, **more})
        return convention, frames, rgb, flow, size, fps

    return given


def _stack_of_flows(rgb: Any, flow: Any, clips: int, **more: Any) -> Callable[[dict[str, Any]], Any]:
    """One frame, or a stack of consecutive flows, at `clips` places."""

    def given(hyper: dict[str, Any]) -> Any:
        flows = hyper["channels"] == 2
        convention = Convention("clips", stack=hyper["stack"], clips=clips, **more)
        if not flows:
            convention = replace(convention, first_pair_last=False)
        return convention, hyper["segments"] * hyper["stack"], rgb, flow, 224, None

    return given


def _mmaction_3d(hyper: dict[str, Any]) -> Any:
    """I3D 32x2, SlowOnly 8x8: the first convolution tells which."""
    frames, stride = (32, 2) if hyper["stem"] > 1 else (8, 8)
    return _clips(IMAGENET_255, frames, stride, flow=MMACTION_FLOW, interpolation="cv2", past_end="wrap")(
        hyper
    )


_TANET_255 = ((IMAGENET_255[0][0], IMAGENET_255[0][1], 103.5 / 255), IMAGENET_255[1])
# name -> hyper-parameters -> (convention, inputs of a clip, RGB mean and std, flow's, crop in px, fps)
CONVENTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "tsm": _segments(IMAGENET, _grey(0.5, 0.226), 8, average="logits"),
    "bninception": _segments(CAFFE_BGR, _grey(128 / 255, 1 / 255), 25, average="logits", order="bgr"),
    "mmaction2": _segments(IMAGENET_255, MMACTION_FLOW, 8, interpolation="cv2"),
    "mmaction2-tanet": _segments(_TANET_255, MMACTION_FLOW, 8, interpolation="cv2"),
    "jeffreyyihuang": _stack_of_flows(
        IMAGENET, _grey(0, 1), 19, resize="fixed", scale=(224, 224), average="logits", first_pair_last=True
    ),
    "bryanyzhu": _stack_of_flows(
        IMAGENET,
        _grey(0.5, 0.226),
        25,
        resize="fixed",
        scale=(340, 256),
        interpolation="cv2",
        average="logits",
    ),
    "i3d": _clips(
        HALF,
        64,
        1,
        fps=Fraction(25),
        flow=((0.0,) * 2, (BOUND_PX,) * 2),
        interpolation="cv2",
        average="logits",
    ),
    "mmaction2-c3d": _clips(
        (CAFFE_BGR[0], CAFFE_BGR[1]), 16, 1, 112, resize="fixed", scale=(171, 128), interpolation="cv2"
    ),
    "torchvision-video": _clips(
        TORCHVISION_VIDEO,
        16,
        1,
        112,
        Fraction(15),
        resize="fixed",
        scale=(171, 128),
        interpolation="cv2",
        clips=5,
    ),
    "mmaction2-r2plus1d": _clips(IMAGENET_255, 8, 8, interpolation="cv2", past_end="wrap"),
    "mmaction2-3d": _mmaction_3d,
    "mmaction2-slowfast": _clips(IMAGENET_255, 32, 2, interpolation="cv2", past_end="wrap"),
    "pyslowfast": _clips(PYSLOWFAST, 32, 2, 256, interpolation="cv2"),
    "pyslowfast-slow": _clips(PYSLOWFAST, 8, 8, 256, interpolation="cv2"),
}


def stream_spec(name: str, architecture: str, hyper: dict[str, Any], choices: Choices) -> StreamSpec:
    """What the stream of an imported model expects, by the convention `name` and the user's choices.

    Raises UsageError `bad_choice` for a sampling or a number of frames that the network cannot take.
    """
    convention, frames, rgb, flow, size, fps = CONVENTIONS[name]({**hyper, "architecture": architecture})
    flows = hyper.get("channels", 3) == 2
    if choices.sampling == "dense":
        if convention.sampling != "segments" or convention.stack > 1:
            raise UsageError(
                "bad_choice", f"--sampling dense: {architecture} is not sampled in segments of one frame"
            )
        convention = replace(convention, sampling="dense", clips=10)
    if choices.frames is not None or choices.stride is not None:
        if convention.sampling != "clips" or convention.stack > 1:
            raise UsageError(
                "bad_choice", f"--frames and --stride: {architecture} does not look at clips of frames"
            )
        frames = choices.frames or frames
        convention = replace(convention, stride=choices.stride or convention.stride)
    statistics = flow if flows else rgb
    if statistics is None:
        raise UsageError("bad_choice", f"{architecture}: this repository publishes no flow model of it")
    mean, std = statistics
    recipe = FlowParams.preset("parity", short_side_px=256, fps=fps) if flows else None
    return StreamSpec(
        architecture=architecture,
        hyper=hyper,
        modality="flow" if flows else "rgb",
        frames=frames,
        fps=fps or NOMINAL_FPS,
        size=(size, size),
        mean=tuple(mean),
        std=tuple(std),
        resize="published",
        flow_params=recipe,
        bound=BOUND_PX,
        convention=convention,
    )
