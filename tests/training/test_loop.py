"""What the loop promises beyond learning: schedules, averaging, accumulation, frozen batch norms, meters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.test_train import RECIPE, Moving
from vpipe.training.loop import train
from vpipe.training.optimiser import Average, freeze, make_optimiser, set_rate
from vpipe.training.recipe import Recipe
from vpipe.training.schedule import Schedule


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("steps", [7, 50, 1000])
def test_one_cycle_is_that_of_torch(steps: int) -> None:
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=3e-3)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, 3e-3, total_steps=steps, pct_start=0.2, final_div_factor=1e3
    )
    ours = Schedule("one-cycle", 0.2)
    for step in range(steps):
        group = optimiser.param_groups[0]
        assert 3e-3 * ours.rate(step, steps) == pytest.approx(group["lr"], rel=1e-9)
        assert ours.momentum(step, steps) == pytest.approx(group["betas"][0], rel=1e-9)
        optimiser.step()
        if step < steps - 1:
            theirs.step()


def test_step_and_cosine_schedules() -> None:
    falling = Schedule("step", 0.0, (0.4, 0.8), 0.1)
    assert [round(falling.rate(s, 10), 6) for s in (0, 3, 4, 7, 8, 9)] == [1, 1, 0.1, 0.1, 0.01, 0.01]
    cosine = Schedule("cosine", 0.2)
    rates = [cosine.rate(s, 100) for s in range(100)]
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[20] == pytest.approx(1)
    assert rates[60] == pytest.approx(0.5)
    assert rates[-1] < 0.001


def test_rates_of_head_and_biases_and_decay_of_matrices() -> None:
    recipe = replace(RECIPE, head_rate=5.0, bias_rate=2.0, weight_decay=0.1, optimiser="sgd")
    network = torch.nn.Sequential()
    network.body, network.fc = torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)
    optimiser = make_optimiser(network, recipe)
    set_rate(optimiser, 0.1, None)
    found = {
        id(p): (round(group["lr"], 6), group["weight_decay"])
        for group in optimiser.param_groups
        for p in group["params"]
    }
    assert found[id(network.body.weight)] == (0.1, 0.1)
    assert found[id(network.body.bias)] == (0.2, 0.0)
    assert found[id(network.fc.weight)] == (0.5, 0.1)
    assert found[id(network.fc.bias)] == (1.0, 0.0)


def test_average_follows_the_weights_and_survives_a_checkpoint() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        network.weight.fill_(0.0)
    average = Average(network, 0.9)
    with torch.no_grad():
        network.weight.fill_(1.0)
    for _ in range(200):
        average.update(network)
    assert float(average.weights()["weight"]) == pytest.approx(1.0, abs=1e-3)
    other = Average(torch.nn.Linear(1, 1, bias=False), 0.9)
    other.load_state_dict(average.state_dict())
    assert other.steps == 200
    assert torch.equal(other.weights()["weight"], average.weights()["weight"])


class Whole(Moving):
    """Batch n of size 2b is batches 2n and 2n + 1 of size b."""

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        ones = Moving(replace(self.recipe, batch=1))
        first = number * self.recipe.batch
        clips, targets = zip(*(ones[first + k] for k in range(self.recipe.batch)), strict=True)
        return np.concatenate(clips), np.concatenate(targets)


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("frozen", ["all", "none"])
def test_accumulated_batches_are_one_large_one(tmp_path: Path, frozen: str) -> None:
    """Batch statistics are those of each batch, so only frozen ones agree."""
    hyper = {"widths": [8, 8, 16], "dropout": 0.0}
    large = replace(RECIPE, clips=160, batch=8, hyper=hyper, freeze_bn=frozen)
    small = replace(large, batch=4, accumulate=2)
    train(large, Whole(large), 2, tmp_path / "a", workers=0, log_every=1)
    train(small, Whole(small), 2, tmp_path / "b", workers=0, log_every=1)
    one, two = losses(tmp_path / "a"), losses(tmp_path / "b")
    assert len(one) == 20
    apart = np.abs(np.array(one) - np.array(two)).max()
    assert (apart < 1e-5) == (frozen == "all")


def test_frozen_batch_norms_keep_everything(tmp_path: Path) -> None:
    recipe = replace(RECIPE, clips=80, freeze_bn="partial", ema=0.9)
    torch.manual_seed(recipe.seed)
    from vpipe.models.registry import build

    network = build(recipe.architecture, {"classes": 2, "frames": recipe.inputs, **recipe.hyper})
    freeze(network, "none")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    trained, _, _ = train(recipe, Moving(recipe), 2, tmp_path, network=network, workers=0)
    after = trained.state_dict()
    norms = [n for n, m in network.named_modules() if isinstance(m, torch.nn.BatchNorm2d)]
    moved = [
        n
        for n in norms
        if any(
            not torch.equal(before[f"{n}.{part}"], after[f"{n}.{part}"])
            for part in ("running_mean", "running_var", "weight", "bias")
        )
    ]
    assert moved == norms[:1]


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_mixed_precision_learns(tmp_path: Path, precision: str) -> None:
    recipe = replace(RECIPE, precision=precision)
    train(recipe, Moving(recipe), 2, tmp_path, workers=0, log_every=10)
    first, *_, last = losses(tmp_path)
    assert last < first - 0.2


def test_threads_read_ahead_and_the_wait_is_measured(tmp_path: Path) -> None:
    class InThreads(Moving):
        in_threads = True

    class Slow(Moving):
        def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
            import time

            time.sleep(0.05)
            return super().__getitem__(number)

    shares = {}
    for kind in (InThreads, Slow):
        recipe: Recipe = replace(RECIPE, clips=160)
        folder = tmp_path / kind.__name__
        train(recipe, kind(recipe), 2, folder, workers=2 if kind is InThreads else 0, log_every=20)
        (row,) = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        shares[kind] = row["data_wait"]
        assert row["clips_per_s"] > 0
    assert shares[Slow] > 0.5
    assert shares[Slow] > shares[InThreads]
