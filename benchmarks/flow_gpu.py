"""TV-L1 on a CUDA device, the engine alone: pairs per second at 340x256, against the floor of its memory.

    python -m benchmarks.flow_gpu [--device cuda:0] [--queues 8] [--json FILE]

64 pairs lie on the device, their flow stays there; decoding and copies are not in the figures. They are pairs of
the clips in ../shared/clips, or generated ones where there are none (which take `parity` four times as many
iterations). The floor: every plane of every step goes through the device's memory once, where several iterations
are one step. Without a GPU it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flow_pairs import HEIGHT, KINDS, WIDTH, Pair, generated, queue_from_clips
from vpipe.flow.batch import flow_device
from vpipe.flow.params import PRESETS, FlowParams

PAIRS = 64
RUNS = 5
CLIPS = Path(__file__).parents[2] / "shared" / "clips"
FLOPS_A_PIXEL_ITERATION = 57
# Planes read and written by each step, float32.
SWEEP, EDGE_WEIGHT, WARP, MEDIAN, BEGIN_AND_FINISH, PICTURE = 15, 1, 11, 4, 12, 6


def memory_bytes_per_s(properties: Any) -> float:
    """The device's memory bandwidth: two transfers a clock (in kHz) over the bus (in bits)."""
    return 2 * properties.memory_clock_rate * 1e3 * properties.memory_bus_width / 8


def real_or_generated() -> tuple[str, list[Pair]]:
    """What they are, and 64 pairs."""
    if CLIPS.is_dir():
        return "real pairs", queue_from_clips(CLIPS, PAIRS)
    return "generated pairs", list(generated(-(-PAIRS // len(KINDS)), seed=1))[:PAIRS]


def bytes_a_pair(params: FlowParams, pixel_iterations: float, level_pixels: int) -> float:
    """Of a pair whose frames are shared with its neighbours; of each warp's medians one is counted."""
    from vpipe.flow.gpu_level import sweeps  # needs Triton

    stages = params.inner_iterations / len(sweeps(params.inner_iterations))
    planes = (SWEEP + EDGE_WEIGHT * (params.edge > 0)) * pixel_iterations / stages
    planes += (params.warps * (WARP + MEDIAN) + BEGIN_AND_FINISH + PICTURE) * level_pixels
    return 4 * planes


def measure(preset: str, made: list[Pair], device: str, queues: int) -> dict[str, Any]:
    import torch

    from vpipe.flow.gpu import engine_for

    params = FlowParams.preset(preset)
    flow_device(params, device)  # says so where Triton is missing
    frames = torch.from_numpy(np.stack([p for pair in made for p in (pair.first, pair.second)]))
    frames = frames.to(device)
    pairs = [(2 * k, 2 * k + 1) for k in range(PAIRS)]
    engine = engine_for(HEIGHT, WIDTH, params, device)
    for _ in range(3):  # kernels compile, iterations are recorded, clocks rise
        engine.flows(frames, pairs)
    torch.cuda.synchronize(device)
    before = engine.pixel_iterations
    seconds = []
    for _ in range(RUNS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(queues):
            engine.flows(frames, pairs)
        end.record()
        end.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3)
    done = RUNS * queues * PAIRS
    iterations = (engine.pixel_iterations - before) / done
    needed = bytes_a_pair(params, iterations, sum(s.width * s.height for s in engine.scales))
    floor = memory_bytes_per_s(torch.cuda.get_device_properties(device)) / needed
    speed = queues * PAIRS / statistics.median(seconds)
    return {
        "preset": preset,
        "pairs_per_s": round(speed, 1),
        "slowest_run": round(queues * PAIRS / max(seconds), 1),
        "million_pixel_iterations_a_pair": round(iterations / 1e6, 2),
        "megabytes_a_pair": round(needed / 1e6, 1),
        "gigaflops_a_pair": round(iterations * FLOPS_A_PIXEL_ITERATION / 1e9, 3),
        "floor_pairs_per_s": round(floor, 1),
        "share_of_floor": round(speed / floor, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--queues", type=int, default=8, help="queues of 64 pairs in each of the five runs")
    parser.add_argument("--json", type=Path, help="also write the result here")
    options = parser.parse_args()
    import torch

    if not torch.cuda.is_available():
        print("No GPU here: the GPU engine was not measured, and no figure is given.")
        return
    properties = torch.cuda.get_device_properties(options.device)
    kind, made = real_or_generated()
    print(
        f"{properties.name}: {memory_bytes_per_s(properties) / 1e12:.2f} TB/s, L2 cache "
        f"{properties.L2_cache_size / 2**20:.0f} MiB, {properties.multi_processor_count} SMs; torch "
        f"{torch.__version__}; {kind} at {WIDTH}x{HEIGHT}, engine only, median of {RUNS} runs"
    )
    rows = [measure(preset, made, options.device, options.queues) for preset in PRESETS]
    print("preset     pairs/s   slowest   M px-iter   MB/pair   GFLOP/pair   TFLOP/s   floor pairs/s   share")
    for row in rows:
        tflops = row["pairs_per_s"] * row["gigaflops_a_pair"] / 1e3
        print(
            f"{row['preset']:9} {row['pairs_per_s']:8.0f} {row['slowest_run']:9.0f} "
            f"{row['million_pixel_iterations_a_pair']:11.2f} {row['megabytes_a_pair']:9.0f} "
            f"{row['gigaflops_a_pair']:12.3f} {tflops:9.2f} {row['floor_pairs_per_s']:15.0f} "
            f"{row['share_of_floor']:7.0%}"
        )
    if options.json:
        options.json.write_text(json.dumps({"device": properties.name, "pairs": kind, "rows": rows}, indent=2) + "\n")


if __name__ == "__main__":
    main()
