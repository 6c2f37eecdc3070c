"""The GPU engine against the CPU engine: in Triton's interpreter, and on a GPU where there is one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import CHECKOUT
from tests.flow.gpu_interpreted import FEW, PARTS, Case, cases, moving, slow_cases
from vpipe.errors import EnvironmentFault, VpipeError
from vpipe.flow import batch, tvl1
from vpipe.flow.params import METHODS, PRESETS, FlowParams

WORKER_TIMEOUT_S = 300

needs_triton = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="needs Triton: pip install 'vpipe[gpu]' (Linux)"
)


def gpu_missing() -> bool:
    import torch

    return not torch.cuda.is_available()


needs_gpu = pytest.mark.skipif(gpu_missing(), reason="needs a CUDA device: not run on a GPU")


def run_worker(module: str, environment: dict[str, str], *arguments: str | Path) -> str:
    """A process of its own: Triton decides when it is imported whether it compiles or interprets."""
    finished = subprocess.run(
        [sys.executable, "-m", f"tests.flow.{module}", *arguments],
        env={k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"} | environment,
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=WORKER_TIMEOUT_S,
    )
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished.stdout


def expected(case: Case) -> np.ndarray:
    return np.stack([tvl1(a, b, case.params) for a, b in zip(case.frames, case.frames[1:], strict=False)])


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What the kernels give for every case, and `flow_stream`, in the interpreter."""
    folder = tmp_path_factory.mktemp("gpu")
    with ThreadPoolExecutor(PARTS) as pool:
        workers = [
            pool.submit(
                run_worker, "gpu_interpreted", {"TRITON_INTERPRET": "1"}, folder / f"{part}.npz", str(part)
            )
            for part in range(PARTS)
        ]
        for worker in workers:
            worker.result()
    flows = {}
    for part in range(PARTS):
        with np.load(folder / f"{part}.npz") as saved:
            flows |= dict(saved)
    return flows


@needs_triton
@pytest.mark.parametrize("name", cases())
def test_same_flow_as_the_cpu_engine(name: str, interpreted: dict[str, np.ndarray]) -> None:
    same(cases()[name], interpreted[name])


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("name", slow_cases())
def test_same_flow_as_the_cpu_engine_with_all_warps(name: str, tmp_path: Path) -> None:
    run_worker("gpu_interpreted", {"TRITON_INTERPRET": "1"}, tmp_path / "slow.npz", "slow")
    with np.load(tmp_path / "slow.npz") as saved:
        same(slow_cases()[name], saved[name])


def same(case: Case, got: np.ndarray) -> None:
    want = expected(case)
    assert got.shape == want.shape
    assert got.dtype == np.float32
    assert np.isfinite(got).all()
    assert np.abs(want).mean() > 0.01  # there is a motion to be found
    assert np.abs(got - want).mean() < case.limit_px


@needs_triton
def test_parity_is_opencv_s_flow(interpreted: dict[str, np.ndarray]) -> None:
    if not cv2.__version__.startswith("5."):
        pytest.skip(f"parity is with OpenCV 5; this is {cv2.__version__}")
    case = cases()["parity"]
    engine = cv2.optflow.DualTVL1OpticalFlow_create(warps=case.params.warps)  # type: ignore[attr-defined]
    want = engine.calc(case.frames[0], case.frames[1], None).transpose(2, 0, 1)
    assert np.abs(interpreted["parity"][0] - want).mean() < 0.001


@needs_triton
def test_a_picture_that_stands_still_has_no_flow(interpreted: dict[str, np.ndarray]) -> None:
    """In `still`, the second pair's pictures are equal, and the third pair's are constant."""
    assert np.abs(interpreted["still"][0]).max() > 0.1
    assert (interpreted["still"][1:] == 0).all()


@needs_triton
def test_recorded_iterations_and_a_host_that_looks_late_change_nothing(
    interpreted: dict[str, np.ndarray],
) -> None:
    assert (interpreted["replayed"] == interpreted["parity, batches"]).all()


@needs_triton
def test_stream_keeps_the_order_and_shares_pictures(interpreted: dict[str, np.ndarray]) -> None:
    frames, params = moving(18, 18, 5), FlowParams.preset("fast", **FEW, median=1)
    keys = [name for name in interpreted if name.startswith("stream")]
    assert keys == [f"stream {k}" for k in range(7)]
    for key, (a, b) in {0: (0, 1), 1: (1, 2), 4: (3, 4), 5: (0, 4)}.items():
        assert np.abs(interpreted[f"stream {key}"] - tvl1(frames[a], frames[b], params)).mean() < 0.001
    assert all(interpreted[f"stream {key}"].size == 0 for key in (2, 3, 6))


@needs_triton
@pytest.mark.slow
def test_every_kernel_compiles(tmp_path: Path) -> None:
    """For an H100 or H200; ptxas comes with Triton, so no GPU and no CUDA are needed."""
    compiles(90, tmp_path)


@needs_triton
@pytest.mark.slow
@pytest.mark.parametrize("architecture", [75, 80, 89, 100])
def test_every_kernel_compiles_for_other_devices(architecture: int, tmp_path: Path) -> None:
    compiles(architecture, tmp_path)


def compiles(architecture: int, folder: Path) -> None:
    lines = run_worker("gpu_compiled", {"TRITON_CACHE_DIR": str(folder)}, str(architecture)).splitlines()
    assert {line.split()[0] for line in lines} == {
        "reduce", "texture", "begin", "linearise", "sweep", "begin_block", "judge", "median", "finish",
    }  # fmt: skip
    assert all(int(line.split()[-1]) > 0 for line in lines)


@pytest.mark.parametrize("method", METHODS)
def test_only_our_engine_runs_on_a_gpu(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    params = FlowParams.preset("fast", method=method)
    assert batch.flow_device(params, "cuda:1") == ("cuda:1" if method == "tvl1" else "cpu")
    assert batch.flow_device(params, "cpu") == "cpu"


def test_without_triton_a_gpu_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFault, match=r"vpipe\[gpu\].*--device cpu") as caught:
        batch.flow_device(FlowParams(), "cuda:0")
    assert caught.value.code == "no_triton"


@pytest.mark.parametrize(
    "wrong", [np.zeros((8, 8), np.uint8), np.zeros((20, 24), np.uint8), np.zeros(3)], ids=str
)
def test_stream_refuses_what_the_cpu_engine_refuses(wrong: np.ndarray) -> None:
    picture = np.zeros((20, 20), np.uint8)
    pairs: Iterator[tuple[int, np.ndarray, np.ndarray]] = iter([(0, picture, wrong)])
    with pytest.raises(VpipeError) as caught:
        list(batch.flow_stream(pairs, FlowParams(), "cpu"))
    assert isinstance(caught.value, ValueError)


# On a GPU


@needs_triton
@needs_gpu
@pytest.mark.parametrize("preset", PRESETS)
def test_cuda_gives_the_cpu_engine_s_flow(preset: str) -> None:
    """Thrice: the first run starts kernels one by one, the others replay recordings: the same bits.

    Where a change ends a warp (`parity`), a pair may end an iteration earlier or later, and hidden points
    follow: there the mean over all pairs is held.
    """
    from vpipe.flow.gpu import tvl1_gpu

    case = Case(moving(340, 256, 12, step=2.3, noise=2), FlowParams.preset(preset))
    runs = [tvl1_gpu(case.frames, case.params, "cuda").cpu().numpy() for _ in range(3)]
    apart = np.abs(runs[0] - expected(case)).mean(axis=(1, 2, 3))
    assert (apart.mean() if preset == "parity" else apart.max()) < 0.01
    assert all((run == runs[0]).all() for run in runs)


@needs_triton
@needs_gpu
@pytest.mark.parametrize("size", [(16, 16), (33, 47), (257, 129), (641, 479)], ids=str)
def test_cuda_any_size(size: tuple[int, int]) -> None:
    from vpipe.flow.gpu import tvl1_gpu

    case = Case(moving(*size, 4), FlowParams.preset("fast"))
    assert np.abs(tvl1_gpu(case.frames, case.params, "cuda").cpu().numpy() - expected(case)).mean() < 0.01


@needs_triton
@needs_gpu
def test_cuda_stream_of_several_queues() -> None:
    frames = moving(120, 90, 150)
    params = FlowParams.preset("fast")
    pairs = [(k, frames[k], frames[k + 1] if k != 70 else None) for k in range(149)]
    got = dict(batch.flow_stream(pairs, params, "cuda"))
    assert list(got) == list(range(149))
    for k, flow in got.items():
        if k == 70:
            assert flow is None
        else:
            assert flow is not None
            assert np.abs(flow - tvl1(frames[k], frames[k + 1], params)).mean() < 0.01
