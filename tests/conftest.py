"""Fixtures every room may use: the installed command, generated clips, the folder of real material."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from vpipe.threads import SPINS

# The first example may compile a kernel, and a busy machine is no fault.
settings.register_profile("vpipe", deadline=None)
settings.load_profile("vpipe")

# Before torch is imported: tests run beside each other.
os.environ.setdefault("GOMP_SPINCOUNT", SPINS)

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would every command that the tests start.
    signal.signal(signal.SIGINT, signal.default_int_handler)

CHECKOUT = Path(__file__).resolve().parent.parent
COMMAND_TIMEOUT_S = 120

Vpipe = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real clips and flow pairs beside the checkout; tests that need them are skipped without."""
    folder = CHECKOUT.parent / "shared"
    if not (folder / "clips").is_dir():
        pytest.skip("needs the folder of real clips beside the checkout (../shared)")
    return folder


@pytest.fixture(scope="session")
def vpipe_executable() -> Path:
    """The installed `vpipe` command beside this Python."""
    command = Path(sys.executable).parent / "vpipe"
    assert command.exists(), "install the package first: pip install -e ."
    return command


@pytest.fixture(scope="session")
def compiled_kernels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's cache folder for a whole run: the flow kernels are compiled once, not by every command."""
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def clean_environment(tmp_path: Path, compiled_kernels: Path) -> dict[str, str]:
    """An environment with an empty home, a cache of its own and no VPIPE_* of the developer's."""
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("VPIPE_", "XDG_"))}
    return kept | {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(compiled_kernels),
        "VPIPE_CACHE_DIR": str(tmp_path / "cache"),
    }


@pytest.fixture
def vpipe(vpipe_executable: Path, clean_environment: dict[str, str], tmp_path: Path) -> Vpipe:
    """`vpipe("flow", path, "--json", env={...})` runs the command and returns the finished process."""

    def run(
        *arguments: str | bytes | Path,
        env: Mapping[str, str] | None = None,
        stdin: str | None = None,
        cwd: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [vpipe_executable, *arguments],
            env={**clean_environment, **(env or {})},
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            cwd=cwd or tmp_path,
            timeout=COMMAND_TIMEOUT_S,
        )

    return run


def write_clip(
    path: Path,
    frames: int = 24,
    fps: int = 12,
    size: tuple[int, int] = (96, 64),
    step_px: tuple[int, int] = (2, 0),
    seed: int = 0,
) -> Path:
    """Write a small H.264 video whose content moves by `step_px` (right, down) a frame; size (w, h)."""
    import av

    width, height = size
    noise = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    picture = noise.repeat(8, 0).repeat(8, 1)[:height, :width]
    options = {"crf": "20", "preset": "ultrafast"}
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(fps), options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for index in range(frames):
            moved = np.roll(picture, (step_px[1] * index, step_px[0] * index), (0, 1))
            for packet in stream.encode(av.VideoFrame.from_ndarray(moved, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="session")
def small_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seconds of 96x64 at 12 fps (24 frames); content moves right by 2 px a frame. Read-only."""
    return write_clip(tmp_path_factory.mktemp("clips") / "small.mp4")


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """`make_clip(path, frames=24, fps=12, size=(96, 64), step_px=(2, 0), seed=0)` writes a small video."""
    return write_clip


def assert_one_line_error(finished: subprocess.CompletedProcess[str], *parts: str) -> str:
    """The process said exactly one error, on one line, without a traceback, with every one of `parts`."""
    errors = [line for line in finished.stderr.splitlines() if line.startswith("vpipe: error: ")]
    assert len(errors) == 1, finished.stderr
    assert "Traceback" not in finished.stderr + finished.stdout
    for part in parts:
        assert part in errors[0]
    return errors[0]


@pytest.fixture(scope="session")
def one_error() -> Callable[..., str]:
    return assert_one_line_error


def make_files(folder: Path, names: Sequence[str]) -> list[Path]:
    """Empty files below `folder`, with their folders."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return paths


@pytest.fixture
def tmpfs(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """`tmpfs(size)` mounts one of so many bytes, or makes it larger."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = False

    def mount(size: int) -> Path:
        nonlocal mounted
        remount = 32 if mounted else 0  # MS_REMOUNT
        options = f"size={size}".encode()
        if libc.mount(b"none", os.fsencode(folder), b"tmpfs", remount, options) != 0:
            pytest.skip(f"may not mount a small tmpfs: {os.strerror(ctypes.get_errno())}")
        mounted = True
        return folder

    yield mount
    if mounted:
        libc.umount2(os.fsencode(folder), 2)
