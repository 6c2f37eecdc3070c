"""Networks made ready to run: short precisions, full batches for compiled ones, batches that fill a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor
from toy_models import Colour, model, rgb_stream

from vpipe.models.registry import build
from vpipe.recognition import prepared, recognizer
from vpipe.recognition.fused_blocks import FusedBottleneck, fuse_blocks
from vpipe.recognition.preprocess import View
from vpipe.recognition.recognizer import Recognizer
from vpipe.recognition.rounding import diffused

COLOURS = ("red", "green", "blue")
SHAPE = (4, 3, 64, 64)


def small_tsm() -> torch.nn.Module:
    torch.manual_seed(0)
    network = build("tsm", {"classes": 5, "segments": 4, "blocks": [1, 1, 1, 1], "width": 16})
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.3, 0.3)
    return network.eval()


def views(count: int) -> list[View]:
    clip = np.zeros((8, 12, 16, 3), np.uint8)
    return [View(clip + np.array([255 * (i % 3 == c) for c in range(3)], np.uint8)) for i in range(count)]


def test_errors_of_a_filter_cancel_against_the_means_of_its_inputs() -> None:
    random = torch.Generator().manual_seed(0)
    filters, means = torch.randn(20, 300, generator=random), torch.rand(300, generator=random)
    found = diffused(filters, means.expand(20, -1), torch.bfloat16)
    assert torch.equal(found, found.bfloat16().float())
    assert (found - filters).abs().max() <= filters.abs().max() * 2**-7
    plain = filters.bfloat16().float()
    assert ((found - filters) @ means).abs().mean() < 0.1 * ((plain - filters) @ means).abs().mean()


def test_bfloat16_is_nearer_to_float32_than_by_rounding_alone() -> None:
    network = small_tsm()
    clips = torch.rand(6, *SHAPE, generator=torch.Generator().manual_seed(1)) * 2 - 0.5
    with torch.inference_mode():
        exact = network(clips)
        ready = prepared.prepare(network, "cpu", torch.bfloat16, 5, SHAPE)(clips.bfloat16())
        plain = small_tsm().to(torch.bfloat16)(clips.bfloat16())
    assert ready.dtype == torch.float32
    assert (ready - exact).abs().max() < 0.6 * (plain - exact).abs().max()


def test_i3d_in_bfloat16() -> None:
    """Its last pooling, for which a CPU has no 3-D mean in this precision."""
    torch.manual_seed(0)
    network = build("i3d", {"classes": 5, "share": 16}).eval()
    shape = (10, 3, 64, 64)
    clips = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        exact = network(clips)
        found = prepared.prepare(network, "cpu", torch.bfloat16, 5, shape)(clips.bfloat16())
        with pytest.raises(ValueError, match="at least 9 frames"):
            network(clips[:, :8])
    assert (found - exact).abs().max() < 0.02


def test_features_follow_scores() -> None:
    network = small_tsm()
    clips = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    tapped = prepared.prepare(network, "cpu", torch.float32, 5, SHAPE, tapped=True)
    with torch.inference_mode():
        rows = tapped(clips)
        assert prepared.tapped_channels(tapped) == 512
        torch.testing.assert_close(rows[:, :5], network(clips), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(rows[:, 5:], network.features(clips), atol=1e-5, rtol=1e-5)


def test_a_compiled_network_sees_full_batches_only(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def as_it_is(network: torch.nn.Module, device: str) -> object:
        return lambda batch: seen.append(len(batch)) or network(batch)

    monkeypatch.setattr(recognizer, "compiled", as_it_is)
    ours = Recognizer(model(rgb_stream(Colour()), labels=COLOURS), batch_size=4, compile_=True)
    scores = ours.score_views(ours.streams[0], views(10))
    assert seen == [4, 4, 4]
    assert scores.argmax(1).tolist() == [i % 3 for i in range(10)]


@pytest.mark.slow
def test_a_compiled_network_says_the_same() -> None:
    network = small_tsm()
    clips = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        found = prepared.compiled(prepared.prepare(network, "cpu", torch.float32, 5, SHAPE), "cpu")(clips)
        torch.testing.assert_close(found, network(clips), atol=1e-4, rtol=1e-4)


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared.shutil, "which", lambda name: None)
    with pytest.raises(prepared.UsageError) as caught:
        Recognizer(model(rgb_stream(Colour()), labels=COLOURS), compile_=True)
    assert caught.value.code == "no_compiler"


def test_a_short_precision_says_once_what_it_costs() -> None:
    said: list[str] = []
    ours = Recognizer(
        model(rgb_stream(Colour()), labels=COLOURS), dtype="bf16", batch_size=2, say=said.append
    )
    ours.score_views(ours.streams[0], views(5))
    assert len(said) == 1
    assert said[0].startswith("bf16: probabilities of the first rgb clip are at most ")
    assert said[0].endswith("the same label first")


@pytest.mark.parametrize(
    ("gib", "frames", "side", "clips"),
    [(141, 8, 224, 64), (141, 64, 224, 8), (8, 8, 224, 10), (141, 8, 96, 256)],
)
def test_batches_fill_a_gpu_and_leave_its_memory_to_others(
    monkeypatch: pytest.MonkeyPatch, gib: int, frames: int, side: int, clips: int
) -> None:
    properties = SimpleNamespace(total_memory=gib * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    assert prepared.filling_batch("cuda:0", [(frames, 3, side, side)]) == clips


def test_fused_convolutions_are_the_same_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """With cuDNN's two calls as they are documented, in plain terms."""

    def plain(x: Tensor, weight: Tensor, bias: Tensor, *how: object) -> Tensor:
        return torch.relu(torch.conv2d(x, weight, bias, *how))  # type: ignore[call-overload]

    def added(x: Tensor, weight: Tensor, plus: Tensor, share: float, bias: Tensor, *how: object) -> Tensor:
        return torch.relu(torch.conv2d(x, weight, bias, *how) + share * plus)  # type: ignore[call-overload]

    monkeypatch.setattr(torch, "cudnn_convolution_relu", plain)
    monkeypatch.setattr(torch, "cudnn_convolution_add_relu", added)
    network = prepared.prepare(small_tsm(), "cpu", torch.float32, 5, SHAPE)
    clips = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        before = network(clips)
        fuse_blocks(network)
        assert sum(isinstance(module, FusedBottleneck) for module in network.modules()) == 4
        torch.testing.assert_close(network(clips), before, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_recorded_batches_are_those_of_the_network() -> None:
    network = small_tsm().cuda()
    recorded = prepared.Recorded(network)
    random = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        for count in (4, 4, 4, 3, 4, 3, 3):  # as called, recorded, replayed, and another shape between
            clips = torch.randn(count, *SHAPE, generator=random).cuda()
            torch.testing.assert_close(recorded(clips), network(clips), atol=1e-4, rtol=1e-4)
