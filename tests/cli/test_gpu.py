"""`vpipe flow`, `classify` and `detect` on a CUDA device: what the CPU says. Skipped where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import Vpipe
from vpipe.cache import FlowCache
from vpipe.flow.params import PACKAGED

SAMPLES = Path(__file__).parents[2] / "sample_videos"

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def test_flow_differs_by_rounding_only(vpipe: Vpipe, tmp_path: Path) -> None:
    video = SAMPLES / "clips" / "clip_00001_zoom_in.mp4"
    flows = []
    for device in ("cpu", "cuda"):
        vpipe("flow", video, "--device", device, "--cache-dir", tmp_path / device)
        entry = FlowCache(tmp_path / device).entry(video, PACKAGED)
        flows.append(entry.read(range(entry.pairs)))
    assert np.abs(flows[0] - flows[1]).mean() < 0.01


@pytest.mark.parametrize("model", ["motion-rgb", "motion-two-stream"])
@pytest.mark.parametrize(("command", "key"), [("classify", "labels"), ("detect", "segments")])
def test_labels_and_segments_are_those_of_the_cpu(
    vpipe: Vpipe, tmp_path: Path, model: str, command: str, key: str
) -> None:
    results = []
    for device in ("cpu", "cuda"):
        # In fp32 both: by itself the CPU takes bf16 where that is faster.
        options = ("--model", model, "--device", device, "--dtype", "fp32", "--json")
        options += ("--cache-dir", tmp_path / device)
        results.append(json.loads(vpipe(command, SAMPLES, *options).stdout)["results"])
    for on_cpu, on_gpu in zip(*results, strict=True):
        assert [item["label"] for item in on_cpu[key]] == [item["label"] for item in on_gpu[key]]
        for a, b in zip(on_cpu[key], on_gpu[key], strict=True):
            assert a["score"] == pytest.approx(b["score"], abs=1e-3)
            if key == "segments":
                assert (a["start_frame"], a["end_frame"]) == (b["start_frame"], b["end_frame"])
