"""Layouts of 3-D residual networks: I3D-ResNet, C2D, SlowOnly, SlowFast."""

from __future__ import annotations

from typing import Any

from vpipe.models.importer.layout import (
    MMACTION_HEAD,
    NON_LOCAL,
    Choices,
    Layout,
    State,
    count_blocks,
    non_local,
    shape,
)


def _taps(state: State, prefix: str) -> list[list[list[int]]]:
    """Taps in time of the first two convolutions of every block, by stage."""
    return [
        [
            [shape(state, f"{prefix}layer{stage}.{place}.conv{n}.conv.weight")[2] for n in (1, 2)]
            for place in range(count_blocks(state, f"{prefix}layer{stage}."))
        ]
        for stage in (1, 2, 3, 4)
    ]


def _body(state: State, keys: list[str], prefix: str, choices: Choices, *, softmax: bool) -> dict[str, Any]:
    """Kind of the blocks, and where non-local ones follow."""
    blocks = [count_blocks(state, f"{prefix}layer{stage}.") for stage in (1, 2, 3, 4)]
    return {
        "bottleneck": f"{prefix}layer1.0.conv3.conv.weight" in state,
        **non_local(state, keys, prefix, blocks, choices, softmax=softmax),
    }


def _single_path(state: State, keys: list[str], choices: Choices, *, softmax: bool) -> dict[str, Any]:
    width, channels, stem, *_ = shape(state, "backbone.conv1.conv.weight")
    return {
        "classes": shape(state, "fc.weight")[0],
        "channels": channels,
        "width": width,
        "taps": _taps(state, "backbone."),
        "stem": stem,
        **_body(state, keys, "backbone.", choices, softmax=softmax),
    }


def _pyslowfast(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    """Slow, I3D and C2D. The last two halve time after the first stage: only taps tell them."""
    taps = _taps(state, "backbone.")
    flat = all(of_block == [1, 1] for stage in taps for of_block in stage)
    halve = flat or shape(state, "backbone.conv1.conv.weight")[2] > 1
    return {**_single_path(state, keys, choices, softmax=halve), "halve": halve}


def _pytorchvideo(halve: bool) -> Any:
    def hyper(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
        return {**_single_path(state, keys, choices, softmax=True), "halve": halve}

    return hyper


def _mmaction(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    """I3D has strides in time that SlowOnly, whose first convolution has one tap, does not have.

    The "heavy" I3D, in which every block is inflated, has but the pooling after the first stage.
    """
    hyper = _single_path(state, keys, choices, softmax=True)
    if hyper["stem"] == 1:
        return hyper
    heavy = hyper["bottleneck"] and all(taps[0] > 1 for stage in hyper["taps"] for taps in stage)
    stride = 1 if heavy else 2
    return {**hyper, "stem_stride": stride, "pool_stride": stride, "halve": True}


def _mmaction_c2d(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    """Frames one by one but for the pooling of time; the first pooling ends at the picture's edge."""
    hyper = _single_path(state, keys, choices, softmax=True)
    return {**hyper, "pool_margin": False, "halve": True}


def _slowfast(even: bool) -> Any:
    """mmaction2 differs from the others in its slow frames and in the order of its last features."""

    def hyper(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
        width, _, slow_stem, *_ = shape(state, "slow.conv1.conv.weight")
        fast_width, _, fast_stem, *_ = shape(state, "fast.conv1.conv.weight")
        norm = "lateral.0.conv.weight" in state
        fusion = shape(state, "lateral.0.conv.weight" if norm else "lateral.0.weight")[2]
        body = _body(state, keys, "slow.", choices, softmax=not even)
        fast_taps = _taps(state, "fast.")
        # In no checkpoint. Published are 4x16 with kernel 5 and alpha 8; and with alpha 4 those with
        # kernel 7, and, but for mmaction2's, those with a deep fast path or non-local blocks.
        deep = even and (len(fast_taps[2]) > 6 or "non_local" in body)
        alpha = 4 if fusion == 7 or deep else 8
        return {
            "classes": shape(state, "fc.weight")[0],
            "width": width,
            "fast_width": fast_width,
            "slow_taps": _taps(state, "slow."),
            "fast_taps": fast_taps,
            "slow_stem": slow_stem,
            "fast_stem": fast_stem,
            "fusion": fusion,
            "alpha": choices.slow_ratio or alpha,
            "lateral_norm": norm,
            "fast_first": not even,
            "even": even,
            **body,
        }

    return hyper


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
    (r"_nonlocal(\d+)\.conv_(g|phi|theta)\.", r".\1.after.\2."),
    (r"_nonlocal(\d+)\.conv_out\.", r".\1.after.out.conv."),
    (r"_nonlocal(\d+)\.(norm|bn)\.", r".\1.after.out.bn."),  # `bn` until 2020
)
# The blocks of pytorchvideo's networks by their number; in I3D and C2D, 2 is a pooling without weights.
_PYTORCHVIDEO_STAGES = (
    (r"^blocks\.\d+\.proj\.", "fc."),
    (r"^blocks\.0\.conv\.", "backbone.conv1.conv."),
    (r"^blocks\.0\.norm\.", "backbone.conv1.bn."),
)
_PATHS = ("slow", "fast")

LAYOUTS = (
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
            *_PYTORCHVIDEO_STAGES,
            (r"^blocks\.(\d)\.", r"backbone.layer\1."),
            *_PYTORCHVIDEO_BLOCK,
        ),
        _pytorchvideo(halve=False),
        "pyslowfast-slow",
        absent=r"^blocks\.5\.res_blocks\.",
    ),
    Layout(
        "I3D-ResNet and C2D, facebookresearch/pytorchvideo",
        "resnet3d",
        r"^blocks\.5\.res_blocks\.0\.branch2\.conv_a\.",
        (
            *_PYTORCHVIDEO_STAGES,
            (r"^blocks\.1\.", "backbone.layer1."),
            *((rf"^blocks\.{n}\.", f"backbone.layer{n - 1}.") for n in (3, 4, 5)),
            *_PYTORCHVIDEO_BLOCK,
        ),
        _pytorchvideo(halve=True),
        "pyslowfast-slow",
    ),
    Layout(
        "SlowOnly, I3D-ResNet and C2D, facebookresearch/SlowFast",
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
        (*MMACTION_HEAD, *NON_LOCAL),
        _mmaction,
        "mmaction2-3d",
        absent=r"conv_s|_path\.",
        dimensions=3,
    ),
    Layout(
        "C2D, open-mmlab/mmaction2",
        "resnet3d",
        r"^backbone\.layer1\.0\.conv1\.conv\.weight$",
        MMACTION_HEAD,
        _mmaction_c2d,
        "mmaction2-3d",
        absent=r"\.(net|tam)\.|_path\.",
        dimensions=2,
        told=True,
        flat=True,
    ),
)
