"""The whole comparison: train or load every contender, measure each, and put it in one document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import vpipe
from vpipe.comparison.clips import Clips, Done, make_clips
from vpipe.comparison.contenders import ROWS, Contender, Fusion
from vpipe.comparison.costs import FlowCost, clip_of, flow_costs, milliseconds
from vpipe.comparison.labels import DIRECTION, GROUPS, LABELS, ORDER
from vpipe.comparison.learning import Say, Trained, trained
from vpipe.comparison.plan import FPS, FRAMES, SIZE_PX, Plan
from vpipe.comparison.scoring import Judges, judge_lengths, judge_orders
from vpipe.comparison.temporal_kernels import describe
from vpipe.comparison.workers import Workers
from vpipe.models.sizes import count

SCHEMA = "vpipe.bench/1"


def compare(
    plan: Plan,
    contenders: Sequence[Contender],
    fusions: Sequence[Fusion],
    cache: Path,
    *,
    workers: Workers,
    device: str = "cpu",
    again: bool = False,
    say: Say,
) -> dict[str, Any]:
    """Everything that `vpipe bench` shows, for JSON.

    cache: a folder whose `comparison/` keeps trained networks; `again` trains them anew. Networks are
    measured by as many threads as torch has. Raises VpipeError.
    """
    ready = trained(contenders, plan, cache, device, workers, again=again, say=say)
    judges = Judges(ready, fusions, device, workers)
    flow: list[FlowCost] = []
    if judges.needs_flow:
        told = "video for the cost of flow"
        flow = flow_costs(plan.flow_minutes, plan.seed, workers.jobs, device, lambda n: say(told, n, 1))

    def test_clips(per_label: int, seed: list[int], names: Sequence[str], length: int) -> Clips:
        count = per_label * len(names)
        told = f"test clips of {length} frames"
        return make_clips(
            per_label,
            [plan.seed, *seed],
            workers,
            names=names,
            length=length,
            done=lambda n: say(told, n, count),
        )

    played = test_clips(plan.test, [2], LABELS, FRAMES)

    def flow_of(what: str) -> Done:
        return lambda n: say(f"flow of the test clips, {what}", n, len(played))

    accuracy = judge_orders(judges, played, plan.seed, flow_of)
    lengths = judge_lengths(
        judges, lambda length: test_clips(plan.length_test, [3, length], (*DIRECTION, *ORDER), length), plan
    )
    costs = {name: _costs(one, flow[0] if flow else None, device) for name, one in ready.items()}
    kinds: dict[str, Contender | Fusion] = {one.name: one for one in contenders}
    kinds |= {one.name: one for one in fusions}
    rows = []
    for name in (name for name in ROWS if name in accuracy):
        of = kinds[name]
        parts = of.parts if isinstance(of, Fusion) else (name,)
        rows.append(
            {
                "name": name,
                "title": of.title,
                "kind": of.kind,
                "motion": of.motion,
                "models": of.models,
                "networks": list(parts),
                **{key: _total(costs[part][key] for part in parts) for key in COSTS},
                "accuracy": accuracy[name],
                "lengths": lengths[name],
                "temporal_kernels": _kernels(ready[name]) if name in ready else None,
            }
        )
    return {
        "schema": SCHEMA,
        "vpipe": vpipe.__version__,
        "device": device,
        "jobs": workers.jobs,
        "plan": asdict(plan),
        "clip": {"frames": FRAMES, "fps": float(FPS), "size": SIZE_PX},
        "labels": list(LABELS),
        "groups": {group: list(names) for group, names in GROUPS.items()},
        "chance": {"top1": round(100 / len(LABELS), 2), "against_opposite": 50.0},
        "flow": [cost.to_json() for cost in flow],
        "rows": rows,
    }


COSTS = ("parameters", "gmacs", "ms_a_clip", "flow_s_a_minute", "flow_bytes_a_minute")


def _costs(one: Trained, flow: FlowCost | None, device: str) -> dict[str, float]:
    """COSTS of a contender. Multiplications are those of convolutions and matrix products (torch's counter):
    batch norms, shifts and what else is done value by value are left out."""
    clip = clip_of(one.contender)
    frames, channels, height, width = clip.shape[1:]
    parameters, gmacs = count(one.network, (frames, channels, height, width))
    needs_flow = flow is not None and one.contender.modality == "flow"
    return {
        "parameters": parameters,
        "gmacs": round(gmacs, 4),
        "ms_a_clip": round(milliseconds(one.network, clip, device), 3),
        "flow_s_a_minute": round(flow.seconds, 3) if needs_flow and flow else 0.0,
        "flow_bytes_a_minute": flow.bytes if needs_flow and flow else 0,
    }


def _total(values: Any) -> float:
    return round(sum(values), 4)


def _kernels(one: Trained) -> dict[str, Any]:
    return describe(one.network, int(one.contender.hyper.get("stack", 1)))
