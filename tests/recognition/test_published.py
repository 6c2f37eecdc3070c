"""Published models' sampling by hand-computed indices; resizing and crops against their definitions."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vpipe.media import FrameSource, VideoWriter
from vpipe.models import Stream
from vpipe.models.convention import Convention
from vpipe.models.importer.inputs import CONVENTIONS, stream_spec
from vpipe.models.importer.layout import Choices
from vpipe.recognition.classify_published import consensus
from vpipe.recognition.preprocess import Normalise
from vpipe.recognition.published import (
    clip_indices,
    flow_views,
    read_frames,
    resized,
    rgb_views,
    short_side,
    windows,
)


def taken(
    convention: Convention, inputs: int, length: int, clips: int = 1, twice: bool = False
) -> list[list[int]]:
    return clip_indices(convention, inputs, length, clips=clips, twice=twice)


def test_tsm_eight_segments_of_a_hundred_frames() -> None:
    """tick = 100 / 8 = 12.5; int(6.25 + 12.5 i)."""
    tsm = Convention("segments", segments=8)
    middle = [6, 18, 31, 43, 56, 68, 81, 93]
    assert taken(tsm, 8, 100) == [middle]
    assert taken(tsm, 8, 100, twice=True) == [middle, [0, 12, 25, 37, 50, 62, 75, 87]]


def test_tdn_five_frames_a_segment() -> None:
    """tick = (44 - 5 + 1) / 4 = 10; 5 + 10 i, and the four frames after."""
    tdn = Convention("segments", segments=4, stack=5)
    assert taken(tdn, 20, 44) == [[s + k for s in (5, 15, 25, 35) for k in range(5)]]


def test_flow_stacks_of_tsm_and_tsn() -> None:
    """99 flows, stacks of five: tick = 95 / 3 = 31.67; 15, 47, 79."""
    flow = Convention("segments", segments=3, stack=5)
    assert [clip[::5] for clip in taken(flow, 15, 99)] == [[15, 47, 79]]


def test_short_videos_repeat_their_last_frame() -> None:
    assert taken(Convention("segments", segments=8), 8, 3) == [[0, 0, 0, 1, 1, 2, 2, 2]]
    assert taken(Convention("segments", segments=2, stack=5), 10, 3) == [[0, 1, 2, 2, 2, 0, 1, 2, 2, 2]]
    assert taken(Convention("clips", stride=2), 4, 3) == [[0, 2, 2, 2]]
    assert taken(Convention("clips", stride=2, past_end="wrap"), 4, 3) == [[0, 2, 1, 0]]


def test_dense_sampling_wraps() -> None:
    """Stride 64 // 8 = 8; starts linspace(0, 100 - 64, 3) = 0, 18, 36; a video of 40 frames wraps."""
    dense = Convention("dense", segments=8)
    assert [clip[0] for clip in taken(dense, 8, 100, clips=3)] == [0, 18, 36]
    assert taken(dense, 8, 100, clips=3)[1] == [18 + 8 * i for i in range(8)]
    assert taken(dense, 8, 40, clips=1) == [[0, 8, 16, 24, 32, 0, 8, 16]]


def test_clips_of_three_dimensional_models() -> None:
    """32 x 2 spans 64 of 100 frames: 37 starts, shares of 3.7; int(1.85 + 3.7 i)."""
    clips = taken(Convention("clips", stride=2), 32, 100, clips=10)
    assert [clip[0] for clip in clips] == [1, 5, 9, 12, 16, 20, 24, 27, 31, 35]
    assert clips[0] == list(range(1, 65, 2))
    assert [clip[0] for clip in taken(Convention("clips"), 64, 64, clips=10)] == [0]


def test_every_convention_makes_a_stream() -> None:
    for name in CONVENTIONS:
        hyper = {"classes": 3, "channels": 3, "stack": 1, "segments": 8, "stem": 5}
        spec = stream_spec(name, "tsm", hyper, Choices())
        assert spec.convention is not None
        assert len(spec.mean) == 3
        assert Convention.from_json(spec.to_json()["convention"]) == spec.convention
    flow = stream_spec("tsm", "tsm", {"channels": 2, "stack": 5, "segments": 8}, Choices())
    assert (flow.modality, flow.frames, flow.flow_params.preset_name) == ("flow", 40, "parity")  # type: ignore[union-attr]
    # Grey 191.25 of 255 is 10 px; (0.75 - 0.5) / 0.226.
    assert (10 - flow.mean[0]) / flow.std[0] == pytest.approx(0.25 / 0.226)


@pytest.mark.parametrize(
    ("name", "hyper"),
    [("mmaction2", {"channels": 2, "stack": 5, "segments": 3}), ("mmaction2-3d", {"channels": 2, "stem": 1})],
)
def test_mmactions_flow_is_less_128_over_128(name: str, hyper: dict) -> None:
    """Its TSN and SlowOnly over flow: grey 0..255 with mean and std 128 (configs, `data_preprocessor`)."""
    flow = stream_spec(name, "tsn-resnet", hyper, Choices())
    assert flow.modality == "flow"
    assert (10 - flow.mean[0]) / flow.std[0] == pytest.approx((191.25 - 128) / 128)
    assert (-20 - flow.mean[0]) / flow.std[0] == pytest.approx(-1)


@pytest.mark.parametrize(
    ("size", "rounding", "expected"),
    [((320, 240), True, (341, 256)), ((320, 240), False, (341, 256)), ((1000, 701), True, (365, 256)),
     ((1000, 701), False, (365, 256)), ((362, 240), True, (386, 256)), ((240, 426), False, (256, 454)),
     ((240, 427), True, (256, 455))],
)  # fmt: skip
def test_short_side(size: tuple[int, int], rounding: bool, expected: tuple[int, int]) -> None:
    assert short_side(*size, 256, rounding=rounding) == expected


def test_resizing_keeps_constants_and_averages_areas() -> None:
    flat = np.full((480, 640, 3), 77, np.uint8)
    for kind in ("pil", "cv2"):
        assert (resized(flat, Convention("segments", interpolation=kind)) == 77).all()
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[::2] = 200
    soft = resized(stripes, Convention("segments", scale=(64,)))
    assert np.ptp(soft[8:-8].astype(int)) <= 2  # Pillow's bilinear sees all rows
    assert abs(int(soft[32, 32, 0]) - 100) <= 2


def numbered(height: int, width: int, channels: int = 3) -> np.ndarray:
    """A clip of one picture whose first channels are the column and the row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns, rows, rows][:channels], -1)[None].astype(np.float32)


def corners(
    crops: int, interpolation: str = "pil", height: int = 256, width: int = 341
) -> list[tuple[int, int]]:
    convention = Convention("segments", interpolation=interpolation)
    found = windows(numbered(height, width), (224, 224), crops, convention)  # type: ignore[arg-type]
    return [(int(view.inputs[0, 0, 0, 0]), int(view.inputs[0, 0, 0, 1])) for view in found]


def test_crops() -> None:
    assert corners(1) == [(58, 16)]  # (341 - 224) / 2 = 58.5, to even
    assert corners(1, "cv2") == [(58, 16)]
    assert corners(1, height=256, width=455) == [(116, 16)]  # 115.5, to even
    assert corners(1, "cv2", 256, 455) == [(115, 16)]
    # Squares of 256: steps of (341 - 256) // 4 = 21.
    assert corners(3) == [(0, 0), (84, 0), (42, 0)]
    # Steps of 117 // 4 = 29 and 32 // 4 = 8; then the same, mirrored: they begin at their right edge.
    assert corners(10)[:5] == [(0, 0), (116, 0), (0, 32), (116, 32), (58, 16)]
    assert corners(10)[5:] == [(223, 0), (339, 0), (223, 32), (339, 32), (281, 16)]


def test_a_mirrored_flow_runs_the_other_way_and_stacks_roll() -> None:
    convention = Convention("clips", stack=3, first_pair_last=True)
    hyper = {"channels": 2, "stack": 3, "segments": 1, "classes": 2}
    spec = stream_spec("tsm", "tsn-resnet", hyper, Choices())
    stream = Stream(type(spec)(**{**vars(spec), "convention": convention, "size": (8, 8)}), None)  # type: ignore[arg-type]
    flow = np.stack([np.full((2, 8, 8), value, np.float32) for value in (1, 2, 30)])
    ordered = [view.inputs[:, 0, 0, 0].tolist() for view in flow_views([flow], stream, crops=10)]
    assert ordered[0] == [2, 20, 1]  # clipped to the bound; the first pair comes last
    assert ordered[5] == [-2, -20, -1]


def test_frame_to_tensor(tmp_path: Path) -> None:
    """A grey ramp through decoding, resizing, cropping and normalising, against the formula."""
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 320, 240, fps=Fraction(25), crf=1) as writer:
        for number in range(20):
            writer.write(np.full((240, 320, 3), 40 + 10 * number, np.uint8))
    hyper = {"classes": 3, "channels": 3, "stack": 1, "segments": 4}
    stream = Stream(stream_spec("tsm", "tsm", hyper, Choices()), None)  # type: ignore[arg-type]
    (view,) = rgb_views(path, stream, clips=1, crops=1, twice=False)
    assert view.inputs.shape == (4, 224, 224, 3)
    tensor = Normalise(stream, "cpu", __import__("torch").float32)(view.inputs)
    for place, frame in enumerate((2, 7, 12, 17)):  # tick 5
        for channel, (mean, std) in enumerate(((0.485, 0.229), (0.456, 0.224), (0.406, 0.225))):
            expected = ((40 + 10 * frame) / 255 - mean) / std
            assert tensor[place, channel].mean() == pytest.approx(expected, abs=0.04)
    caffe = Stream(stream_spec("bninception", "tsn-bninception", hyper, Choices()), None)  # type: ignore[arg-type]
    tensor = Normalise(caffe, "cpu", __import__("torch").float32)(view.inputs)
    assert tensor[0, 0].mean() == pytest.approx(60 - 104, abs=2)


def test_frames_are_decoded_once_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 64, 48, fps=Fraction(25), crf=1) as writer:
        for number in range(12):
            writer.write(np.full((48, 64, 3), 20 * number, np.uint8))
    clips = [[8, 9, 0], [3, 3, 11], [0, 9, 5]]
    for clip, indices in zip(read_frames(FrameSource(path), clips), clips, strict=True):
        assert [round(float(frame.mean()) / 20) for frame in clip] == indices


def test_consensus_on_logits_or_probabilities() -> None:
    logits = np.array([[2.0, 0.0, -1.0], [0.0, 3.0, 1.0]])
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    mean = logits.mean(0)
    expected = np.exp(mean) / np.exp(mean).sum()
    assert consensus(probabilities, Convention("segments", average="logits")) == pytest.approx(expected)
    assert consensus(probabilities, Convention("segments")) == pytest.approx(probabilities.mean(0))


def test_nonsense_in_a_convention_is_refused() -> None:
    for wrong in (
        {"sampling": "all"},
        {"sampling": "clips", "stride": 0},
        {"sampling": "clips", "scale": (1, 2, 3)},
    ):
        with pytest.raises(ValueError, match="is"):
            Convention(**wrong)  # type: ignore[arg-type]
