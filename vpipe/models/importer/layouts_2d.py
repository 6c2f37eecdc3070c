"""Layouts of 2-D residual networks over segments: TSN, two-stream, TSM, TEA, STM, TDN and TANet."""

from __future__ import annotations

import re
from typing import Any

from vpipe.errors import UsageError
from vpipe.models.importer.layout import (
    MIT,
    MIT_NAMES,
    MMACTION_HEAD,
    NON_LOCAL,
    RESNET_NAMES,
    Choices,
    Layout,
    State,
    count_blocks,
    non_local,
    shape,
    stacked,
)


def _segmented(state: State, choices: Choices, segments: int) -> dict[str, Any]:
    """What every residual network over segments has."""
    channels, stack = stacked(shape(state, "backbone.conv1.conv.weight")[1])
    return {
        "classes": shape(state, "fc.weight")[0],
        "segments": choices.segments or segments,
        "channels": channels,
        "stack": stack,
        "blocks": [count_blocks(state, f"backbone.layer{stage}.") for stage in (1, 2, 3, 4)],
        "width": shape(state, "backbone.conv1.conv.weight")[0],
    }


def _reduction(state: State, block: str, squeeze: str) -> int:
    """By how much a module squeezes its channels, rounding down, the same in every stage that has it."""
    pairs = [
        shape(state, key)[:2]
        for stage in (1, 2, 3, 4)
        if (key := f"backbone.layer{stage}.{block}.{squeeze}.conv.weight") in state
    ]
    for share in range(1, 257):
        if pairs and all(channels // share == few for few, channels in pairs):
            return share
    raise UsageError("unknown_layout", f"its {squeeze} layers do not all squeeze by the same factor")


def _has_bottlenecks(state: State) -> bool:
    return any(re.match(r"backbone\.layer1\.0\.(\d\.)?conv3\.", key) for key in state)


def _tsn(segments: int) -> Any:
    def hyper(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
        return {**_segmented(state, choices, segments), "bottleneck": _has_bottlenecks(state)}

    return hyper


def _tsm(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    hyper = _segmented(state, choices, 8)
    whole = any(re.search(r"layer\d\.(net\.)?\d+\.net\.", key) for key in keys)
    pooled = any(re.search(r"layer2\.net\.", key) for key in keys)
    inside = r"layer(\d)\.(?:net\.)?(\d+)\.(?:block\.)?conv1\.(?:conv\.)?net\.weight$"
    shifted = {(int(m[1]), int(m[2])) for key in keys if (m := re.search(inside, key))}
    every = 1
    if not whole:
        blocks = [
            (stage, place) for stage, count in enumerate(hyper["blocks"], start=1) for place in range(count)
        ]
        every = 1 if shifted == set(blocks) else 2
        if shifted != {(stage, place) for stage, place in blocks if place % every == 0}:
            raise UsageError("unknown_layout", "its shifted blocks are neither all nor every second one")
    return {
        **hyper,
        "bottleneck": _has_bottlenecks(state),
        "share": choices.share or 8,
        "every": every,
        "whole_block": whole,
        **non_local(state, keys, "backbone.", hyper["blocks"], choices),
        "pool": "max" if pooled else "halves" if choices.temporal_pool else "none",
    }


def _tanet(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    inner, segments = shape(state, "backbone.layer1.0.temporal.G.0.weight")
    few, channels, kernel = shape(state, "backbone.layer1.0.temporal.L.0.weight")
    if choices.segments not in (None, segments):
        raise UsageError(
            "bad_segments", f"--segments {choices.segments}: this TANet's weights are for {segments}"
        )
    hyper = {**_segmented(state, choices, segments), "segments": segments}
    return {**hyper, "kernel": kernel, "expand": inner // segments, "reduce": channels // few}


def _stm(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    return {**_segmented(state, choices, 8), "reduce": _reduction(state, "0", "motion.squeeze")}


def _tea(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    hyper = _segmented(state, choices, 8)
    wide = shape(state, "backbone.layer1.0.conv1.conv.weight")[0]
    splits = count_blocks(state, "backbone.layer1.0.temporal.")
    base = -(-wide // splits * 64 // hyper["width"])
    return {**hyper, "base_width": base, "splits": splits, "reduce": _reduction(state, "0", "excite.squeeze")}


def _tdn(state: State, keys: list[str], choices: Choices) -> dict[str, Any]:
    hyper = _segmented(state, choices, 8)
    del hyper["channels"], hyper["stack"]
    # The reference chooses these by the number of segments; they are in no checkpoint.
    alpha, beta = (0.5, 0.5) if hyper["segments"] == 8 else (0.75, 0.25)
    return {
        **hyper,
        "reduce": _reduction(state, "0", "temporal.0.squeeze"),
        "alpha": alpha if choices.alpha is None else choices.alpha,
        "beta": beta if choices.beta is None else choices.beta,
    }


_SHIFTED = (
    (r"\b(layer2)\.net\.(\d)", r"\1.\2"),
    (r"\b(layer\d\.\d+)\.net\.", r"\1.1."),
    (r"\.block\.", "."),
    (r"\b(conv\d\.conv|conv\d)\.net\.", r"\1."),
)

LAYOUTS = (
    Layout(
        "TSM, mit-han-lab/temporal-shift-module",
        "tsm",
        MIT + r"layer1\.0\.(conv1\.net\.|net\.conv1)",
        (*MIT_NAMES, *_SHIFTED, *NON_LOCAL, *RESNET_NAMES),
        _tsm,
        "tsm",
        absent=r"\.tam\.",
    ),
    Layout(
        "TSM, open-mmlab/mmaction2",
        "tsm",
        r"^backbone\.layer1\.0\.(block\.)?(conv1\.conv\.net\.|net\.conv1)",
        (*MMACTION_HEAD, *_SHIFTED, *NON_LOCAL),
        _tsm,
        "mmaction2",
        absent=r"\.tam\.",
    ),
    Layout(
        "TANet, liu-zhy/temporal-adaptive-module",
        "tanet",
        MIT + r"layer1\.0\.tam\.",
        (*MIT_NAMES, (r"\.net\.", "."), (r"\.tam\.", ".temporal."), *RESNET_NAMES),
        _tanet,
        "tsm",
    ),
    Layout(
        "TANet, open-mmlab/mmaction2",
        "tanet",
        r"^backbone\.layer1\.0\.tam\.",
        (*MMACTION_HEAD, (r"\.block\.", "."), (r"\.tam\.", ".temporal.")),
        _tanet,
        "mmaction2-tanet",
    ),
    Layout(
        "TEA, Phoenix1327/tea-action-recognition",
        "tea",
        MIT + r"layer1\.0\.me\.conv1\.",
        (
            *MIT_NAMES,
            (r"\.me\.conv1\.", ".excite.squeeze.conv."),
            (r"\.me\.bn1\.", ".excite.squeeze.bn."),
            (r"\.me\.conv2\.", ".excite.transform."),
            (r"\.me\.conv3\.", ".excite.expand.conv."),
            (r"\.me\.bn3\.", ".excite.expand.bn."),
            (r"\.shifts\.(\d+)\.conv\.", r".temporal.\1."),
            (r"\.convs\.(\d+)\.", r".spatial.\1.conv."),
            (r"\.bns\.(\d+)\.", r".spatial.\1.bn."),
            *RESNET_NAMES,
        ),
        _tea,
        "tsm",
    ),
    Layout(
        "STM, Jiang et al.",
        "stm",
        MIT + r"layer1\.0\.mb\.stage_conv\.",
        (
            *MIT_NAMES,
            (r"\.mb\.stage_conv\.", ".motion.squeeze.conv."),
            (r"\.mb\.stage_bn\.", ".motion.squeeze.bn."),
            (r"\.mb\.shift\.", ".motion.transform."),
            (r"\.mb\.conv1x1\.", ".motion.expand."),
            (r"\.shift\.", ".temporal."),
            *RESNET_NAMES,
        ),
        _stm,
        "tsm",
    ),
    Layout(
        "TDN, MCG-NJU/TDN",
        "tdn",
        MIT + r"conv1_5\.0\.",
        (
            *MIT_NAMES,
            (r"\.conv1_5\.0\.", ".short_conv.conv."),
            (r"\.conv1_5\.1\.", ".short_conv.bn."),
            (r"\.resnext_layer1\.", ".short_layer."),
            (r"_bak\.", "."),
            (r"\.shift\.conv\.", ".temporal.1."),
            (r"\.mse\.conv1\.", ".temporal.0.squeeze.conv."),
            (r"\.mse\.bn1\.", ".temporal.0.squeeze.bn."),
            (r"\.mse\.conv2\.", ".temporal.0.transform."),
            (r"\.mse\.conv3\.", ".temporal.0.expand.conv."),
            (r"\.mse\.bn3\.", ".temporal.0.expand.bn."),
            (r"\.mse\.conv3_smallscale2\.", ".temporal.0.half_size.conv."),
            (r"\.mse\.bn3_smallscale2\.", ".temporal.0.half_size.bn."),
            (r"\.mse\.conv3_smallscale4\.", ".temporal.0.full_size.conv."),
            (r"\.mse\.bn3_smallscale4\.", ".temporal.0.full_size.bn."),
            *RESNET_NAMES,
        ),
        _tdn,
        "tsm",
        dead=(r"\.conv1_temp1?\.",),
    ),
    Layout(
        "TSN, mit-han-lab/temporal-shift-module",
        "tsn-resnet",
        r"^base_model\.layer1\.0\.conv1\.weight",  # without it, an image network of torchvision
        (*MIT_NAMES, *RESNET_NAMES),
        _tsn(8),
        "tsm",
        absent=r"\.(net|tam|me|mb|mse|conv1_custom|fc_action)\.",
    ),
    Layout(
        "TSN, open-mmlab/mmaction2",
        "tsn-resnet",
        r"^backbone\.layer1\.0\.conv1\.conv\.weight",
        MMACTION_HEAD,
        _tsn(25),
        "mmaction2",
        absent=r"\.(net|tam)\.|_path\.",
        dimensions=2,
    ),
    Layout(
        "two-stream, jeffreyyihuang/two-stream-action-recognition",
        "tsn-resnet",
        r"^conv1_custom\.",
        (
            (r"^conv1_custom\.", "conv1."),
            (r"^fc_custom\.", "fc."),
            (r"^(?!fc\.)", "backbone."),
            *RESNET_NAMES,
        ),
        _tsn(1),
        "jeffreyyihuang",
    ),
    Layout(
        "two-stream ResNet, bryanyzhu/two-stream-pytorch",
        "tsn-resnet",
        r"^fc_action\.",
        ((r"^fc_action\.", "fc."), (r"^(?!fc\.)", "backbone."), *RESNET_NAMES),
        _tsn(1),
        "bryanyzhu",
        absent=r"^features\.",
    ),
)
