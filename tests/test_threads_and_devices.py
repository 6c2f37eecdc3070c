"""One place says how many threads, and no device is ever replaced silently."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from vpipe import threads
from vpipe.devices import resolve_device
from vpipe.errors import UsageError

LIMITED = """
from vpipe import threads
{before}
threads.set_jobs(1)
import cv2, numba, torch
print(threads.jobs(), cv2.getNumThreads(), numba.get_num_threads(), torch.get_num_threads())
"""


@pytest.mark.parametrize("before", ["", "import cv2, numba, torch"])
def test_one_job_limits_every_library_imported_before_or_after(before: str) -> None:
    code = LIMITED.format(before=before)
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["1"] * 4


def test_kernels_compile_after_the_number_of_jobs_has_changed() -> None:
    code = """
import os
os.environ["NUMBA_NUM_THREADS"] = "2"
import numba
from vpipe import threads
for jobs in (1, 2, 1):
    threads.set_jobs(jobs)
    print(numba.njit(lambda x: x + jobs)(1))
"""
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert finished.stdout.split() == ["2", "3", "2"], finished.stderr


@pytest.mark.parametrize(
    ("users", "wanted"),
    [({}, threads.SPINS), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_waiting_threads_sleep_soon_unless_the_user_says_otherwise(
    users: dict[str, str], wanted: str
) -> None:
    code = """
import os, sys
import vpipe.cli.main
from vpipe import threads
assert "torch" not in sys.modules  # whose OpenMP reads it when it is loaded
threads.set_jobs(2)
print(os.environ.get("GOMP_SPINCOUNT"))
"""
    own = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    finished = subprocess.run([sys.executable, "-c", code], env=own | users, capture_output=True, text=True)
    assert finished.stdout.split() == [wanted], finished.stderr


def test_jobs_default_to_the_available_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_jobs", None)
    assert threads.jobs() == threads.available_cores() >= 1
    with pytest.raises(UsageError, match="at least 1"):
        threads.set_jobs(0)


@pytest.mark.parametrize("name", ["tpu", "cuda:", "cuda:x", "CPU", ""])
def test_an_unknown_device_says_what_there_is(name: str) -> None:
    with pytest.raises(UsageError, match="auto, cpu, cuda or cuda:N") as caught:
        resolve_device(name)
    assert caught.value.code == "unknown_device"


def test_a_missing_device_is_refused_and_auto_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert resolve_device("auto") == resolve_device("cpu") == "cpu"
    with pytest.raises(UsageError, match="no CUDA device found"):
        resolve_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr("vpipe.devices._DRIVERS", ("/",))
    assert resolve_device("auto") == "cuda:0"
    assert resolve_device("cuda:1") == "cuda:1"
    with pytest.raises(UsageError, match="2 CUDA devices found"):
        resolve_device("cuda:2")
