"""How many cores vpipe may use, and the one place that tells torch, OpenCV, numba and BLAS about it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from vpipe.errors import UsageError

_jobs: int | None = None

# Read by the libraries when they are first imported.
_POOL_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")

# A thread that has done its part looks so many times whether the others have, then sleeps. The 300,000 of GNU
# OpenMP are milliseconds taken from whatever else runs: with two other processes on two cores a training step
# took up to twice as long and TSM-R50 three times; on free cores there is no difference.
SPINS = "1000"


def available_cores() -> int:
    """Cores this process may run on: the affinity mask, and the container's quota where there is one."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        cores = os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, max(1, round(int(quota) / int(period))))
    except (OSError, ValueError):
        pass
    return max(1, cores)


def jobs() -> int:
    """The number of worker threads to use: what `set_jobs` said, otherwise every available core."""
    return _jobs if _jobs is not None else available_cores()


def set_jobs(count: int | None) -> None:
    """Limit every library to `count` threads (None: all available cores). Call it before heavy work.

    Libraries that are not imported yet are told through the environment, so that start-up stays light;
    those already imported are told directly. OpenCV always gets one thread, because vpipe's own pool runs
    one frame pair a thread. Raises UsageError for a count below 1.
    """
    global _jobs
    if count is not None and count < 1:
        raise UsageError("bad_jobs", f"-j {count}: give at least 1 job, or leave -j out to use every core")
    _jobs = count
    threads = jobs()
    os.environ["OPENCV_FOR_THREADS_NUM"] = "1"
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    numba = sys.modules.get("numba")
    for variable in _POOL_VARIABLES:
        # numba reads its own again whenever it compiles, and refuses another number than it began with.
        if variable != "NUMBA_NUM_THREADS" or numba is None:
            os.environ[variable] = str(threads)
    if (cv2 := sys.modules.get("cv2")) is not None:
        cv2.setNumThreads(1)
    if (torch := sys.modules.get("torch")) is not None:
        torch.set_num_threads(threads)
    if numba is not None:
        numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))


def set_torch_threads(count: int) -> None:
    """How many threads torch uses for the work of the calling thread, and of threads that start later."""
    import torch  # here, because this module is imported at start-up

    torch.set_num_threads(count)
