"""Generated files: what the truth says is what is in them, and seeds reproduce."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vpipe.errors import UsageError
from vpipe.media import FrameSource
from vpipe.synth.vocabulary import LABELS
from vpipe.synth.write import SynthOptions, write_clips, write_untrimmed

SMALL = (96, 64)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_clips_and_truth(tmp_path: Path) -> None:
    truth = write_clips(tmp_path, 4, SynthOptions(seed=3, fps=Fraction(10), size=SMALL))
    assert truth == json.loads((tmp_path / "truth.json").read_text())
    assert [row["label"] for _, row in sorted(truth["videos"].items())] == list(LABELS[:4])
    for name, row in truth["videos"].items():
        source = FrameSource(tmp_path / name)
        assert (source.info.width, source.info.height) == SMALL
        times = source.timeline().times
        assert len(times) == row["frames"]
        assert np.allclose([float(t) for t in times], np.arange(len(times)) / 10, atol=1e-4)


def test_seeds_reproduce_with_any_number_of_processes(tmp_path: Path) -> None:
    options = SynthOptions(seed=8, fps=Fraction(8), size=SMALL)
    write_clips(tmp_path / "a", 3, options, jobs=1)
    write_clips(tmp_path / "b", 3, options, jobs=2)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_vfr_times_are_written(tmp_path: Path) -> None:
    write_clips(tmp_path, 1, SynthOptions(seed=1, fps=Fraction(20), vfr=True, size=SMALL))
    (video,) = tmp_path.glob("*.mp4")
    steps = np.diff([float(t) for t in FrameSource(video).timeline().times])
    assert steps.min() > 0
    assert steps.max() > 1.5 * steps.min()


def test_untrimmed_truth(tmp_path: Path) -> None:
    options = SynthOptions(seed=2, fps=Fraction(8), size=SMALL)
    truth = write_untrimmed(tmp_path, 1, 0.25, options)
    ((name, entry),) = truth["database"].items()
    assert (tmp_path / f"{name}.mp4").is_file()
    assert entry["duration"] == pytest.approx(15, abs=0.2)
    assert entry["annotations"]
    for annotation in entry["annotations"]:
        start, end = annotation["segment"]
        assert 0 <= start < end <= entry["duration"] + 1e-3
        assert annotation["label"] in LABELS
        assert annotation["label"] != "static"


def test_textures_of_real_videos(tmp_path: Path, shared_dir: Path) -> None:
    options = SynthOptions(seed=4, fps=Fraction(8), size=SMALL, background_from=shared_dir / "clips")
    truth = write_clips(tmp_path, 1, options)
    assert truth["textures"] == "frames of real videos"


def test_what_cannot_be_made_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown label jump"):
        SynthOptions(labels=("jump",))
    with pytest.raises(UsageError, match="label other than static"):
        write_untrimmed(tmp_path, 1, 1, SynthOptions(labels=("static",)))
    with pytest.raises(UsageError, match="holds no readable video"):
        write_clips(tmp_path / "out", 1, SynthOptions(background_from=tmp_path))


def test_two_sets_never_mix(tmp_path: Path) -> None:
    first = SynthOptions(seed=1, fps=Fraction(8), size=SMALL)
    second = SynthOptions(seed=2, fps=Fraction(8), size=SMALL)
    write_clips(tmp_path, 3, first)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="--overwrite"):
        write_clips(tmp_path, 1, second)
    assert contents(tmp_path) == before
    (tmp_path / "mine.mp4").write_bytes(b"not generated")
    truth = write_clips(tmp_path, 1, second, overwrite=True)
    assert set(contents(tmp_path)) == {"truth.json", "mine.mp4", *truth["videos"]}
