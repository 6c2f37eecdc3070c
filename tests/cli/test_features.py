"""`vpipe features` from the shell: tables, what is beside them, and everything that can be wrong."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import torch

from vpipe.errors import InputError
from vpipe.media import FrameSource, VideoWriter
from vpipe.models import load_model
from vpipe.models.importer.parity import filled
from vpipe.recognition.features_file import Spacing, feature_files, read_features, spacing_of

from .inprocess import InProcess
from .small_models import write_model

FIXTURES = Path(__file__).parents[1] / "models" / "fixtures"


@pytest.fixture
def run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    compiled_kernels: Path,
) -> InProcess:
    monkeypatch.setenv("XDG_CACHE_HOME", str(compiled_kernels))
    return InProcess(tmp_path, monkeypatch, capsys)


def moving_video(path: Path, times: list[Fraction], size: tuple[int, int] = (96, 64)) -> Path:
    """Noise that moves, shown at `times`."""
    picture = np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8)
    picture = cv2.GaussianBlur(picture, (0, 0), 3)
    with VideoWriter(path, *size, fps=None) as writer:
        for number, t in enumerate(times):
            writer.write(np.roll(picture, 2 * number, axis=1), t)
    return path


def import_fixture(run: InProcess, folder: Path, name: str) -> Path:
    """A published checkpoint with the fixture's weights, imported as a user would."""
    fixture = json.loads((FIXTURES / f"{name}.json").read_text())
    state = {
        fixture["checkpoint"]["prefix"] + key: torch.from_numpy(filled(key, tuple(shape), dtype, 1.25))
        for key, shape, dtype in fixture["state_dict"]
    }
    torch.save(state, folder / f"{name}.pt")
    (folder / "labels.txt").write_text("".join(f"action {n}\n" for n in range(11)))
    out = folder / f"{name}.safetensors"
    finished = run("models", "import", folder / f"{name}.pt", "--labels", "labels.txt", "-o", out)
    assert finished.returncode == 0, finished.stderr
    return out


def test_table_and_times_of_the_packaged_kind(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb", "flow")
    finished = run("features", small_clip, "--model", model, "-o", "F")
    assert (finished.returncode, finished.stdout) == (0, "F/small.npy\n"), finished.stderr
    table = np.load(tmp_path / "F" / "small.npy")
    found = json.loads((tmp_path / "F" / "small.json").read_text())
    # Two seconds at 8 a second are 16 grid frames: windows of 8 begin at 0, 2, ... 8.
    assert (table.shape, table.dtype) == ((5, 16), np.float32)
    assert found["schema"] == "vpipe.features/1"
    assert (found["snippets"], found["channels"]) == (5, 16)
    assert [found[key] for key in ("window", "stride", "fps", "offset")] == [8, 2, 8.0, 3.5]
    assert found["start_s"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    # Half way between the frames shown first and last, of twelve a second: 0 and 10, 3 and 13, ...
    assert found["centre_s"] == pytest.approx([n / 24 for n in (10, 16, 22, 28, 34)], abs=1e-5)
    assert found["end_s"] == [1.0, 1.25, 1.5, 1.75, 2.0]
    assert found["model"]["hash"] == hashlib.sha256(model.read_bytes()).hexdigest()
    assert found["model"]["streams"] == [
        {"modality": "rgb", "channels": 8},
        {"modality": "flow", "channels": 8},
    ]
    assert sum(count for count, _ in found["frame_pts"]["runs"]) == 23
    read = read_features(tmp_path / "F" / "small.npy")
    assert read.frame_times_s == pytest.approx(np.arange(24) / 12, abs=1e-4)
    # RGB before flow, and the same numbers as each alone.
    for modality, part in (("rgb", slice(0, 8)), ("flow", slice(8, 16))):
        (stream,) = [s for s in load_model(model).streams if s.modality == modality]
        alone = write_model(tmp_path / f"{modality}.safetensors", modality)
        if modality == "flow":  # the second network of one file has other random weights than a first
            continue
        assert stream.network.fc.in_features == 8
        assert run("features", small_clip, "--model", alone, "-o", "A").returncode == 0
        assert np.array_equal(np.load(tmp_path / "A" / "small.npy"), table[:, part])


def test_features_are_what_the_last_layer_is_given(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    """The layer's own weights on a feature give the logits of that snippet."""
    model = write_model(tmp_path / "small.safetensors", "rgb")
    assert run("features", small_clip, "--model", model, "-o", "F").returncode == 0
    (stream,) = load_model(model).streams
    source = FrameSource(small_clip, size=stream.size)
    frames = np.stack([frame.image for _, frame in source.resample(Fraction(8))])[2:10]
    clip = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 255
    with torch.inference_mode():
        wanted = stream.network(clip)[0].numpy()
        feature = torch.from_numpy(np.load(tmp_path / "F" / "small.npy")[1])
        assert stream.network.fc(feature).numpy() == pytest.approx(wanted, abs=1e-4)


@pytest.mark.slow
def test_import_rgb_import_flow_fuse_features(tmp_path: Path, run: InProcess) -> None:
    """T x 2048, RGB first; the RGB half as an independent preparation of the frames gives it."""
    rgb, flow = (import_fixture(run, tmp_path, f"i3d_{kind}") for kind in ("rgb_hassony2", "flow_piergiaj"))
    assert run("models", "fuse", flow, rgb, "-o", "i3d-two.safetensors", "--on", "logits").returncode == 0
    video = moving_video(tmp_path / "v.mp4", [Fraction(k, 25) for k in range(14)], (120, 90))
    options = ["--window", "10", "--stride", "4", "--model", "i3d-two.safetensors"]
    finished = run("features", video, *options, "-o", "F")
    assert (finished.returncode, finished.stdout) == (0, "F/v.npy\n"), finished.stderr
    table = np.load(tmp_path / "F" / "v.npy")
    found = json.loads((tmp_path / "F" / "v.json").read_text())
    assert table.shape == (2, 2048)
    assert [s["modality"] for s in found["model"]["streams"]] == ["rgb", "flow"]
    assert [found[key] for key in ("window", "stride", "fps", "offset")] == [10, 4, 25.0, 5.0]
    assert found["centre_s"] == pytest.approx([0.2, 0.36])
    assert found["end_s"] == pytest.approx([0.4, found["duration_s"]])
    frames = [frame.image for frame in FrameSource(video).frames()][4:14]
    clip = []
    for frame in frames:  # short side 256, bilinear; the middle 224 x 224; -1 to 1
        larger = cv2.resize(frame, (int(256 * 120 / 90 + 0.5), 256), interpolation=cv2.INTER_LINEAR)
        left = (larger.shape[1] - 224) // 2
        clip.append(larger[16:240, left : left + 224] / 127.5 - 1)
    inputs = torch.from_numpy(np.stack(clip)).float().permute(0, 3, 1, 2)[None]
    network = load_model(rgb).streams[0].network
    with torch.inference_mode():
        wanted = network.features(inputs)[0].numpy()
    assert table[1, :1024] == pytest.approx(wanted, abs=1e-3)
    assert np.abs(table[1, 1024:] - wanted).max() > 0.1


def test_times_come_from_pts(tmp_path: Path, run: InProcess) -> None:
    """A video of two rates: frames 0..19 ten a second, then fifty a second; snippets are of frames."""
    model = import_fixture(run, tmp_path, "tsm_mobilenetv2_8f")
    slow = [Fraction(k, 10) for k in range(20)]
    video = moving_video(tmp_path / "v.mp4", slow + [2 + Fraction(k, 50) for k in range(20)])
    finished = run("features", video, "--model", model, "-o", "F", "--window", "8", "--stride", "8")
    assert finished.returncode == 0, finished.stderr
    found = read_features(tmp_path / "F" / "v.npy")
    assert found.start_s == pytest.approx([0, 0.8, 1.6, 2.08, 2.24], abs=1e-5)
    assert found.centre_s == pytest.approx([0.4, 1.2, 2.0, 2.16, 2.32], abs=1e-5)
    assert found.end_s == pytest.approx([0.8, 1.6, 2.08, 2.24, 2.4], abs=1e-5)
    assert len(found.frame_times_s) == 40
    assert found.frame_times_s[25] == pytest.approx(2.1)


def test_h5_holds_the_same(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    for kind in ("npy", "h5"):
        finished = run("features", small_clip, "--model", model, "-o", kind, "--as", kind)
        assert finished.stdout == f"{kind}/small.{kind}\n"
    with h5py.File(tmp_path / "h5" / "small.h5") as file:
        assert np.array_equal(file["features"][()], np.load(tmp_path / "npy" / "small.npy"))
        assert json.loads(file["json"][()])["schema"] == "vpipe.features/1"
    one, other = (read_features(tmp_path / kind / f"small.{kind}") for kind in ("npy", "h5"))
    assert np.array_equal(one.centre_s, other.centre_s)
    assert (one.spacing, one.model, one.duration_s) == (other.spacing, other.model, other.duration_s)


def test_running_again_resumes_and_bad_videos_do_not_stop(
    tmp_path: Path, small_clip: Path, run: InProcess
) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    arguments = ["features", small_clip, "broken.mp4", "--model", model, "-o", "F"]
    first = run(*arguments, "--json")
    assert first.returncode == 3
    document = json.loads(first.stdout)
    assert document["schema"] == "vpipe.features/1"
    assert document["results"][0]["reused"] is False
    assert len(document["failures"]) == 1
    target = tmp_path / "F" / "small.npy"
    assert sorted(p.name for p in target.parent.iterdir()) == ["small.json", "small.npy"]
    before = (target.stat().st_mtime_ns, target.read_bytes(), (tmp_path / "F" / "small.json").read_bytes())
    again = run(*arguments)
    assert (again.returncode, again.stdout) == (3, "F/small.npy\n")
    assert "already there" in again.stderr
    assert target.stat().st_mtime_ns == before[0]
    other = run(*arguments, "--stride", "1")
    assert other.returncode == 1
    assert "output_exists" in other.stderr
    assert run(*arguments, "--overwrite").returncode == 3
    assert (target.read_bytes(), (tmp_path / "F" / "small.json").read_bytes()) == before[1:]
    target.write_bytes(target.read_bytes()[:-4])  # a damaged one is not "already there"
    assert "output_exists" in run(*arguments).stderr


def test_equal_stems_get_folders(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "v.mp4").write_bytes(small_clip.read_bytes())
    finished = run("features", "a", "b", "--model", model, "-o", "F")
    assert finished.stdout == "F/a/v.npy\nF/b/v.npy\n"
    assert list(feature_files(tmp_path / "F")) == ["a/v", "b/v"]


def test_a_video_shorter_than_a_window(
    tmp_path: Path, make_clip: Callable[..., Path], run: InProcess
) -> None:
    model = import_fixture(run, tmp_path, "tsm_mobilenetv2_8f")
    video = make_clip(tmp_path / "short.mp4", frames=5, fps=10)
    row = json.loads(run("features", video, "--model", model, "-o", "F", "--jsonl").stdout)
    assert (row["snippets"], [w["code"] for w in row["warnings"]]) == (1, ["short_video"])
    found = read_features(tmp_path / "F" / "short.npy")
    assert (found.start_s[0], found.centre_s[0], found.end_s[0]) == (0.0, 0.25, 0.5)


def test_a_video_slower_than_the_grid(tmp_path: Path, make_clip: Callable[..., Path], run: InProcess) -> None:
    """Neighbouring snippets see the same frames; their times do not fall, and the file is read again."""
    model = write_model(tmp_path / "small.safetensors", "rgb")
    video = make_clip(tmp_path / "slow.mp4", frames=6, fps=1)
    assert run("features", video, "--model", model, "-o", "F").returncode == 0
    found = read_features(tmp_path / "F" / "slow.npy")
    assert (np.diff(found.centre_s) >= 0).all()
    assert found.duration_s == pytest.approx(6)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--window", "16"], "bad_window"),
        (["--model", "gone.safetensors"], "model_not_found"),
        (["--stride", "0"], "bad_usage"),
    ],
)
def test_bad_values(
    options: list[str],
    code: str,
    tmp_path: Path,
    small_clip: Path,
    run: InProcess,
    one_error: Callable[..., str],
) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    finished = run("features", small_clip, "-o", "F", "--model", model, *options)
    assert finished.returncode == 2
    one_error(finished, f"[{code}]")


def test_an_unwritable_folder(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    (tmp_path / "file").touch()
    finished = run("features", small_clip, "-o", tmp_path / "file" / "F")
    assert (finished.returncode, "[unwritable_output]" in finished.stderr) == (1, True)


@pytest.mark.parametrize(
    ("table", "why"),
    [
        (np.full((4, 3), np.nan), "4 of its 4 snippets are not finite"),
        (np.zeros((0, 3)), "not snippets x channels"),
        (np.zeros(3), "not snippets x channels"),
        (np.zeros((2, 3, 4)), "not snippets x channels"),
        (np.array([["a"]]), "not numbers"),
        (np.array([[None]]), "not a whole .npy"),
    ],
)
def test_plain_tables_that_are_none(table: np.ndarray, why: str, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", table, allow_pickle=True)
    with pytest.raises(InputError, match=why):
        read_features(tmp_path / "v.npy", Spacing(16, 4, 25, 8))


def test_plain_tables(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.ones((1, 6, 4, 1), np.float16))
    with pytest.raises(InputError, match="--stride, --window and --fps"):
        read_features(tmp_path / "v.npy")
    found = read_features(tmp_path / "v.npy", spacing_of(16, 4, 30, None))
    assert (found.table.shape, found.table.dtype) == ((6, 4), np.float32)
    assert found.centre_s == pytest.approx((8 + 4 * np.arange(6)) / 30)
    assert (found.start_s[0], found.duration_s) == (0.0, pytest.approx(36 / 30))
    for bad in ((16, None, 30, None), (16, 0, 30, None), (16, 4, float("nan"), None), (16, 4, 30, -1)):
        with pytest.raises(InputError, match="--stride"):
            spacing_of(*bad)


def test_damaged_files_are_one_sentence(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    model = write_model(tmp_path / "small.safetensors", "rgb")
    assert run("features", small_clip, "--model", model, "-o", "F").returncode == 0
    assert run("features", small_clip, "--model", model, "-o", "F5", "--as", "h5").returncode == 0
    good = json.loads((tmp_path / "F" / "small.json").read_text())
    changes = [
        {"snippets": 6},
        {"centre_s": [0.0, 1.0, 0.5, 1.5, 2.0]},
        {"centre_s": [1.0]},
        {"stride": 0},
        {"frame_pts": {"unit": "1/12", "runs": [[10**12, 1]]}},
        {"schema": "vpipe.features/9"},
        {"model": "me"},
        {"duration_s": None},
        {"digest": "0" * 64},
    ]
    for change in changes:
        (tmp_path / "F" / "small.json").write_text(json.dumps(good | change))
        with pytest.raises(InputError, match="not usable features"):
            read_features(tmp_path / "F" / "small.npy")
    (tmp_path / "F" / "small.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        read_features(tmp_path / "F" / "small.npy")
    data = (tmp_path / "F5" / "small.h5").read_bytes()
    for end in (0, 100, len(data) // 2):
        (tmp_path / "F5" / "small.h5").write_bytes(data[:end])
        with pytest.raises(InputError, match="not usable features"):
            read_features(tmp_path / "F5" / "small.h5")
    (tmp_path / "F" / "small.h5").write_bytes(data)
    with pytest.raises(InputError, match="leave one of the two"):
        feature_files(tmp_path / "F")


def test_a_run_that_was_killed_goes_on(tmp_path: Path, small_clip: Path, run: InProcess) -> None:
    """The JSON is written first and counts for nothing without its table."""
    model = write_model(tmp_path / "small.safetensors", "rgb")
    assert run("features", small_clip, "--model", model, "-o", "F").returncode == 0
    table = tmp_path / "F" / "small.npy"
    whole = table.read_bytes()
    table.unlink()
    (tmp_path / "F" / ".small.npy.abc.part").write_bytes(whole[:50])
    assert list((tmp_path / "F").glob("*.npy")) == []
    assert run("features", small_clip, "--model", model, "-o", "F").returncode == 0
    assert table.read_bytes() == whole
    table.write_bytes(whole[:-1] + b"?")
    with pytest.raises(InputError, match="digest"):
        read_features(table)
