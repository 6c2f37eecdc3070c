"""The shift against its definition, networks against what they can and cannot see."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch

from vpipe.errors import UsageError
from vpipe.models import registry
from vpipe.models.blocks import temporal_shift
from vpipe.models.layers import VideoNetwork
from vpipe.models.listing import listing
from vpipe.models.networks.tsn_affine import affine_motion
from vpipe.models.registry import ARCHITECTURES, build


def shift_by_definition(x: torch.Tensor, frames: int, fold: int) -> torch.Tensor:
    out = torch.zeros_like(x)
    for at in range(len(x)):
        t = at % frames
        out[at, 2 * fold :] = x[at, 2 * fold :]
        if t + 1 < frames:
            out[at, :fold] = x[at + 1, :fold]
        if t > 0:
            out[at, fold : 2 * fold] = x[at - 1, fold : 2 * fold]
    return out


def test_temporal_shift_and_its_gradient() -> None:
    x = torch.randn(12, 16, 3, 5, dtype=torch.double, requires_grad=True)
    assert torch.equal(temporal_shift(x, 4), shift_by_definition(x, 4, 2))
    assert torch.autograd.gradcheck(lambda value: temporal_shift(value, 4), (x,))


SMALL_RESNET = {"classes": 5, "segments": 4, "blocks": [1, 1, 1, 1], "width": 16}
TINY: dict[str, dict[str, Any]] = {  # every architecture, built small
    "tsn": {"classes": 5, "frames": 4, "widths": [8, 8, 16]},
    "tsm-diff": {"classes": 5, "frames": 4, "widths": [8, 8, 16]},
    "tsn-affine": {"classes": 5, "frames": 4, "widths": [8, 8, 16], "hidden": 16},
    "tsn-resnet": SMALL_RESNET,
    "tsm": SMALL_RESNET | {"non_local": [[], [0], [], []]},
    "tanet": SMALL_RESNET,
    "stm": SMALL_RESNET,
    "tea": SMALL_RESNET | {"width": 32},
    "tdn": SMALL_RESNET,
    "vgg16": {"classes": 5, "segments": 4, "width": 8, "hidden": 16, "side": 1},
    "tsn-bninception": {"classes": 5, "segments": 4, "share": 8},
    "tsm-mobilenetv2": {"classes": 5, "segments": 4, "narrow": 4},
    "i3d": {"classes": 5, "share": 8},
    "c3d": {"classes": 5, "width": 8, "hidden": 16, "places": 4},
    "r3d": {
        "classes": 5, "width": 8, "blocks": [1, 1, 1, 1], "kinds": ["split", "full", "flat", "split", "flat"],
    },
    "resnet3d": {"classes": 5, "width": 8, "taps": [[[1, 1]], [[3, 1]], [[3, 3]], [[3, 1]]], "halve": True},
    "slowfast": {
        "classes": 5, "width": 16, "fast_width": 2, "slow_taps": [[[1, 1]], [[1, 1]], [[3, 1]], [[3, 1]]],
        "fast_taps": [[[3, 1]], [[3, 1]], [[3, 1]], [[3, 1]]],
    },
}  # fmt: skip
FRAMES = {"tdn": 20, "i3d": 16, "c3d": 16}  # of a clip, where it is not 4
CHANNELS = {"tsn-affine": 2}  # of an input, where it is not 3
SIDES = {"tdn": 64}  # px, where it is not 32


def tiny(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(name, TINY[name]).eval()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_shape(name: str) -> None:
    side = SIDES.get(name, 32)
    clip = torch.randn(2, FRAMES.get(name, 4), CHANNELS.get(name, 3), side, side)
    with torch.inference_mode():
        logits = tiny(name)(clip)
    assert logits.shape == (2, 5)
    assert logits.isfinite().all()


def test_tsn_cannot_see_the_order_of_frames_and_the_shift_network_can() -> None:
    clip = torch.randn(1, 4, 3, 32, 32)
    for name, sees in (("tsn", False), ("tsm-diff", True)):
        with torch.inference_mode():
            network = tiny(name)
            same = torch.allclose(network(clip), network(clip.flip(1)), atol=1e-5)
        assert same is not sees


def test_a_clip_does_not_see_the_others_of_its_batch() -> None:
    clips = torch.randn(3, 4, 3, 32, 32)
    with torch.inference_mode():
        network = tiny("tsm-diff")
        assert torch.allclose(network(clips)[1], network(clips[1:2])[0], atol=1e-5)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown architecture 'i4d'"):
        build("i4d", {})
    with pytest.raises(UsageError, match="unexpected keyword"):
        build("tsn", {"classes": 2, "frames": 4, "depth": 3})
    with pytest.raises(UsageError, match="do not divide"):
        build("tsn", {"classes": 2, "frames": 4, "stack": 3})


@pytest.mark.parametrize("local", [False, True])
def test_activation_maps_point_at_what_moves(local: bool) -> None:
    """The map of a clip that differs from rest in one corner differs there, and not in the opposite one."""
    torch.manual_seed(0)
    hyper = {"classes": 3, "frames": 2, "channels": 2, "stack": 2, "widths": [8, 8, 16], "local": local}
    network = build("tsn", hyper).eval()
    rest, moving = torch.zeros(1, 2, 2, 64, 64), torch.zeros(1, 2, 2, 64, 64)
    moving[..., :16, :16] = 3
    with torch.inference_mode():
        assert network(moving).shape == (1, 3)
        change = (network.class_activation(moving) - network.class_activation(rest)).abs().sum(2)[0, 0]  # type: ignore[operator]
    row, column = divmod(int(change.argmax()), change.shape[1])
    assert max(row, column) < 4  # of 8: the edge of what moves, or inside it
    assert change[6:, 6:].max() < change.max() / 100


def test_the_affine_motion_is_that_of_the_camera_and_leaves_the_subject() -> None:
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(96.0), indexing="ij")
    x, y = (2 * x + 1) / 96 - 1, (2 * y + 1) / 96 - 1
    camera = torch.stack([1.5 + 0.4 * x - 0.3 * y, -0.5 + 0.3 * x + 0.4 * y])
    seen = camera.clone()
    seen[:, 20:44, 20:44] = torch.tensor([-6.0, 3.0]).view(2, 1, 1)  # a sixteenth of the picture
    motion, rest = affine_motion(torch.stack([camera, seen])[None])
    exact = torch.tensor([1.5, 0.4, -0.3, -0.5, 0.3, 0.4])
    assert torch.allclose(motion[0, 0], exact, atol=1e-3)
    assert torch.allclose(motion[0, 1], exact, atol=0.05)
    assert rest[0, 0].abs().max() < 1e-2
    assert rest[0, 1, :, 60:, 60:].abs().max() < 0.1
    assert torch.allclose(rest[0, 1, :, 30, 30], torch.tensor([-6.0, 3.0]) - camera[:, 30, 30], atol=0.1)
    nothing, none_left = affine_motion(torch.zeros(1, 2, 2, 8, 8))
    assert not nothing.any()
    assert not none_left.any()


def test_the_affine_network_shows_where_it_looks_and_takes_two_channels_only() -> None:
    network = tiny("tsn-affine")
    rest, moving = torch.zeros(1, 4, 2, 64, 64), torch.zeros(1, 4, 2, 64, 64)
    moving[..., :16, :16] = 3
    with torch.inference_mode():
        maps = [network.class_activation(clip) for clip in (rest, moving)]  # type: ignore[operator]
        assert maps[0].shape == (1, 1, 5, 8, 8)
        row, column = divmod(int((maps[1] - maps[0]).abs().sum(2)[0, 0].argmax()), 8)
        assert max(row, column) < 4
        half = tiny("tsn-affine").to(torch.bfloat16)(moving.to(torch.bfloat16))
        assert torch.allclose(half.float(), network(moving), atol=0.1)
    with pytest.raises(UsageError, match="channels is 2"):
        build("tsn-affine", TINY["tsn-affine"] | {"channels": 3})


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - {"tsn", "tsm-diff", "tsn-affine"}))
def test_logits_are_the_mean_of_scores_and_features_come_before_them(name: str) -> None:
    side = SIDES.get(name, 32)
    clip = torch.randn(2, FRAMES.get(name, 4), 3, side, side)
    network = tiny(name)
    assert isinstance(network, VideoNetwork)
    with torch.inference_mode():
        assert torch.allclose(network.scores(clip).mean(1), network(clip), atol=1e-5)
        assert torch.allclose(network.fc(network.features(clip)), network(clip), atol=1e-4)
        assert network.maps(clip).ndim == 5


def test_one_file_one_decorator(monkeypatch: pytest.MonkeyPatch) -> None:
    """A new architecture is known by name, in Python and to `models list`, with its dataclass of dims."""

    @dataclass(frozen=True)
    class Dims:
        classes: int

    monkeypatch.setitem(ARCHITECTURES, "mine", torch.nn.Module)  # so that it is gone after the test
    del ARCHITECTURES["mine"]

    @registry.register("mine")
    class Mine(torch.nn.Module):
        def __init__(self, dims: Dims) -> None:
            super().__init__()
            self.fc = torch.nn.Linear(3, dims.classes)

    # Annotations are looked up where the class was made; here that is this function.
    Mine.__init__.__annotations__["dims"] = Dims
    assert isinstance(registry.build("mine", {"classes": 4}), Mine)
    assert [one["name"] for one in listing()["architectures"]] == sorted(ARCHITECTURES)
    assert "mine" in ARCHITECTURES
    with pytest.raises(UsageError, match=r"unknown architecture 'yours'; known: .*mine"):
        registry.build("yours", {})
    with pytest.raises(ValueError, match="twice"):
        registry.register("mine")(Mine)


def test_absurd_hyper_parameters_allocate_nothing() -> None:
    for name, hyper in (
        ("tsm", SMALL_RESNET | {"blocks": [10**9, 1, 1, 1]}),
        ("tsm", SMALL_RESNET | {"blocks": [1]}),
        ("tsm", SMALL_RESNET | {"pool": "some"}),
        ("i3d", {"classes": 5, "share": 0}),
        ("r3d", {"classes": 5, "kinds": ["split"]}),
        ("resnet3d", {"classes": 5, "taps": []}),
    ):
        with pytest.raises(UsageError) as caught:
            build(name, hyper)
        assert caught.value.code == "bad_hyper_parameter"
