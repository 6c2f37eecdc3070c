"""`vpipe bench`: at the smallest size there is, the whole table; a second run only measures."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Vpipe
from .inprocess import InProcess

SMALLEST = ("--quick", "--clips", "32", "--test", "1", "-j", "1", "--device", "cpu")
ACCURACIES = {"played", "shuffled", "reversed", "reversed_own_label"}
SHARE = {"percent", "interval95", "clips"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> InProcess:
    return InProcess(tmp_path, monkeypatch, capsys)


@pytest.mark.slow
def test_the_table_and_a_second_run_that_only_measures(vpipe: Vpipe, here: InProcess, tmp_path: Path) -> None:
    finished = vpipe("bench", *SMALLEST, "--only", "tsm", "-o", "out/bench.json")
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert lines[0].split()[:3] == ["model", "motion", "from"]
    assert lines[1].split()[:2] == ["TSM", "features"]
    document = json.loads((tmp_path / "out" / "bench.json").read_text())
    check(document, ["tsm"])
    assert document["flow"] == []  # nothing needs it, so it is not timed
    (weights,) = (tmp_path / "cache" / "comparison").iterdir()
    made = weights.stat().st_mtime_ns
    again = json.loads(here("bench", *SMALLEST, "--only", "tsm", "--json").stdout)
    assert weights.stat().st_mtime_ns == made
    assert again["rows"][0]["accuracy"] == document["rows"][0]["accuracy"]
    info = here("models", "info", weights, "--temporal-kernels").stdout
    assert "temporal shift in 4 blocks" in info
    assert "no learned temporal kernel" in info
    described = json.loads(here("models", "info", weights, "--temporal-kernels", "--json").stdout)
    assert described["streams"][0]["temporal_kernels"]["layers"] == []


@pytest.mark.slow
def test_the_rows_with_flow(here: InProcess, tmp_path: Path) -> None:
    finished = here("bench", *SMALLEST, "--only", "two-stream,tsm-diff", "--markdown", "-o", "bench.json")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("| model | motion from |")
    document = json.loads((tmp_path / "bench.json").read_text())
    check(document, ["tsn", "flow", "two-stream", "tsm-diff"])
    assert [cost["flow_size"] for cost in document["flow"]] == [[107, 80], [171, 128]]
    for cost in document["flow"]:
        assert cost["seconds_a_minute"] > 0
        assert cost["bytes_a_minute"] > 1000
    rows = {row["name"]: row for row in document["rows"]}
    for key in ("parameters", "gmacs", "ms_a_clip"):
        assert rows["two-stream"][key] == pytest.approx(rows["tsn"][key] + rows["flow"][key], rel=1e-3)
    assert rows["tsn"]["temporal_kernels"]["none"]
    assert rows["flow"]["temporal_kernels"]["layers"][0]["taps"] == 7


def check(document: dict[str, Any], names: list[str]) -> None:
    assert document["schema"] == "vpipe.bench/1"
    assert document["chance"] == {"top1": round(100 / len(document["labels"]), 2), "against_opposite": 50.0}
    assert [row["name"] for row in document["rows"]] == names
    for row in document["rows"]:
        assert row["parameters"] > 1e5
        assert 0 < row["gmacs"] < 1
        assert row["ms_a_clip"] > 0
        needs_flow = row["name"] in ("flow", "two-stream")
        assert (row["flow_s_a_minute"] > 0) == (row["flow_bytes_a_minute"] > 0) == needs_flow
        assert set(row["accuracy"]) == ACCURACIES
        for accuracy in (*row["accuracy"].values(), *(entry["windows"] for entry in row["lengths"])):
            assert set(accuracy) == {"all", "direction", "order"}
            assert set(accuracy["order"]["top1"]) == set(accuracy["order"]["against_opposite"]) == SHARE
        assert [entry["frames"] for entry in row["lengths"]] == [4, 8, 16, 32]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--only", "tms"), "unknown_contender"),
        (("--plot", "x.jpg"), "bad_output"),
        (("--json", "--markdown"), "bad_flags"),
        (("--clips", "3"), "bad_usage"),
        (("--device", "tpu"), "unknown_device"),
    ],
)
def test_bad_flags_end_before_any_work(
    here: InProcess, one_error: Callable[..., str], arguments: tuple[str, ...], code: str
) -> None:
    finished = here("bench", *arguments)
    assert finished.returncode == 2
    one_error(finished, f"[{code}]")


def test_a_plot_without_matplotlib_is_refused_before_any_work(
    here: InProcess, one_error: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    finished = here("bench", "--quick", "--plot", "x.png")
    assert finished.returncode == 1
    one_error(finished, "vpipe[plots]", "[no_matplotlib]")


def test_an_unwritable_folder_is_said_before_any_work(
    here: InProcess, one_error: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    finished = here("bench", "--quick", "-o", tmp_path / "file" / "x.json")
    assert finished.returncode == 1
    one_error(finished, "[unwritable_output]")
