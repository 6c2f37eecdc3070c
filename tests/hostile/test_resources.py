"""A machine that has little to give: it works, or one line says what is missing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vpipe.documents import read_document
from vpipe.errors import UsageError
from vpipe.models.importer.labels import read_labels
from vpipe.training.recipe import load_recipe

Shell = Callable[..., "subprocess.CompletedProcess[str]"]
FLOW = "flow --method dis --fps native --jsonl"


@pytest.fixture
def shell(vpipe_executable: Path, clean_environment: dict[str, str], tmp_path: Path) -> Shell:
    """`shell("ulimit -n 40; $VPIPE check a.mp4")` in `tmp_path`."""

    def run(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            env=clean_environment | {"VPIPE": str(vpipe_executable)} | environment,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


def rows(finished: subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in finished.stdout.splitlines()]


def code_of(finished: subprocess.CompletedProcess[str]) -> str:
    """The code of the one error that was said."""
    errors = [line for line in finished.stderr.splitlines() if line.startswith("vpipe: error: ")]
    assert len(errors) == 1, finished.stderr
    assert "Traceback" not in finished.stderr
    return errors[0].rsplit("[", 1)[1].rstrip("]")


def test_few_descriptors_and_one_core(shell: Shell, small_clip: Path) -> None:
    done = shell(f"ulimit -n 40; taskset -c 0 $VPIPE {FLOW} '{small_clip}'")
    assert [row["status"] for row in rows(done)] == ["ok"], done.stderr


def test_no_descriptors_to_spare(shell: Shell, small_clip: Path) -> None:
    done = shell(f"ulimit -n 9; $VPIPE check --jsonl '{small_clip}'")
    if done.returncode:
        assert "ulimit" in done.stderr or "Too many open files" in done.stderr, done.stderr
        assert "Traceback" not in done.stderr


def test_without_dev_shm(shell: Shell, small_clip: Path) -> None:
    inside = f"mount -t tmpfs -o ro none /dev/shm && $VPIPE {FLOW} '{small_clip}'"
    if shell("unshare -m mount -t tmpfs -o ro none /dev/shm").returncode:
        pytest.skip("may not mount over /dev/shm")
    done = shell(f'unshare -m sh -c "{inside}"')
    assert [row["status"] for row in rows(done)] == ["ok"], done.stderr


def test_a_home_that_cannot_be_written(shell: Shell, small_clip: Path) -> None:
    environment = {"HOME": "/proc/none", "XDG_CACHE_HOME": "/proc/none"}
    done = shell(f"$VPIPE check --jsonl '{small_clip}'", **environment)
    assert [row["status"] for row in rows(done)] == ["ok"], done.stderr
    done = shell(f"env -u VPIPE_CACHE_DIR $VPIPE {FLOW} '{small_clip}'", **environment)
    assert (done.returncode, code_of(done)) == (1, "cache_unwritable")


def test_outputs_that_cannot_be_written(shell: Shell, small_clip: Path) -> None:
    done = shell(f"$VPIPE extract '{small_clip}' -o /proc/none")
    assert (done.returncode, code_of(done)) == (1, "unwritable_output")
    done = shell(f"$VPIPE check --jsonl '{small_clip}' > /dev/full")
    assert (done.returncode, code_of(done)) == (1, "unwritable_output")


def test_a_full_disk(shell: Shell, small_clip: Path) -> None:
    if shell("unshare -m mount -t tmpfs -o size=64k none /mnt").returncode:
        pytest.skip("may not mount a small file system")
    script = (
        "mount -t tmpfs -o size=64k none /mnt; $VPIPE extract $CLIP --as png -o /mnt/out; code=$?;"
        "find /mnt -type f | wc -l; exit $code"
    )
    done = shell('unshare -m sh -c "$SCRIPT"', SCRIPT=script, CLIP=str(small_clip))
    assert done.returncode == 1, done.stderr
    assert code_of(done) in ("disk_full", "unwritable_output")
    assert done.stdout.strip() == "0", "something half-written is left"


def test_a_full_disk_for_a_stream_that_is_kept(
    shell: Shell, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    if shell("unshare -m mount -t tmpfs -o size=16k none /mnt").returncode:
        pytest.skip("may not mount a small file system")
    clip = make_clip(tmp_path / "a.mp4", frames=60, size=(320, 240))
    script = "mount -t tmpfs -o size=16k none /mnt; cat $CLIP | TMPDIR=/mnt $VPIPE detect -"
    done = shell('unshare -m sh -c "$SCRIPT"', SCRIPT=script, CLIP=str(clip))
    assert (done.returncode, code_of(done)) == (1, "disk_full")


LIMITS = ("--max-frames 5", "--max-pixels 100", "--max-streams 1", "--max-metadata 1", "--max-memory 20MB")


@pytest.mark.parametrize("option", LIMITS)
def test_each_limit_is_an_option(shell: Shell, small_clip: Path, tmp_path: Path, option: str) -> None:
    name = small_clip
    if "memory" in option:
        name = tmp_path / "bomb.png"  # a few KB that unpack to 27 MB
        cv2.imwrite(str(name), np.zeros((3000, 3000, 3), np.uint8))
    if "streams" in option:
        import av

        name = tmp_path / "two.mkv"
        with av.open(str(name), "w") as container:
            streams = [container.add_stream("ffv1", rate=10) for _ in range(2)]
            for stream in streams:
                stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for stream in streams:
                container.mux([*stream.encode(av.VideoFrame(64, 48, "yuv420p")), *stream.encode(None)])
    done = shell(f"$VPIPE check --jsonl {option} '{name}'")
    (row,) = rows(done)
    error = row["error"]
    assert isinstance(error, dict), row
    assert error["code"] == "too_large", error
    assert option.split()[0] in error["message"]


def test_limits_that_are_none(shell: Shell, small_clip: Path) -> None:
    assert shell(f"$VPIPE check --max-memory much '{small_clip}'").returncode == 2
    assert shell(f"$VPIPE check --max-frames 0 '{small_clip}'").returncode == 2


FATES = [
    (signal.SIGKILL, "decoder_crashed"),
    (signal.SIGSEGV, "decoder_crashed"),
    (signal.SIGSTOP, "timeout"),
]


# Strikes every decoder that opens a file, until its input ends: after a used one there is a fresh one.
STRIKER = """
import os, select, sys
from pathlib import Path

path, how, struck = sys.argv[1], int(sys.argv[2]), set()
print("looking", flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if b"vpipe.media.worker" not in (place / "cmdline").read_bytes():
                continue
            files = [os.readlink(fd) for fd in (place / "fd").iterdir()]
        except OSError:
            continue
        if path in files and int(place.name) not in struck:
            struck.add(int(place.name))
            os.kill(int(place.name), how)
print(*struck)
"""


@pytest.mark.slow
@pytest.mark.timed
@pytest.mark.parametrize(("how", "code"), FATES)
def test_a_decoder_that_dies_or_hangs_in_a_batch(
    shell: Shell, make_clip: Callable[..., Path], tmp_path: Path, how: signal.Signals, code: str
) -> None:
    make_clip(tmp_path / "a.mp4")
    make_clip(tmp_path / "b.mp4", frames=2400, size=(640, 360))  # time to be struck, on a busy machine too
    make_clip(tmp_path / "c.mp4")
    command = [sys.executable, "-c", STRIKER, str(tmp_path / "b.mp4"), str(int(how))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as striker:
        assert striker.stdout is not None
        assert striker.stdout.readline() == "looking\n"
        done = shell("$VPIPE check --jsonl -j 1 --max-stall 2 a.mp4 b.mp4 c.mp4")
        struck = striker.communicate("", timeout=60)[0]
    assert struck.strip(), done.stdout + done.stderr
    found = {row["input"]: row for row in rows(done)}
    assert [found[name]["status"] for name in ("a.mp4", "b.mp4", "c.mp4")] == ["ok", "failed", "ok"]
    error = found["b.mp4"]["error"]
    assert isinstance(error, dict)
    assert error["code"] == code
    assert done.returncode == 1


def test_standard_streams_that_are_closed(shell: Shell, small_clip: Path, tmp_path: Path) -> None:
    """Their numbers go to no other file, which native libraries would print into."""
    done = shell(f"$VPIPE check --jsonl '{small_clip}' >&-")
    assert (done.returncode, code_of(done)) == (1, "unwritable_output")
    done = shell(f"$VPIPE check --jsonl '{small_clip}' 2>&- <&-")
    assert [row["status"] for row in rows(done)] == ["ok"]
    done = shell("$VPIPE detect - <&-")
    assert (done.returncode, code_of(done)) == (1, "os_error")
    done = shell("$VPIPE check --from-file - <&-")
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr


def test_documents_without_end_and_fifos(shell: Shell, tmp_path: Path) -> None:
    """What is read whole has a largest size; a fifo is as good as a file (`<(zcat truth.json.gz)`)."""
    (tmp_path / "truth.json").write_text(
        '{"database": {"a": {"annotations": [{"segment": [0, 1], "label": "x"}]}}}'
    )
    (tmp_path / "guesses.json").write_text(
        '{"results": {"a": [{"segment": [0, 1], "label": "x", "score": 1}]}}'
    )
    done = shell("$VPIPE eval detection --ground-truth <(cat truth.json) --predictions <(cat guesses.json)")
    assert done.returncode == 0, done.stderr
    assert "average 100.00" in done.stdout
    os.mkfifo(tmp_path / "fifo")
    for script in (
        "$VPIPE cache verify fifo",
        "$VPIPE models import fifo -o a",
        "$VPIPE classify a --model fifo",
    ):
        done = shell(f"timeout 50 {script}")
        assert done.returncode in (1, 2), (script, done.stderr)
        assert "Traceback" not in done.stderr


def test_no_document_is_read_without_end(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="larger"):
        read_document(Path("/dev/zero"))
    (tmp_path / "labels").write_bytes(b"x" * 1000)
    assert len(read_document(tmp_path / "labels", 1000)) == 1000
    with pytest.raises(OSError, match="larger"):
        read_document(tmp_path / "labels", 999)


def test_a_label_file_of_many_lines_and_a_recipe_of_many_brackets(tmp_path: Path) -> None:
    (tmp_path / "labels").write_text("".join(f"label {number}\n" for number in range(300_000)))
    begin = time.process_time()
    assert len(read_labels(tmp_path / "labels")) == 300_000
    assert time.process_time() - begin < 20  # not each against all others
    (tmp_path / "deep.toml").write_text("a = " + "[" * 100_000)
    with pytest.raises(UsageError, match="not a usable recipe"):
        load_recipe(str(tmp_path / "deep.toml"))
