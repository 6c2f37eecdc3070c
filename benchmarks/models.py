"""How fast the published networks run here, beside a ResNet-50 over the same 8 frames in the same run.

    python -m benchmarks.models [--only tsm,tea] [--batches 1,8] [--rounds 7] [--threads 2] [--bf16]
                                [--compile] [--json FILE]

Per architecture at its real input: ms a clip, GMACs, GFLOP/s, their share of what a matrix product of the
same dtype reaches, peak memory, and the ratio to ResNet-50 (8 x 224 x 224): plain, and with our fusion,
layout, dtype and threads. Network, both ResNets and the product take turns, and ratios are medians of the
ratios of each turn, so that other work on the machine cancels. Each row has a process of its own, and fewer
rounds where one takes long. With --bf16 the distance of the logits from float32's is shown too.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vpipe import models as _registered  # noqa: F401  every architecture
from vpipe.models.layers import VideoNetwork
from vpipe.models.registry import build
from vpipe.models.sizes import SIZES, Size
from vpipe.recognition.prepared import compiled, prepare
from vpipe.recognition.rounding import Shape

BARS = {"tsm": 1.25, "tanet": 1.4, "stm": 1.5, "tea": 1.75, "tdn": 1.75}  # of the fused ResNet-50, batch 1
RESNET_INPUT = (8, 3, 224, 224)
LEAST_ROUNDS = 2  # of a network that takes long
ROW_S = 10.0  # after which a row begins no further round
MATRIX = 2048  # rows and columns of the product


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def ready(network: nn.Module, dtype: torch.dtype, compile_: bool, size: Shape) -> nn.Module:
    """As a Recognizer makes it: batch norms folded, channels last."""
    assert isinstance(network, VideoNetwork)
    assert isinstance(network.fc, nn.Linear)
    classes = network.fc.out_features
    network = prepare(network, "cpu", dtype, classes, size)
    return compiled(network, "cpu") if compile_ else network


def measure(size: Size, batch: int, rounds: int, dtype: torch.dtype, compile_: bool) -> dict[str, Any]:
    torch.manual_seed(0)
    plain = build(size.architecture, size.hyper).eval()
    clip = torch.randn(batch, *size.shape)
    row: dict[str, Any] = {"architecture": size.architecture, "input": size.input, "batch": batch}
    with torch.inference_mode():
        network, ours = ready(plain, dtype, compile_, size.shape), clip.to(dtype)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        scores = network(ours)
        network(ours)
        row["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        row["activations_mib"] = round(row["peak_mib"] - before / 1024)
        if dtype != torch.float32:
            wanted = plain(clip)
            row["logits_off"] = float((scores.float() - wanted).abs().max())
            row["logits_std"] = float(wanted.std())
        resnet = build("tsn-resnet", {"classes": 400, "segments": 8}).eval()
        fused, frames = ready(resnet, dtype, compile_, RESNET_INPUT), torch.randn(batch, *RESNET_INPUT)
        same = frames.to(dtype)
        square = torch.randn(MATRIX, MATRIX).to(dtype)
        turns = []
        began = time.perf_counter()
        for turn in range(rounds + 1):
            if turn > LEAST_ROUNDS and time.perf_counter() - began > ROW_S:
                break
            times = (
                seconds(lambda: network(ours)),
                seconds(lambda: fused(same)),
                seconds(lambda: resnet(frames)),
                seconds(lambda: square @ square),
            )
            if turn:  # the first one warms caches
                turns.append(times)
    middle = [statistics.median(one[k] for one in turns) for k in range(4)]
    rate = 2 * size.gmacs * batch / middle[0]
    peak = 2e-9 * MATRIX**3 / min(one[3] for one in turns)
    return row | {
        "ms_per_clip": round(middle[0] * 1000 / batch, 1),
        "gmacs": size.gmacs,
        "gflops": round(rate, 1),
        "share_of_matrix_rate": round(rate / peak, 3),
        "matrix_gflops": round(peak, 1),
        "to_plain_resnet50": round(statistics.median(one[0] / one[2] for one in turns), 3),
        "to_fused_resnet50": round(statistics.median(one[0] / one[1] for one in turns), 3),
        "resnet50_plain_ms": round(middle[2] * 1000 / batch, 1),
        "resnet50_fused_ms": round(middle[1] * 1000 / batch, 1),
        "rounds": len(turns),
        "bar": BARS.get(size.architecture) if batch == 1 else None,
    }


def table(rows: list[dict[str, Any]]) -> str:
    head = [
        "architecture", "input", "batch", "ms/clip", "GMACs", "GFLOP/s", "of matrix", "peak MiB", "to plain",
        "to fused", "bar", "logits off",
    ]  # fmt: skip
    cells = [
        (
            row["architecture"], row["input"], str(row["batch"]), f"{row['ms_per_clip']:.0f}",
            f"{row['gmacs']:.1f}", f"{row['gflops']:.0f}", f"{row['share_of_matrix_rate']:.0%}",
            str(row["peak_mib"]), f"{row['to_plain_resnet50']:.2f}", f"{row['to_fused_resnet50']:.2f}",
            f"{row['bar']:.2f}" if row["bar"] else "",
            f"{row['logits_off']:.1e}" if "logits_off" in row else "",
        )
        for row in rows
    ]  # fmt: skip
    widths = [max(len(line[k]) for line in (head, *cells)) for k in range(len(head))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in (head, *cells)
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="architectures, with commas between")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--row", default="", help=argparse.SUPPRESS)  # of a child process
    options = parser.parse_args()
    dtype = torch.bfloat16 if options.bf16 else torch.float32
    if options.row:
        name, batch = options.row.split(",")
        torch.set_num_threads(options.threads)
        size = next(one for one in SIZES if one.architecture == name)
        print(json.dumps(measure(size, int(batch), options.rounds, dtype, options.compile)))
        return
    rows = []
    passed = [f"--{name}" for name in ("bf16", "compile") if getattr(options, name)]
    passed += ["--rounds", str(options.rounds), "--threads", str(options.threads)]
    machine = {
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": options.threads,
        "torch": torch.__version__,
        "dtype": str(dtype).removeprefix("torch."),
        "compiled": options.compile,
    }
    chosen = [size for size in SIZES if not options.only or size.architecture in options.only.split(",")]
    chosen.sort(key=lambda size: size.architecture not in BARS)  # what is asked for comes first
    for batch in options.batches.split(","):
        for size in chosen:
            command = [sys.executable, "-m", "benchmarks.models", "--row", f"{size.architecture},{batch}"]
            out = subprocess.run([*command, *passed], check=True, capture_output=True, text=True).stdout
            rows.append(json.loads(out.splitlines()[-1]))
            print(table(rows[-1:]), flush=True)
            if options.json:  # what there is, should the rest take too long
                options.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
