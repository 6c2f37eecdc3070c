from __future__ import annotations

import numpy as np
import pytest
import torch
from toy_models import Colour, Drift, Half, flow_stream, model, rgb_stream

from vpipe.errors import UsageError
from vpipe.models.registry import build
from vpipe.recognition.preprocess import View
from vpipe.recognition.recognizer import Recognizer, choose_streams, fuse

COLOURS = ("red", "green", "blue")


def clip(colour: int, *, mirrored: bool = False) -> View:
    frames = np.zeros((8, 12, 16, 3), np.uint8)
    frames[..., colour] = 255
    return View(frames, mirrored)


@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_batches_do_not_change_scores(batch_size: int) -> None:
    recognizer = Recognizer(model(rgb_stream(Colour()), labels=COLOURS), batch_size=batch_size)
    scores = recognizer.score_views(recognizer.streams[0], (clip(i % 3) for i in range(10)))
    assert scores.shape == (10, 3)
    assert scores.argmax(1).tolist() == [i % 3 for i in range(10)]
    np.testing.assert_allclose(scores.sum(1), 1, rtol=1e-5)


def test_mirrored_clips_answer_for_the_unmirrored() -> None:
    frames = np.zeros((8, 12, 16, 3), np.uint8)
    frames[:, :, :8, 0] = 255  # red on the left
    stream = rgb_stream(Half(), flip_labels={"left": "right", "right": "left"})
    recognizer = Recognizer(model(stream, labels=("left", "right")))
    both = [View(frames), View(np.ascontiguousarray(frames[:, :, ::-1]), mirrored=True)]
    plain, mirrored = recognizer.score_views(recognizer.streams[0], both)
    assert plain[0] > 0.9
    np.testing.assert_allclose(plain, mirrored, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_precisions_agree_and_leave_the_model_alone(dtype: str) -> None:
    toy = model(rgb_stream(Colour()), labels=COLOURS)
    recognizer = Recognizer(toy, dtype=dtype)
    assert recognizer.score_views(recognizer.streams[0], [clip(2)])[0, 2] > 0.99
    assert next(toy.streams[0].network.parameters()).dtype == torch.float32


def test_streams_are_chosen_by_modality() -> None:
    two = model(rgb_stream(Half()), flow_stream(Drift()), labels=("left", "right"))
    assert [s.modality for s in choose_streams(two, None)] == ["rgb", "flow"]
    assert [s.modality for s in choose_streams(two, "both")] == ["rgb", "flow"]
    assert [s.modality for s in choose_streams(two, "flow")] == ["flow"]
    one = model(rgb_stream(Half()), labels=("left", "right"))
    for modality in ("flow", "both"):
        with pytest.raises(UsageError, match="has no flow stream") as caught:
            choose_streams(one, modality)  # type: ignore[arg-type]
        assert caught.value.code == "no_such_stream"


def test_fusion_is_the_weighted_mean() -> None:
    fused = fuse([np.array([[1.0, 0.0]]), np.array([[0.25, 0.75]])], [1.0, 3.0])
    np.testing.assert_allclose(fused, [[0.4375, 0.5625]])


@pytest.mark.parametrize(
    ("options", "code"), [({"dtype": "int8"}, "bad_dtype"), ({"batch_size": 0}, "bad_batch_size")]
)
def test_bad_options(options: dict, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        Recognizer(model(rgb_stream(Colour()), labels=COLOURS), **options)
    assert caught.value.code == code


def test_fusion_on_logits_is_the_softmax_of_their_sum() -> None:
    first, second = np.array([[2.0, 0.0, -1.0]]), np.array([[-1.0, 3.0, 0.5]])
    one, two, expected = (np.exp(x) / np.exp(x).sum() for x in (first, second, first + 1.5 * second))
    np.testing.assert_allclose(fuse([one, two], [1, 1.5], "logits"), expected, rtol=1e-12)
    assert not np.allclose(fuse([one, two], [1, 1.5]), expected, atol=1e-2)


def test_batch_norms_are_folded_in_a_copy() -> None:
    torch.manual_seed(0)
    network = build("tsn-resnet", {"classes": 3, "segments": 8, "blocks": [1, 1, 1, 1], "width": 8}).eval()
    keys = list(network.state_dict())
    recognizer = Recognizer(model(rgb_stream(network, size=(32, 32)), labels=COLOURS))
    ready = recognizer.streams[0].network
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in ready.modules())
    assert list(network.state_dict()) == keys
    sample = torch.randn(2, 8, 3, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(ready(sample), network(sample), atol=1e-5, rtol=1e-4)
