"""The flow cache as its users see it: which flow is where, computed once, equal bytes for equal work."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import h5py
import numpy as np
import pytest

from tests.cache.clips import DIS, contents, strays, write_moving
from vpipe.cache import Counts, FlowCache
from vpipe.cache.structure import TABLES
from vpipe.errors import EnvironmentFault, InputError
from vpipe.flow.methods import compute
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage
from vpipe.media.source import FrameSource

SHIFTS = [1, 2, 3, 4, 5, 6, 0, -1, -2, -3, -4, -5]
FORMAT_PAGE = Path(__file__).parents[2] / "docs" / "cache-format.md"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_moving(tmp_path_factory.mktemp("moving") / "moving.mp4", SHIFTS)


@pytest.fixture
def cache(tmp_path: Path) -> FlowCache:
    return FlowCache(tmp_path / "cache")


def middle(flow: np.ndarray) -> np.ndarray:
    """Median (u, v) of flows (n, 2, H, W) away from the borders."""
    return np.median(flow[:, :, 12:-12, 12:-12], axis=(2, 3))


def test_flow_i_goes_from_frame_i_to_the_next(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, DIS)
    assert entry.pairs == len(SHIFTS)
    assert entry.grid == tuple(range(len(SHIFTS) + 1))
    assert entry.times == tuple(Fraction(k, 10) for k in range(len(SHIFTS) + 1))
    assert entry.ensure(jobs=2) == Counts(len(SHIFTS), len(SHIFTS), 0)
    moved = middle(entry.read(range(len(SHIFTS))))
    assert np.abs(moved[:, 0] - SHIFTS).max() < 0.3
    assert np.abs(moved[:, 1]).max() < 0.2


def test_flow_is_that_of_the_decoded_frames_within_rounding(cache: FlowCache, clip: Path) -> None:
    frames = [frame.image for frame in FrameSource(clip, short_side_px=64, color="gray").frames()]
    params = FlowParams.preset("fast", short_side_px=64)
    for storage, error in ((Storage(), 0.079), (Storage("high"), 0.0157)):
        entry = cache.entry(clip, params, storage)
        entry.ensure([2, 7])
        for pair, flow in zip([7, 2], entry.read([7, 2]), strict=True):
            expected = compute(frames[pair], frames[pair + 1], params)
            assert np.abs(flow - expected.clip(-20, 20)).max() < error + 1e-4


def test_resampled_grid_on_uneven_times(cache: FlowCache, tmp_path: Path) -> None:
    times = [Fraction(t, 100) for t in (0, 5, 10, 24, 25, 49, 51, 60, 90)]
    clip = write_moving(tmp_path / "vfr.mp4", [2, 1, 3, 0, 4, 1, 0, 5], times=times)
    entry = cache.entry(clip, FlowParams.preset("accurate", method="dis", fps=Fraction(4)))
    # At 0, .25, .5, .75 s the last frames shown are those of 0, .25, .49, .60 s.
    assert entry.grid == (0, 4, 5, 7)
    assert entry.times == tuple(times[i] for i in (0, 4, 5, 7))
    entry.ensure()
    assert np.abs(middle(entry.read(range(3)))[:, 0] - [6, 4, 1]).max() < 0.3
    stepped = cache.entry(clip, FlowParams.preset("accurate", method="dis", fps=Fraction(4), step=2))
    assert stepped.grid == (0, 5)


def test_a_grid_denser_than_the_video_has_still_pairs(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, FlowParams.preset("accurate", method="dis", fps=Fraction(20)))
    assert entry.grid[:5] == (0, 0, 1, 1, 2)
    entry.ensure()
    moved = middle(entry.read(range(6)))[:, 0]
    assert np.abs(moved - [0, 1, 0, 2, 0, 3]).max() < 0.3
    assert not entry.warnings


def test_only_what_is_asked_for_and_never_twice(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, DIS)
    assert entry.ensure([3, 4, 9], jobs=1) == Counts(3, 3, 0)
    assert entry.path is None
    some = entry.read([9, 3])
    assert cache.entry(clip, DIS).ensure([4, 3, 5]) == Counts(3, 1, 2)
    seen: list[tuple[int, int]] = []
    later = cache.entry(clip, DIS)
    assert later.ensure(progress=lambda *p: seen.append(p)) == Counts(12, 8, 4)
    assert seen[-1] == (8, 8)
    assert later.path is not None
    assert np.array_equal(later.read([9, 3]), some)
    assert cache.entry(clip, DIS).ensure() == Counts(12, 0, 12)
    assert strays(cache.root) == []


def test_reading_computes_what_is_missing(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, DIS)
    assert entry.read([]).shape == (0, 2, 96, 128)
    assert abs(float(middle(entry.read([5]))[0, 0]) - SHIFTS[5]) < 0.3
    assert entry.ensure([5]) == Counts(1, 0, 1)
    with pytest.raises(ValueError, match="12"):
        entry.read([12])
    with pytest.raises(ValueError, match="-1"):
        entry.ensure([-1])


def test_equal_work_gives_equal_bytes_in_any_order(tmp_path: Path, clip: Path) -> None:
    whole, pieces = FlowCache(tmp_path / "a"), FlowCache(tmp_path / "b")
    first, second = whole.entry(clip, DIS), pieces.entry(clip, DIS)
    first.ensure(jobs=2)
    for pairs in ([11], [0, 5], [2, 3, 4]):
        second.ensure(pairs, jobs=1)
    second.ensure()
    assert first.path
    assert second.path
    assert first.path.name == second.path.name
    assert contents(first.path) == contents(second.path)


def test_parts_left_by_a_kill_after_sealing_are_tidied(cache: FlowCache, clip: Path, tmp_path: Path) -> None:
    entry = cache.entry(clip, DIS)
    entry.ensure([1, 2])
    (work,) = cache.root.rglob("*.work")
    shutil.copytree(work, tmp_path / "kept")
    entry.ensure()
    assert not work.exists()
    shutil.copytree(tmp_path / "kept", work)
    (work / "seal.1-abc.tmp").write_bytes(b"torn")
    assert cache.entry(clip, DIS).ensure([3]) == Counts(1, 0, 1)
    assert strays(cache.root) == []


def test_renamed_hits_and_changed_misses(cache: FlowCache, clip: Path, tmp_path: Path) -> None:
    cache.entry(clip, DIS).ensure()
    renamed = tmp_path / "other name.mp4"
    shutil.copy(clip, renamed)
    assert cache.entry(renamed, DIS).ensure() == Counts(12, 0, 12)
    keys = {
        cache.entry(clip, params).key
        for params in (DIS, FlowParams.preset("fast", method="dis"), FlowParams.preset("fast"), FlowParams())
    }
    assert len(keys) == 4
    assert cache.entry(clip, DIS, Storage("standard", 32)).key in keys  # storage is no part of the recipe
    edited = tmp_path / "edited.mp4"
    edited.write_bytes(clip.read_bytes() + b"\0")
    assert cache.entry(edited, DIS).key not in keys


def test_the_digest_is_remembered(cache: FlowCache, clip: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.mp4"
    shutil.copy(clip, copy)
    os.utime(copy, ns=(10**18, 10**18))
    key = cache.entry(copy, DIS).key
    memos = list((cache.root / "sources").iterdir())
    assert len(memos) == 1
    data = bytearray(copy.read_bytes())
    data[-1] ^= 1
    copy.write_bytes(data)
    os.utime(copy, ns=(10**18, 10**18))  # an edit that hides from mtime
    assert cache.entry(copy, DIS).key == key
    assert cache.entry(copy, DIS, verify_source=True).key != key
    os.utime(copy)
    assert cache.entry(copy, DIS).key != key
    memos[0].write_text("{")
    assert cache.entry(copy, DIS).key != key


def test_finer_storage_serves_coarser_requests_and_not_the_reverse(cache: FlowCache, clip: Path) -> None:
    cache.entry(clip, DIS, Storage("high")).ensure()
    served = cache.entry(clip, DIS, Storage())
    assert served.ensure() == Counts(12, 0, 12)
    assert served.storage == Storage("high")
    other = FlowParams.preset("fast", method="dis")
    cache.entry(clip, other, Storage()).ensure()
    assert cache.entry(clip, other, Storage("high")).ensure() == Counts(12, 12, 0)


def test_a_stranger_reads_the_file_as_the_page_says(cache: FlowCache, clip: Path) -> None:
    snippet = re.search(r"```python\n(.*?)```", FORMAT_PAGE.read_text(), re.DOTALL)
    assert snippet
    for storage in (Storage(), Storage("high")):
        entry = cache.entry(clip, DIS, storage)
        entry.ensure()
        # In a process that has never heard of vpipe.
        program = f"path = {str(entry.path)!r}\n{snippet[1]}\nimport sys\n" + (
            "assert not any(name.split('.')[0] in ('vpipe', 'zstandard') for name in sys.modules)\n"
            "print(start_s, end_s)\nsys.stdout.flush()\nsys.stdout.buffer.write(flow.tobytes())"
        )
        told = subprocess.run([sys.executable, "-I", "-c", program], capture_output=True, check=True).stdout
        times, _, flow = told.partition(b"\n")
        assert times == b"0.0 0.1"
        assert flow == entry.read([0])[0].tobytes()
        with h5py.File(entry.path) as h5:
            manifest = json.loads(h5.attrs["manifest"])
            assert set(h5) == {"flow", *TABLES}
            assert np.array_equal(h5["frame_index"], entry.grid)
            assert np.array_equal(h5["time_s"], [float(time) for time in entry.times])
            pts = h5["pts"][()]
            assert [(v - pts[0]) * Fraction(manifest["time_base"]) for v in pts.tolist()] == list(entry.times)
        assert manifest["flow"] == DIS.to_dict()
        assert manifest["storage"]["kind"] == storage.kind
        assert manifest["source"]["frames"] == 13
        assert manifest["source"]["width"] == 128


def test_what_is_faster_than_the_bound_is_clipped_and_said(cache: FlowCache, clip: Path) -> None:
    entry = cache.entry(clip, DIS, Storage("standard", 2))
    entry.ensure()
    assert np.abs(entry.read(range(12))).max() == pytest.approx(2)
    (warning,) = entry.warnings
    assert warning.code == "flow_clipped"
    assert warning.numbers["clipped"] > 0.2
    assert warning.numbers["bound_px"] == 2
    suggested = warning.numbers["fitting_bound_px"]
    assert f"--bound {suggested:g}" in warning.message
    assert 4 < suggested < 12
    assert [
        w.code for w in cache.entry(clip, DIS, Storage("standard", 2)).warnings
    ] == []  # nothing asked for
    again = cache.entry(clip, DIS, Storage("standard", 2))
    again.ensure()
    assert again.warnings == [warning]
    wider = cache.entry(clip, DIS, Storage("standard", suggested))
    wider.ensure()
    assert wider.warnings == []


def test_damaged_frames_give_zero_flow_marked_invalid(
    cache: FlowCache, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    select = FrameSource.select

    def damaging(self: FrameSource, indices: list[int]) -> object:
        return (replace(frame, damaged=frame.index == 4) for frame in select(self, indices))

    monkeypatch.setattr(FrameSource, "select", damaging)
    entry = cache.entry(clip, DIS)
    entry.ensure()
    flows = entry.read(range(12))
    still = [pair for pair in range(12) if not flows[pair].any()]
    assert still == [3, 4, 6]  # at 6 the content does stand still
    with h5py.File(entry.path) as h5:
        assert np.flatnonzero(h5["valid"][()] == 0).tolist() == [3, 4]
    monkeypatch.undo()
    again = cache.entry(clip, DIS)
    again.ensure()
    assert [(w.code, w.numbers) for w in again.warnings] == [("invalid_flows", {"flows": 2})]


def test_one_frame_has_no_motion(cache: FlowCache, tmp_path: Path) -> None:
    single = write_moving(tmp_path / "single.mp4", [])
    with pytest.raises(InputError) as caught:
        cache.entry(single, DIS).ensure()
    assert caught.value.code == "single_image"


@pytest.mark.parametrize(("shifts", "step"), [([2], 1), ([1, 1], 1), ([1] * 4, 50)])
def test_a_video_shorter_than_a_step_has_one_flow(
    cache: FlowCache, tmp_path: Path, shifts: list[float], step: int
) -> None:
    short = write_moving(tmp_path / "short.mp4", shifts, fps=Fraction(25 if step == 1 else 10))
    entry = cache.entry(
        short, FlowParams.preset("accurate", method="dis", short_side_px=None, fps=Fraction(8), step=step)
    )
    assert entry.ensure().pairs == 1
    assert middle(entry.read([0]))[0, 0] == pytest.approx(sum(shifts), abs=0.3)
    assert [warning.code for warning in entry.warnings] == ["short_for_flow"]


def test_missing_file(cache: FlowCache, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        cache.entry(tmp_path / "none.mp4", DIS)
    assert caught.value.code == "not_found"


def test_a_folder_that_cannot_be_made(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFault, match="VPIPE_CACHE_DIR"):
        FlowCache(tmp_path / "file" / "cache").entry(clip, DIS).ensure()
