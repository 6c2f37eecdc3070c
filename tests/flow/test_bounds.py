"""The kernels read and write inside their arrays: with every index looked at, they say nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SHAPES = ((16, 16), (17, 23), (31, 64), (48, 33), (65, 129), (96, 80))
FLOWS = f"""
import numpy as np
from vpipe.flow import FlowParams, simd, tvl1
from vpipe.flow.jit import kernel

@kernel()
def beyond(array):
    simd.store(array, 1, simd.load(array, 0))

try:
    beyond(np.zeros(16, np.float32))
except IndexError:
    print("indices are looked at")
rng = np.random.default_rng(0)
for shape in {SHAPES}:
    a, b = (rng.integers(0, 256, shape, np.uint8) for _ in range(2))
    for preset in ("parity", "accurate", "fast"):
        flow = tvl1(a, b, FlowParams.preset(preset))
        assert flow.shape == (2, *shape)
print("done")
"""


@pytest.mark.slow
def test_no_kernel_leaves_its_arrays(tmp_path: Path) -> None:
    kept = os.environ | {"NUMBA_BOUNDSCHECK": "1", "XDG_CACHE_HOME": str(tmp_path)}
    script = tmp_path / "flows.py"  # kernels are kept for files alone
    script.write_text(FLOWS)
    done = subprocess.run(
        [sys.executable, script], env=kept, capture_output=True, text=True, check=False, timeout=600
    )
    assert (done.returncode, done.stdout) == (0, "indices are looked at\ndone\n"), done.stderr
