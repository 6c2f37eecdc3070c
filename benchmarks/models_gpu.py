"""The published networks on a CUDA device: clips a second of TSM-R50, and whether the answers stay the same.

    python -m benchmarks.models_gpu [--device cuda:0] [--seconds 90] [--fixtures DIR] [--json FILE]

TSM-R50 sees clips of 8 x 224 x 224 through the Recognizer that the commands use: the network alone on clips
that lie on the device (as it is called, recorded as CUDA graphs, compiled, compiled and recorded), then whole
batches from uint8 pictures in the memory of the host to probabilities there. Logits of bfloat16 are compared
with float32's, those of float32 with the CPU's, and every fixture's with the reference. Each part stands for
itself: what fails or finds no time left is named, and the others go on. Without a GPU it says so and measures
nothing.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vpipe import models as _registered  # noqa: F401  every architecture
from vpipe.models.importer.inputs import stream_spec
from vpipe.models.importer.layout import Choices
from vpipe.models.importer.parity import Rebuilt, made_input, rebuild
from vpipe.models.layers import VideoNetwork, channels_last
from vpipe.models.weights import Model, ModelHeader, Stream
from vpipe.recognition.prepared import Recorded, compiled, prepare
from vpipe.recognition.preprocess import View
from vpipe.recognition.recognizer import Recognizer

SMALLER = (8, 16, 32)
FILLING = 64  # clips: the batch that variants are compared at
GFLOP_A_CLIP = 65.4  # two for each multiply-accumulate
CLIP = (8, 3, 224, 224)
CLASSES = 11
TARGET = 2000  # clips a second
COMPILED_S = 15  # to be left for a network that another process has compiled meanwhile
FIXTURES = Path(__file__).parents[1] / "tests" / "models" / "fixtures"


class Parts:
    """The parts of a run: what they found, and what stopped them."""

    def __init__(self, seconds: float, to: Path | None) -> None:
        self.start, self.seconds, self.to = time.monotonic(), seconds, to
        self.found: dict[str, Any] = {"stopped": {}}

    @property
    def left_s(self) -> float:
        return self.seconds - (time.monotonic() - self.start)

    def run(self, name: str, part: Callable[[], Any], needs_s: float = 3.0) -> None:
        if self.left_s < needs_s:
            self.found["stopped"][name] = f"no time left ({self.left_s:.0f} s)"
            return print(f"{name}: {self.found['stopped'][name]}", flush=True)
        began = time.monotonic()
        try:
            self.found[name] = part()
        except Exception as error:  # whatever a driver or compiler says: the other parts are worth having
            traceback.print_exc()
            self.found["stopped"][name] = f"{type(error).__name__}: {str(error)[:300]}"
        print(f"{name}: {time.monotonic() - began:.1f} s", flush=True)
        if self.to is not None:  # what there is, should the next part take the process with it
            self.to.write_text(json.dumps(self.found, indent=1) + "\n")


def tsm() -> Model:
    """TSM-R50 with the weights of its fixture, whose logits spread as those of a trained network do."""
    network = rebuild(FIXTURES / "tsm_r50_8f.json").network
    hyper = {"segments": 8, "channels": 3, "classes": CLASSES}
    spec = stream_spec("tsm", "tsm", hyper, Choices())
    header = ModelHeader(
        "tsm-r50", tuple(f"label {k}" for k in range(CLASSES)), None, "a fixture", "Apache-2.0"
    )
    return Model(header, (Stream(spec, channels_last(network)),), "0" * 64)


def clips_a_second(call: Callable[[], object], clips: int, runs: int = 7, aim_s: float = 0.25) -> float:
    """The median of `runs`, each long enough for the clock."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    torch.cuda.synchronize()
    repeats = max(1, min(50, round(aim_s / (time.perf_counter() - began))))
    times = []
    for _ in range(runs):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        for _ in range(repeats):
            call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return clips * repeats / statistics.median(times)


def resident_clips(batch: int, device: str) -> Tensor:
    """Clips (batch, T, C, H, W) on the device, laid out as Normalise gives them."""
    pictures = torch.randn(batch, CLIP[0], *CLIP[2:], CLIP[1], device=device, dtype=torch.bfloat16)
    return pictures.movedim(-1, -3)


def speed(call: Callable[[Tensor], Tensor], batch: int, device: str, name: str) -> dict[str, Any]:
    """Of a network on clips that lie on the device."""
    clips = resident_clips(batch, device)
    torch.cuda.reset_peak_memory_stats(device)
    with torch.inference_mode():
        rate = clips_a_second(lambda: call(clips), batch)
    row = {
        "variant": name,
        "batch": batch,
        "clips_per_s": round(rate, 1),
        "ms_per_batch": round(1e3 * batch / rate, 2),
        "tflops": round(rate * GFLOP_A_CLIP / 1e3, 1),
        "peak_gib": round(torch.cuda.max_memory_allocated(device) / 2**30, 2),
    }
    print(
        f"  {name:20} batch {batch:4}  {rate:8.0f} clips/s  {row['ms_per_batch']:8.2f} ms  "
        f"{row['tflops']:6.1f} TFLOP/s  {row['peak_gib']:6.2f} GiB",
        flush=True,
    )
    return row


def kernels(network: nn.Module, device: str) -> list[dict[str, Any]]:
    """Where the time of one batch goes, by kernel."""
    from torch.profiler import ProfilerActivity, profile  # here, because this part alone needs it

    clips = torch.randn(FILLING, *CLIP, device=device, dtype=torch.bfloat16)
    with torch.inference_mode():
        network(clips)
        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            network(clips)
            torch.cuda.synchronize()
    found = sorted(seen.key_averages(), key=lambda one: -one.self_device_time_total)[:14]
    for one in found:
        print(f"  {one.self_device_time_total / 1e3:7.2f} ms {one.count:4} x {one.key[:110]}")
    return [{"ms": one.self_device_time_total / 1e3, "count": one.count, "kernel": one.key} for one in found]


def device_rates(device: str) -> dict[str, float]:
    """What the device reaches here: a bfloat16 matrix product of 8192, and a copy, bytes read and written."""
    square = torch.randn(8192, 8192, device=device, dtype=torch.bfloat16)
    source = torch.empty(2**30, device=device, dtype=torch.uint8)
    to = torch.empty_like(source)
    products = clips_a_second(lambda: square @ square, 1, aim_s=0.05)
    copies = clips_a_second(lambda: to.copy_(source), 1, aim_s=0.05)
    rates = {
        "matrix_tflops": round(2e-12 * 8192**3 * products, 1),
        "copy_tb_s": round(copies * 2**31 / 1e12, 2),
    }
    print(f"  matrix product {rates['matrix_tflops']} TFLOP/s, copy {rates['copy_tb_s']} TB/s")
    return rates


def logits_apart(model: Model, device: str) -> dict[str, float]:
    """Largest difference of logits over the same eight clips, and how far logits themselves spread."""
    network = model.streams[0].network
    pictures = torch.from_numpy(made_input((8, *CLIP), 16, "clips"))
    with torch.inference_mode():
        exact = prepare(network, device, torch.float32, CLASSES, CLIP)(pictures.to(device)).cpu()
        short = (
            prepare(network, device, torch.bfloat16, CLASSES, CLIP)(pictures.to(device, torch.bfloat16))
            .float()
            .cpu()
        )
        on_cpu = prepare(network, "cpu", torch.float32, CLASSES, CLIP)(pictures[:1])
    found = {
        "bf16_from_fp32": float((short - exact).abs().max()),
        "cuda_from_cpu_fp32": float((exact[:1] - on_cpu).abs().max()),
        "logits_std": float(exact.std()),
        "logits_max": float(exact.abs().max()),
        "same_top1": int((short.argmax(1) == exact.argmax(1)).sum()),
        "clips": len(exact),
    }
    print("  " + ", ".join(f"{key} {value:.3g}" for key, value in found.items()))
    return found


def fixtures(folder: Path, device: str) -> list[dict[str, Any]]:
    """Every fixture in float32 and bfloat16; they are rebuilt by several threads meanwhile."""
    rows = []
    with ThreadPoolExecutor(6) as pool:
        for made in pool.map(rebuild, sorted(folder.glob("*.json"))):
            rows.append(row := fixture(made, device))
            print(
                f"  {row['name']:32} fp32 {row['fp32']:.1e}  bf16 {row['bf16']:.1e}  "
                f"bf16 top-1 {'the same' if row['same_top1'] else 'ANOTHER'}",
                flush=True,
            )
    return rows


def fixture(made: Rebuilt, device: str) -> dict[str, Any]:
    classes = int(made.mapped.hyper["classes"])
    found = {}
    with torch.inference_mode():
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            network = prepare(made.network, device, dtype, classes, made.shape)
            assert isinstance(network, VideoNetwork)
            found[name] = made.logits(network, [one.to(device, dtype) for one in made.inputs]).float().cpu()
    # The mean of rows is the answer, as the reference's caller would take it.
    answers = [
        one.flatten(2).mean(2).mean(0) if one.ndim == 3 else one.mean(0)
        for one in (made.wanted, found["fp32"], found["bf16"])
    ]
    top = [int(one.argmax()) for one in answers]
    return {
        "name": made.name,
        "fp32": float((found["fp32"] - made.wanted).abs().max()),
        "bf16": float((found["bf16"] - found["fp32"]).abs().max()),
        "same_top1_fp32": top[0] == top[1],
        "same_top1": top[0] == top[2],
        "second_best_behind": float(answers[0].topk(2).values.diff().abs()),
        "logits_std": float(made.wanted.std()),
    }


def from_pictures(model: Model, device: str, batch: int, **options: Any) -> dict[str, Any]:
    """Whole batches: uint8 pictures in the memory of the host -> probabilities there."""
    recognizer = Recognizer(model, device=device, dtype="bf16", batch_size=batch, **options)
    ready = recognizer.streams[0]
    noise = np.random.default_rng(0).integers(0, 256, (batch, *CLIP[:1], *CLIP[2:], 3), dtype=np.uint8)
    views = [View(clip) for clip in noise]
    recognizer.score_views(ready, views * 3)  # recorded
    began = time.perf_counter()
    many = 12
    recognizer.score_views(ready, (view for _ in range(many) for view in views))
    rate = many * batch / (time.perf_counter() - began)
    print(f"  batch {batch}: {rate:.0f} clips/s from pictures to probabilities", flush=True)
    return {"batch": batch, "clips_per_s": round(rate, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--seconds", type=float, default=90, help="what does not fit in is left out")
    parser.add_argument("--fixtures", type=Path, default=FIXTURES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--compile-only", action="store_true", help=argparse.SUPPRESS)  # of a child process
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("No GPU here: the networks were not measured on one, and no figure is given.")
        return
    device = options.device
    torch.cuda.set_device(device)
    if options.compile_only:  # what it compiles lies in torch's cache for the process that measures
        quick = compiled(prepare(tsm().streams[0].network, device, torch.bfloat16, CLASSES, CLIP), device)
        with torch.inference_mode():
            quick(resident_clips(FILLING, device))
        return
    compiler = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.models_gpu", "--compile-only", "--device", device],
        stdout=subprocess.DEVNULL,
    )
    parts = Parts(options.seconds, options.json)
    name = torch.cuda.get_device_name(device)
    print(f"{name}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}", flush=True)
    parts.found |= {"device": name, "torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}
    model = tsm()
    Recognizer(model, device=device)  # sets what it sets for exactness
    short = prepare(model.streams[0].network, device, torch.bfloat16, CLASSES, CLIP)
    parts.run("rates", lambda: device_rates(device))
    parts.run("eager", lambda: [speed(short, FILLING, device, "as called")])

    def recorded(batch: int) -> None:
        parts.run(f"recorded {batch}", lambda: [speed(Recorded(short), batch, device, "recorded")])

    recorded(FILLING)
    recorded(2 * FILLING)
    parts.run("logits", lambda: logits_apart(model, device))
    parts.run("from pictures", lambda: from_pictures(model, device, FILLING))
    parts.run("fixtures", lambda: fixtures(options.fixtures, device), needs_s=15)
    for batch in SMALLER:
        recorded(batch)
    parts.run("kernels", lambda: kernels(short, device), needs_s=6)
    try:
        compiler.wait(max(5.0, parts.left_s - COMPILED_S))
    except subprocess.TimeoutExpired:
        print("the compiling process is not done yet; it is stopped")
        compiler.kill()
    through_inductor = Recorded(compiled(copy.deepcopy(short), device))
    parts.run(
        "compiled",
        lambda: [speed(through_inductor, FILLING, device, "compiled, recorded")],
        needs_s=COMPILED_S - 5,
    )
    best = max(
        (
            row
            for part in parts.found.values()
            if isinstance(part, list)
            for row in part
            if "clips_per_s" in row
        ),
        key=lambda row: row["clips_per_s"],
        default=None,
    )
    if best:
        verdict = "reached" if best["clips_per_s"] >= TARGET else "not reached"
        print(
            f"best: {best['clips_per_s']:.0f} clips/s ({best['variant']}, batch {best['batch']}); "
            f"{TARGET} asked of an H200: {verdict}"
        )


if __name__ == "__main__":
    main()
