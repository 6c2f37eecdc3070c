"""`vpipe cache ...` from the shell."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest

from tests.cache.clips import write_moving
from vpipe.cache import FlowCache
from vpipe.cache.foreign import ForeignFile
from vpipe.cache.importing import read_flo
from vpipe.cache.sealed import SealedFile
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage

from .inprocess import InProcess
from .small_models import write_model

DIS = ("--method", "dis", "--fps", "native", "--short-side", "native")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    monkeypatch.setenv("VPIPE_CONFIG", "/dev/null")
    return InProcess(tmp_path, monkeypatch, capsys)


@pytest.fixture
def sealed(run: InProcess, small_clip: Path) -> Path:
    """The sealed file of the small clip: 23 flows of 96x64."""
    finished = run("flow", small_clip, *DIS)
    assert finished.returncode == 0, finished.stderr
    return Path(finished.stdout.strip())


def flip(path: Path, offset: int) -> None:
    data = bytearray(path.read_bytes())
    data[offset] ^= 1
    path.write_bytes(data)


def flow_offset(path: Path, pair: int) -> int:
    offset, length = SealedFile(path).index.places[pair].tolist()
    return offset + length // 2


def test_an_empty_cache(run: InProcess) -> None:
    assert json.loads(run("cache", "list", "--json").stdout)["entries"] == []
    assert json.loads(run("cache", "stats", "--json").stdout)["flows"] == 0
    assert run("cache", "list").stdout == ""
    assert run("cache", "verify").returncode == 0
    assert run("cache", "pack").returncode == 0


def test_list_and_stats(run: InProcess, sealed: Path, small_clip: Path, tmp_path: Path) -> None:
    (tmp_path / "cache" / "flow" / "notes.txt").write_text("mine")
    FlowCache(tmp_path / "cache").entry(small_clip, FlowParams.preset("fast", method="dis")).ensure([3, 4])
    done, unfinished = sorted(
        json.loads(run("cache", "list", "--json").stdout)["entries"], key=lambda entry: entry["state"]
    )
    assert (done["state"], done["video"], done["pairs"]) == ("sealed", "small.mp4", 23)
    assert (done["width"], done["height"], done["method"]) == (96, 64, "dis")
    assert (unfinished["state"], unfinished["done"]) == ("unfinished", 2)
    lines = run("cache", "list").stdout.splitlines()
    assert len(lines) == 2
    assert any("small.mp4" in line and "dis accurate" in line and done["key"][:12] in line for line in lines)
    stats = json.loads(run("cache", "stats", "--json").stdout)
    assert (stats["flows"], stats["videos"], stats["entries"]) == (23, 1, 2)
    assert stats["sealed"] == {"entries": 1, "bytes": sealed.stat().st_size}
    assert stats["unknown"] == [str(tmp_path / "cache" / "flow" / "notes.txt")]
    assert "notes.txt" in run("cache", "stats").stdout


def test_path(run: InProcess, sealed: Path, small_clip: Path, tmp_path: Path) -> None:
    assert run("cache", "path", small_clip).stdout == f"{sealed}\n"
    write_model(tmp_path / "m.safetensors", "flow")
    missing = run("cache", "path", small_clip, "--for", tmp_path / "m.safetensors")
    assert (missing.returncode, missing.stdout) == (1, "")
    assert "[not_cached]" in missing.stderr
    for_model = run("flow", small_clip, "--for", tmp_path / "m.safetensors").stdout
    assert run("cache", "path", small_clip, "--for", tmp_path / "m.safetensors").stdout == for_model
    several = run("cache", "path", small_clip)
    assert (several.returncode, "[several]" in several.stderr) == (1, True)
    key = sealed.name[:12]
    assert run("cache", "path", key).stdout == f"{sealed}\n"
    other = tmp_path / "other.mp4"
    other.write_bytes(small_clip.read_bytes() + b"\0")
    assert "[not_cached]" in run("cache", "path", other).stderr
    assert "[not_found]" in run("cache", "path", "none.mp4").stderr


def test_info_of_a_video_and_of_a_file_from_elsewhere(
    run: InProcess, sealed: Path, small_clip: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "copy.flow.h5"
    shutil.copy(sealed, elsewhere)
    for word in (small_clip, sealed, elsewhere, sealed.name[:8]):
        (found,) = json.loads(run("cache", "info", word, "--json").stdout)["files"]
        assert found["shape"] == [23, 2, 64, 96]
        assert found["source"]["frames"] == 24
        assert found["flow"]["method"] == "dis"
        assert (found["damaged_flows"], found["packed"]) == ([], False)
    assert "method: dis" in run("cache", "info", small_clip).stdout


def test_verify_names_file_and_flow_and_repairs(
    run: InProcess, sealed: Path, small_clip: Path, tmp_path: Path
) -> None:
    sound = run("cache", "verify")
    assert (sound.returncode, sound.stdout) == (0, "1 entries checked, 0 faults\n")
    before = SealedFile(sealed).read(range(23))
    flip(sealed, flow_offset(sealed, 7))
    found = run("cache", "verify")
    assert found.returncode == 1
    assert f"{sealed}: flow (7) damaged" in found.stdout
    shutil.rmtree(
        tmp_path / "cache" / "sources", ignore_errors=True
    )  # so that nobody knows where the video is
    repaired = run("cache", "verify", "--repair", "--json")
    assert repaired.returncode == 1
    (fault,) = json.loads(repaired.stdout)["faults"]
    assert "next run" in fault["repaired"]
    assert run("cache", "verify").returncode == 0
    (row,) = json.loads(run("flow", small_clip, *DIS, "--json").stdout)["results"]
    assert (row["cache"]["computed"], row["cache"]["reused"]) == (1, 22)
    assert np.array_equal(SealedFile(sealed).read(range(23)), before)


def test_repair_computes_again_where_the_video_is_known(
    run: InProcess, small_clip: Path, tmp_path: Path
) -> None:
    video = tmp_path / "v.mp4"
    shutil.copy(small_clip, video)
    os.utime(video, (10**9, 10**9))
    sealed = Path(run("flow", video, *DIS).stdout.strip())
    before = sealed.read_bytes()
    flip(sealed, flow_offset(sealed, 2))
    (fault,) = json.loads(run("cache", "verify", sealed, "--repair", "--json").stdout)["faults"]
    assert fault["repaired"] == "1 flows computed again"
    assert SealedFile(sealed).damaged(range(23)) == []
    flip(sealed, 200)  # in the headers: it does not say what it is of any more
    assert run("cache", "verify", "--repair").returncode == 1
    assert not sealed.exists()
    assert run("flow", video, *DIS).returncode == 0
    assert len(sealed.read_bytes()) == len(before)


def test_verify_of_a_file_from_elsewhere(run: InProcess, sealed: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "copy.flow.h5"
    shutil.copy(sealed, elsewhere)
    assert run("cache", "verify", elsewhere).returncode == 0
    flip(elsewhere, flow_offset(elsewhere, 3))
    found = run("cache", "verify", elsewhere)
    assert (found.returncode, "copy.flow.h5: flow 3 damaged" in found.stdout) == (1, True)
    elsewhere.write_bytes(b"\x89HDF\r\n\x1a\n" + b"x" * 99)
    found = run("cache", "verify", elsewhere)
    assert (found.returncode, "copy.flow.h5" in found.stdout) == (1, True)


def test_gc(run: InProcess, small_clip: Path, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    assert run("cache", "gc").returncode == 2
    assert "[bad_age]" in run("cache", "gc", "--older-than", "soon").stderr
    assert "[bad_size]" in run("cache", "gc", "--max-size", "small").stderr
    clips = [make_clip(tmp_path / f"{name}.mp4", frames=8, seed=seed) for seed, name in enumerate("abc")]
    for clip in clips:
        os.utime(clip, (10**9, 10**9))
    files = [Path(line) for line in run("flow", *clips, *DIS).stdout.split()]
    unknown = files[0].with_name("README")
    unknown.write_text("mine")
    now = time.time()
    for days, path in zip((40, 20, 1), files, strict=True):
        os.utime(path, (now - days * 86400,) * 2)
    dry = run("cache", "gc", "--older-than", "30d", "--dry-run")
    assert str(files[0]) in dry.stdout
    assert all(path.exists() for path in files)
    assert run("cache", "gc", "--older-than", "30d").returncode == 0
    assert [path.exists() for path in files] == [False, True, True]
    keep = files[2].stat().st_size
    done = json.loads(run("cache", "gc", "--max-size", f"{keep / 1000}kB", "--json").stdout)
    assert [row["path"] for row in done["removed"]] == [str(files[1])]
    assert done["left_bytes"] == keep
    assert json.loads(run("cache", "gc", "--orphans", "--json").stdout)["removed"] == []
    clips[2].unlink()
    assert json.loads(run("cache", "gc", "--orphans", "--json").stdout)["removed"][0]["path"] == str(files[2])
    assert unknown.read_text() == "mine"
    assert not list((tmp_path / "cache").rglob("*.work"))


def test_using_flow_makes_it_young(run: InProcess, sealed: Path, small_clip: Path) -> None:
    os.utime(sealed, (10**9, 10**9))
    assert run("flow", small_clip, *DIS).returncode == 0
    assert time.time() - sealed.stat().st_mtime < 60


def test_pack(run: InProcess, sealed: Path, small_clip: Path, tmp_path: Path) -> None:
    assert run("cache", "pack").stdout == f"{sealed}\n"
    assert not SealedFile(sealed).index.packed  # so little that packing would make it larger
    sealed.unlink()
    clip = write_moving(tmp_path / "m.mp4", [0.5 + 1.7 * (k % 6) for k in range(23)])
    sealed = Path(run("flow", clip, *DIS).stdout.strip())
    flows, size = SealedFile(sealed).read(range(23)), sealed.stat().st_size
    finished = run("cache", "pack", "--json")
    (row,) = json.loads(finished.stdout)["packed"]
    assert row == {"path": str(sealed), "bytes_before": size, "bytes": sealed.stat().st_size}
    assert row["bytes"] < size
    assert SealedFile(sealed).index.packed
    assert np.array_equal(SealedFile(sealed).read(range(23)), flows)
    (again,) = json.loads(run("flow", clip, *DIS, "--json").stdout)["results"]
    assert again["cache"]["reused"] == 23
    assert run("cache", "pack").stdout == ""  # nothing left to pack
    assert not list((tmp_path / "cache").rglob("*.work"))
    elsewhere = tmp_path / "packed.flow.h5"
    shutil.copy(sealed, elsewhere)
    with ForeignFile(elsewhere) as foreign:
        assert np.array_equal(foreign.read([22, 3]), flows[[22, 3]])
        assert foreign.damaged(range(23)) == []


@pytest.mark.parametrize("storage", ["standard", "high"])
def test_export(run: InProcess, small_clip: Path, tmp_path: Path, storage: str) -> None:
    path = run("flow", small_clip, *DIS, "--storage", storage).stdout.strip()
    flows = SealedFile(Path(path)).read(range(23))
    for kind in ("flo", "npz", "jpg", "png", "h5-gzip"):
        finished = run("cache", "export", small_clip, "--as", kind, "-o", "out" + kind)
        assert finished.returncode == 0, finished.stderr
        target = tmp_path / finished.stdout.strip()
        if kind == "flo":
            names = sorted(os.listdir(target))
            assert names == [f"flow_{k:06d}.flo" for k in range(23)]
            assert np.array_equal(read_flo(target / names[9]), flows[9])
            raw = (target / names[9]).read_bytes()
            assert raw[:12] == b"PIEH" + np.array([96, 64], "<i4").tobytes()
            assert np.frombuffer(raw[12:20], "<f4").tolist() == flows[9][:, 0, 0].tolist()  # u, v of a pixel
        elif kind == "npz":
            with np.load(target) as found:
                assert np.array_equal(found["flow"], flows)
                assert found["time_s"][1] == pytest.approx(1 / 12)
                assert found["valid"].all()
                assert json.loads(str(found["manifest"]))["source"]["frames"] == 24
        elif kind == "jpg":
            assert len(os.listdir(target)) == 46
            u = cv2.imread(str(target / "flow_x_00009.jpg"), cv2.IMREAD_GRAYSCALE)
            assert np.abs(u.astype(float) * 40 / 255 - 20 - flows[9, 0]).max() < 1.5
        elif kind == "png":
            bgr = cv2.imread(str(target / "flow_000009.png"), cv2.IMREAD_UNCHANGED)
            assert (bgr[..., 0] == 1).all()
            assert np.abs((bgr[..., 2] - 32768.0) / 64 - flows[9, 0]).max() <= 1 / 128
            assert np.abs((bgr[..., 1] - 32768.0) / 64 - flows[9, 1]).max() <= 1 / 128
        else:
            with h5py.File(target) as h5:
                assert h5["flow"].compression == "gzip"
                codes = h5["flow"][9].astype("float32")
                assert np.array_equal(
                    (codes - h5["flow"].attrs["zero"]) * h5["flow"].attrs["scale"], flows[9]
                )


def test_export_keeps_what_is_there(run: InProcess, sealed: Path, small_clip: Path, tmp_path: Path) -> None:
    arguments = ("cache", "export", small_clip, "--as", "jpg", "-o", "out", "--bound", "5")
    assert run(*arguments).returncode == 0
    again = run(*arguments)
    assert (again.returncode, "[output_exists]" in again.stderr) == (1, True)
    assert run(*arguments, "--overwrite").returncode == 0
    (tmp_path / "out" / "small" / "notes").write_text("mine")
    assert run(*arguments, "--overwrite").returncode == 1
    assert (tmp_path / "out" / "small" / "notes").read_text() == "mine"
    assert not [name for name in os.listdir(tmp_path / "out") if name.startswith(".")]
    assert run("cache", "export", small_clip, "--as", "npz", "-o", "out", "--bound", "5").returncode == 2


def test_native_scale(run: InProcess, small_clip: Path, tmp_path: Path) -> None:
    run("flow", small_clip, "--method", "dis", "--fps", "native", "--short-side", "32")
    finished = run("cache", "export", small_clip, "--as", "flo", "--native-scale", "-o", "out")
    flow = read_flo(tmp_path / finished.stdout.strip() / "flow_000003.flo")
    assert flow.shape == (2, 64, 96)
    assert abs(np.median(flow[0]) - 2) < 0.5  # 1 px a frame at half the size


@pytest.mark.parametrize(("kind", "error"), [("jpg", 1.6), ("flo", 0.079)])
def test_import_of_what_was_exported(
    run: InProcess, sealed: Path, small_clip: Path, tmp_path: Path, kind: str, error: float
) -> None:
    flows = SealedFile(sealed).read(range(23))
    folder = tmp_path / run("cache", "export", small_clip, "--as", kind, "-o", "out").stdout.strip()
    finished = run("cache", "import", folder, "--video", small_clip)
    assert finished.returncode == 0, finished.stderr
    imported = SealedFile(Path(finished.stdout.strip()))
    assert imported.path != sealed
    assert np.abs(imported.read(range(23)) - flows).max() < error
    provenance = imported.manifest["provenance"]
    assert provenance["lossy"] is True
    assert provenance["from"] == {"jpg": "denseflow-jpg", "flo": "flo"}[kind]
    assert run("cache", "import", folder, "--video", small_clip).stdout == finished.stdout
    # Imported flow is never taken for computed flow.
    sealed.unlink()
    (row,) = json.loads(run("flow", small_clip, *DIS, "--json").stdout)["results"]
    assert row["cache"]["computed"] == 23
    listed = json.loads(run("cache", "list", "--json").stdout)["entries"]
    assert sorted(entry["provenance"]["lossy"] for entry in listed) == [False, True]


def test_import_refuses(run: InProcess, sealed: Path, small_clip: Path, tmp_path: Path) -> None:
    def refused(code: str, *more: str) -> None:
        finished = run("cache", "import", "in", "--video", small_clip, *more)
        assert finished.returncode == 1
        assert f"[{code}]" in finished.stderr

    refused("no_flow")
    folder = tmp_path / "in"
    shutil.copytree(
        tmp_path / run("cache", "export", small_clip, "--as", "flo", "-o", "o").stdout.strip(), folder
    )
    refused("flow_count", "--step", "2")
    (folder / "flow_000005.flo").rename(tmp_path / "kept")
    refused("no_flow")
    (folder / "flow_000005.flo").write_bytes((tmp_path / "kept").read_bytes()[:-4])
    refused("damaged_flow")
    (folder / "flow_000005.flo").write_bytes(b"PIEH" + np.array([2**30, 2**30], "<i4").tobytes())
    refused("damaged_flow")
    assert not list((tmp_path / "cache").rglob("*.work"))


def test_dry_run_foretells(run: InProcess, make_clip: Callable[..., Path], tmp_path: Path) -> None:
    make_clip(tmp_path / "a.mp4", frames=40)
    make_clip(tmp_path / "b.mp4", frames=24, seed=3)
    (tmp_path / "bad.mp4").write_text("no video")
    finished = run("flow", "a.mp4", "b.mp4", "bad.mp4", *DIS, "--dry-run", "--json")
    assert finished.returncode == 3
    assert not (tmp_path / "cache").exists()
    document = json.loads(finished.stdout)
    assert [row["pairs"] for row in document["inputs"]] == [39, 23, None]
    assert document["inputs"][2]["error"]["code"] == "not_a_video"
    assert document["total"]["missing"] == 62
    paths = run("flow", "a.mp4", "b.mp4", *DIS).stdout.split()
    taken = sum(os.path.getsize(path) for path in paths)
    assert abs(document["total"]["bytes"] / taken - 1) < 0.3
    again = json.loads(run("flow", "a.mp4", "b.mp4", *DIS, "--dry-run", "--json").stdout)
    assert (again["total"]["missing"], again["total"]["bytes"]) == (0, 0)


@pytest.mark.slow
def test_dry_run_is_within_thirty_percent_on_real_clips(
    run: InProcess, shared_dir: Path, tmp_path: Path
) -> None:
    """Bytes of every clip; time in total, at the best of three tries, as others may use the machine."""
    recipe = (shared_dir / "clips", "--fps", "native")
    off = []
    for _ in range(3):
        foretold = json.loads(run("flow", *recipe, "--dry-run", "--json").stdout)
        began = time.monotonic()
        rows = json.loads(run("flow", *recipe, "--json").stdout)["results"]
        took = time.monotonic() - began
        for row, guess in zip(rows, foretold["inputs"], strict=True):
            assert row["cache"]["computed"] == guess["missing"] == guess["pairs"]
            assert abs(guess["bytes"] / os.path.getsize(row["cache"]["path"]) - 1) < 0.3, guess
        off.append(foretold["total"]["seconds"] / took - 1)
        if abs(off[-1]) < 0.3:
            break
        shutil.rmtree(tmp_path / "cache")
    print("time foretold is off by", ", ".join(f"{one:+.0%}" for one in off))
    assert min(map(abs, off)) < 0.3


def test_max_cache_size_warns_before(run: InProcess, small_clip: Path) -> None:
    quiet = run("flow", small_clip, *DIS, "--max-cache-size", "1GB")
    assert (quiet.returncode, "cache_size" in quiet.stderr) == (0, False)
    warned = run("flow", small_clip, *DIS, "--storage", "high", "--max-cache-size", "12kB")
    assert warned.returncode == 0
    assert re.search(r"holds \S+ kB and this run adds about \S+ kB.*\[cache_size\]", warned.stderr)


def test_the_finest_storage_is_meant(run: InProcess, sealed: Path, small_clip: Path) -> None:
    high = run("flow", small_clip, *DIS, "--storage", "high").stdout
    assert run("cache", "path", small_clip).stdout == high
    assert SealedFile(Path(high.strip())).storage == Storage("high")


def test_classify_computes_its_clips_and_flow_the_rest(
    run: InProcess, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    clip = make_clip(
        tmp_path / "long.mp4", frames=96, fps=12
    )  # 8 s: more than the clips of one classification
    model = tmp_path / "m.safetensors"
    write_model(model, "flow")
    (first,) = json.loads(run("classify", clip, "--model", model, "--clips", "2", "--json").stdout)["results"]
    assert 0 < first["cache"]["computed"] == first["cache"]["pairs"] < 40
    assert not list((tmp_path / "cache").rglob("*.flow.h5"))
    (rest,) = json.loads(run("flow", clip, "--for", model, "--json").stdout)["results"]
    assert rest["cache"]["reused"] == first["cache"]["computed"]
    assert rest["cache"]["computed"] + rest["cache"]["reused"] == rest["cache"]["pairs"] > 50
    (again,) = json.loads(run("classify", clip, "--model", model, "--clips", "2", "--json").stdout)["results"]
    assert (again["cache"]["computed"], again["labels"]) == (0, first["labels"])
    assert run("cache", "path", clip, "--for", model).stdout.strip() == rest["cache"]["path"]
