"""Pictures that become much smaller: made faster, and nearly the same."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace

from vpipe.media import FrameSource
from vpipe.media.convert import Converter
from vpipe.media.halving import FORMATS, Halver
from vpipe.media.upright import Orientation, much_smaller

SIZE = (96, 80)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """RGB with edges and detail of several sizes."""
    rng = np.random.default_rng(seed)
    found = np.zeros((height, width, 3), np.float32)
    for cell in (2, 6, 24, 96):
        noise = rng.uniform(0, 64, (height // cell + 1, width // cell + 1, 3)).astype(np.float32)
        found += cv2.resize(noise, (width, height), interpolation=cv2.INTER_NEAREST)
    return found.astype(np.uint8)


def frame_of(image: np.ndarray, name: str) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=name)


def samples(plane: av.VideoPlane, kind: type[np.generic]) -> np.ndarray:
    return np.frombuffer(plane, kind).reshape(plane.height, -1)[:, : plane.width].astype(np.int64)  # type: ignore[call-overload]


@pytest.mark.parametrize("name", FORMATS)
def test_every_plane_is_the_mean_of_two_by_two(name: str) -> None:
    frame = frame_of(picture(64, 48), name)
    half = Halver()(frame)
    assert (half.width, half.height, half.format.name) == (32, 24, name)
    for whole, small in zip(frame.planes, half.planes, strict=True):
        there = samples(whole, FORMATS[name])
        total = there[::2, ::2] + there[1::2, ::2] + there[::2, 1::2] + there[1::2, 1::2]
        np.testing.assert_allclose(samples(small, FORMATS[name]), total / 4, atol=0.5)


@pytest.mark.parametrize(
    ("size", "name"), [((66, 48), "yuv420p"), ((64, 50), "yuv420p"), ((64, 48), "rgb24")]
)
def test_what_has_no_whole_halves_stays(size: tuple[int, int], name: str) -> None:
    frame = frame_of(picture(*size), name)
    assert Halver()(frame) is frame


def test_memory_is_used_again_and_sizes_may_change() -> None:
    halved = Halver()
    first = halved(frame_of(picture(64, 48), "yuv420p"))
    assert halved(frame_of(picture(64, 48, 1), "yuv420p")) is first
    assert halved(frame_of(picture(128, 48), "yuv420p")).width == 64
    assert halved(frame_of(picture(128, 48), "yuv444p")).format.name == "yuv444p"


@pytest.mark.parametrize("name", ["yuv420p", "yuvj420p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("space", [Colorspace.ITU709, Colorspace.SMPTE170M])
@pytest.mark.parametrize("turned", [Orientation(), Orientation(True, True, False)])
def test_as_the_scaler_alone_would_make_it(name: str, space: Colorspace, turned: Orientation) -> None:
    frame = frame_of(picture(1280, 960), name)
    frame.colorspace = space
    frame.color_range = ColorRange.JPEG if "j" in name else ColorRange.MPEG
    exact, fast = (Converter(SIZE, "rgb", turned, exact=how)(frame).astype(int) for how in (True, False))
    assert exact.shape == fast.shape == (SIZE[1], SIZE[0], 3)
    difference = np.abs(exact - fast)
    assert 0 < difference.mean() < 1  # of a picture that is nothing but edges
    assert difference.max() <= 12
    other = frame_of(picture(1280, 960), name)
    other.colorspace = Colorspace.SMPTE170M if space == Colorspace.ITU709 else Colorspace.ITU709
    other.color_range = frame.color_range
    assert np.abs(Converter(SIZE, "rgb", turned, exact=False)(other) - exact).mean() > 2 * difference.mean()


def test_what_is_much_smaller() -> None:
    assert much_smaller((96, 96), (1920, 1080))
    assert much_smaller((96, 96), (768, 768))
    assert not much_smaller((96, 96), (1920, 760))
    assert not much_smaller((455, 256), (1920, 1080))


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """B-frames, some of them referred to, and enough compression for the loop filter to have work."""
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    with av.open(str(path), "w") as container:
        options = {"crf": "32", "preset": "medium", "bf": "3", "g": "60"}
        stream = container.add_stream("libx264", rate=Fraction(24), options=options)
        stream.width, stream.height, stream.pix_fmt = 800, 768, "yuv420p"
        whole = picture(1000, 900)
        for index in range(90):
            shown = np.ascontiguousarray(whole[index : index + 768, 2 * index : 2 * index + 800])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_without_the_loop_filter_of_what_none_refers_to(film: Path) -> None:
    with av.open(str(film)) as container:
        convert = Converter(SIZE, "rgb", Orientation(), exact=False)
        decoded = [convert(frame).astype(int) for frame in container.decode(video=0)]
    ours = [frame.image.astype(int) for frame in FrameSource(film, size=SIZE).frames()]
    difference = np.abs(np.array(decoded) - np.array(ours)).mean((1, 2, 3))
    assert 0 < (difference > 0).mean() < 0.8  # those that others refer to are whole
    assert difference.max() < 0.2  # and no error grows along the film


def test_all_ways_of_reading_give_the_same_pictures(film: Path) -> None:
    source = FrameSource(film, size=SIZE)
    every = [frame.image for frame in source.frames()]
    for frame in FrameSource(film, size=SIZE).select([5, 61, 88]):
        np.testing.assert_array_equal(frame.image, every[frame.index])
    for seen in FrameSource(film, size=SIZE).walk(Fraction(24)):
        assert seen.image is not None
        np.testing.assert_array_equal(seen.image, every[seen.index])


def test_pictures_that_are_kept_are_the_scalers(film: Path) -> None:
    with av.open(str(film)) as container:
        convert = Converter((83, 80), "rgb", Orientation())
        decoded = [convert(frame) for frame in container.decode(video=0)]
    source = FrameSource(film, short_side_px=80)
    assert source.output_size == (83, 80)
    for frame, image in zip(source.frames(), decoded, strict=True):
        np.testing.assert_array_equal(frame.image, image)
