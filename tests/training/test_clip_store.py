"""The clip store: what is decoded once stays whole, is checked, stays in its bound, is not decoded again."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from tests.training.own_videos import SIZE, bar_frames, write_video
from vpipe.errors import EnvironmentFault, InputError
from vpipe.models.convention import Convention
from vpipe.models.weights import StreamSpec
from vpipe.training.clip_store import ClipStore, Contents, Damaged, StoredVideo
from vpipe.training.preparing import Preparer

SPEC = StreamSpec("tsn", {"classes": 2}, "rgb", 4, Fraction(8), SIZE, (0.0,) * 3, (1.0,) * 3)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    return write_video(folder / "a.mp4", bar_frames(1, 12, np.random.default_rng(0)))


def contents(*frames: bytes) -> Contents:
    return Contents({"duration_s": 1.0}, iter(enumerate(frames)), lambda: {"warnings": []})


def no_making() -> Contents:
    raise AssertionError("made again")


def test_kept_frames_come_back_and_are_made_once(tmp_path: Path) -> None:
    store = ClipStore(tmp_path)
    place = store.place("d", {"a": 1})
    stored = store.get(place, lambda: contents(b"one", b"", b"three"))
    assert stored.read([2, 0, 2, 1]) == [b"three", b"one", b"three", b""]
    assert list(stored.times_s) == [0, 1, 2]
    assert store.get(place, no_making, verify=True).facts == {"duration_s": 1.0, "warnings": []}
    assert store.place("d", {"a": 2}) != place != store.place("e", {"a": 1})


@pytest.mark.parametrize("how", ["flip", "cut", "empty", "gone"])
def test_damage_is_noticed_and_mended(tmp_path: Path, how: str) -> None:
    store = ClipStore(tmp_path)
    place = store.place("d", {})
    stored = store.get(place, lambda: contents(b"one" * 99, b"two" * 99))
    data = bytearray(place.read_bytes())
    if how == "flip":
        data[40] ^= 4
        place.write_bytes(data)
    elif how == "gone":
        place.unlink()
    else:
        place.write_bytes(data[: len(data) // 2 if how == "cut" else 0])
    with pytest.raises(Damaged):
        stored.verify()
    mended = store.get(place, lambda: contents(b"one" * 99, b"two" * 99), verify=True)
    assert mended.read([1]) == [b"two" * 99]


def test_nothing_half_written_has_the_name(tmp_path: Path) -> None:
    store = ClipStore(tmp_path)
    place = store.place("d", {})

    def breaks() -> Iterator[tuple[float, bytes]]:
        yield 0.0, b"x"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get(place, lambda: Contents({}, breaks(), dict))
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


def test_the_bound_holds_and_what_was_not_used_for_longest_goes(tmp_path: Path) -> None:
    earlier = ClipStore(tmp_path, 10_000)
    places = [earlier.place(str(n), {}) for n in range(3)]
    for age, place in enumerate(places):
        earlier.get(place, lambda: contents(b"x" * 3000))
        os.utime(place, (1_000_000 + age, 1_000_000 + age))
    now = ClipStore(tmp_path, 10_000)
    now.get(places[0], no_making)  # used again: now the newest
    now.get(now.place("new", {}), lambda: contents(b"x" * 3000))
    assert [place.exists() for place in places] == [True, False, True]
    with pytest.raises(EnvironmentFault, match="--clip-store") as caught:
        now.get(now.place("huge", {}), lambda: contents(*[b"x" * 500] * 40))
    assert caught.value.code == "clip_store_full"
    assert places[0].exists()  # this run uses it
    assert sum(p.stat().st_size for p in tmp_path.rglob("*.clips")) <= 10_000
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    store = ClipStore(tmp_path)
    with pytest.raises(EnvironmentFault, match="--cache-dir"):
        store.get(store.place("d", {}), lambda: contents(b"x"))


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "clips").write_text("in the way")
    store = ClipStore(tmp_path)
    with pytest.raises(EnvironmentFault, match="--cache-dir"):
        store.get(store.place("d", {}), lambda: contents(b"x"))


def test_frames_are_those_that_classify_sees(tmp_path: Path, video: Path) -> None:
    from vpipe.media import FrameSource

    prepared = Preparer(SPEC, ClipStore(tmp_path)).prepare(video)
    frames = [frame.image for _, frame in FrameSource(video, size=SIZE).resample(Fraction(16))]
    assert len(prepared.stored) == len(frames) == 23  # twice the rate of the stream
    kept = prepared.read(range(25))
    assert np.abs(kept[:23].astype(int) - np.stack(frames)).mean() < 4  # JPEG, of noise
    assert np.array_equal(kept[24], kept[22])  # past the end the last one is held
    assert prepared.duration_s == pytest.approx(1.5)


def test_a_video_is_decoded_once_wherever_it_lies(
    tmp_path: Path, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ClipStore(tmp_path / "cache")
    Preparer(SPEC, store).prepare(video)
    copy = tmp_path / "other name.mp4"
    copy.write_bytes(video.read_bytes())
    monkeypatch.setattr(Preparer, "_contents", lambda *_: pytest.fail("decoded again"))
    assert Preparer(SPEC, store).prepare(copy).digest == Preparer(SPEC, store).prepare(video).digest


def test_a_file_that_is_damaged_while_training_is_made_again(tmp_path: Path, video: Path) -> None:
    prepared = Preparer(SPEC, ClipStore(tmp_path)).prepare(video)
    before = prepared.read([3])
    data = bytearray(prepared.stored.path.read_bytes())
    data[len(data) // 3] ^= 1
    prepared.stored.path.write_bytes(data)
    assert np.array_equal(prepared.read([3]), before)
    for k in range(12):
        prepared.read([k])
    StoredVideo(prepared.stored.path).verify()


def test_published_frames_are_resized_as_their_repository_does(tmp_path: Path, video: Path) -> None:
    from dataclasses import replace

    from vpipe.media import FrameSource
    from vpipe.recognition.published import resized

    convention = Convention("segments", segments=4, scale=(24,))
    spec = replace(SPEC, convention=convention, resize="published", size=(16, 16))
    prepared = Preparer(spec, ClipStore(tmp_path)).prepare(video)
    frames = np.stack([resized(frame.image, convention) for frame in FrameSource(video).frames()])
    kept = prepared.read(range(len(frames)))
    assert kept.shape == frames.shape == (12, 24, 36, 3)
    assert np.abs(kept.astype(int) - frames).mean() < 4


def test_what_is_no_video_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("no video")
    with pytest.raises(InputError):
        Preparer(SPEC, ClipStore(tmp_path)).prepare(tmp_path / "a.mp4")
