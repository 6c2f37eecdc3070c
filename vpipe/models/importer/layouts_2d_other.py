"""Layouts of the networks over segments that are no ResNets: VGG16, BNInception, MobileNetV2."""

from __future__ import annotations

from typing import Any

from vpipe.models.importer.layout import MIT, MIT_NAMES, MMACTION_HEAD, Choices, Layout, State, shape, stacked


def _vgg(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    width, channels, *_ = shape(state, "backbone.0.weight")
    per_frame, stack = stacked(channels)
    hidden, flat = shape(state, "fc6.weight")
    return {
        "classes": shape(state, "fc.weight")[0],
        "segments": choices.segments or 1,
        "channels": per_frame,
        "stack": stack,
        "width": width,
        "hidden": hidden,
        "side": round((flat / (width * 8)) ** 0.5),
    }


def _bninception(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    width, channels, *_ = shape(state, "backbone.conv1_7x7_s2.conv.weight")
    per_frame, stack = stacked(channels)
    return {
        "classes": shape(state, "fc.weight")[0],
        "segments": choices.segments or 3,
        "channels": per_frame,
        "stack": stack,
        "share": 64 // max(width, 1),
    }


def _mobilenet(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    width, channels, *_ = shape(state, "backbone.0.conv.weight")
    per_frame, stack = stacked(channels)
    return {
        "classes": shape(state, "fc.weight")[0],
        "segments": choices.segments or 8,
        "channels": per_frame,
        "stack": stack,
        "share": choices.share or 8,
        "narrow": 32 // max(width, 1),
    }


# Where mmaction2's stages of MobileNetV2 begin in the sequence of all blocks.
_MOBILE_STAGES = ((1, 1, 1), (2, 2, 2), (3, 4, 3), (4, 7, 4), (5, 11, 3), (6, 14, 3), (7, 17, 1))


LAYOUTS = (
    Layout(
        "two-stream VGG16, bryanyzhu/two-stream-pytorch",
        "vgg16",
        r"^fc_action\.",
        (
            (r"^fc_action\.", "fc."),
            (r"^features\.(?:module\.)?", "backbone."),  # its main.py has these alone in DataParallel
            (r"^classifier\.0\.", "fc6."),
            (r"^classifier\.3\.", "fc7."),
        ),
        _vgg,
        "bryanyzhu",
        absent=r"^layer1\.",
    ),
    Layout(
        "TSN BNInception, yjxiong/tsn-pytorch",
        "tsn-bninception",
        MIT + r"conv1_7x7_s2\.",
        (
            *MIT_NAMES,
            (r"^backbone\.inception_(\d\w)_", r"backbone.inception_\1.branches."),
            (r"^(backbone\..+)_bn\.", r"\1.bn."),
            (r"^(backbone\.(?!.*\.bn\.).+)\.(weight|bias)$", r"\1.conv.\2"),
        ),
        _bninception,
        "bninception",
    ),
    Layout(
        "TSM MobileNetV2, mit-han-lab/temporal-shift-module",
        "tsm-mobilenetv2",
        MIT + r"features\.3\.conv\.0\.net\.",
        (
            (r"^(base_model\.)?classifier\.(1\.)?", "fc."),
            *MIT_NAMES,
            (r"\.net\.", "."),
            (r"\.features\.", "."),
            (r"^backbone\.(0|18)\.0\.", r"backbone.\1.conv."),
            (r"^backbone\.(0|18)\.1\.", r"backbone.\1.bn."),
            (r"^backbone\.1\.conv\.0\.", "backbone.1.depthwise.conv."),
            (r"^backbone\.1\.conv\.1\.", "backbone.1.depthwise.bn."),
            (r"^backbone\.1\.conv\.3\.", "backbone.1.project.conv."),
            (r"^backbone\.1\.conv\.4\.", "backbone.1.project.bn."),
            (r"\.conv\.0\.", ".expand.conv."),
            (r"\.conv\.1\.", ".expand.bn."),
            (r"\.conv\.3\.", ".depthwise.conv."),
            (r"\.conv\.4\.", ".depthwise.bn."),
            (r"\.conv\.6\.", ".project.conv."),
            (r"\.conv\.7\.", ".project.bn."),
        ),
        _mobilenet,
        "tsm",
    ),
    Layout(
        "TSM MobileNetV2, open-mmlab/mmaction2",
        "tsm-mobilenetv2",
        r"^backbone\.layer2\.1\.conv\.0\.(net\.conv|conv\.net)\.",
        (
            *MMACTION_HEAD,
            (r"\.net\.", "."),
            (r"^backbone\.conv1\.", "backbone.0."),
            (r"^backbone\.conv2\.", "backbone.18."),
            (r"^backbone\.layer1\.0\.conv\.0\.", "backbone.1.depthwise."),
            (r"^backbone\.layer1\.0\.conv\.1\.", "backbone.1.project."),
            *(
                (rf"^backbone\.layer{stage}\.{place}\.", f"backbone.{first + place}.")
                for stage, first, count in _MOBILE_STAGES
                for place in range(count)
            ),
            (r"(\.\d+)\.conv\.0\.", r"\1.expand."),
            (r"(\.\d+)\.conv\.1\.", r"\1.depthwise."),
            (r"(\.\d+)\.conv\.2\.", r"\1.project."),
        ),
        _mobilenet,
        "mmaction2",
    ),
)
