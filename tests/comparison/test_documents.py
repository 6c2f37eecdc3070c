"""The committed comparison: the page shows what the document says, and the document can be drawn."""

import json
from pathlib import Path

import pytest

from vpipe.comparison.contenders import ROWS
from vpipe.comparison.plan import Plan
from vpipe.comparison.table import HEAD, cells, length_cells, markdown, text

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = json.loads((CHECKOUT / "benchmarks" / "results" / "motion-models.json").read_text())
PAGE = (CHECKOUT / "docs" / "motion-models.md").read_text()


def test_the_page_has_the_tables_of_the_document() -> None:
    assert [row["name"] for row in DOCUMENT["rows"]] == list(ROWS)
    assert markdown(cells(DOCUMENT)) in PAGE
    assert markdown(length_cells(DOCUMENT)) in PAGE


def test_the_document_is_of_the_committed_plan() -> None:
    plan = Plan()
    assert (DOCUMENT["plan"]["seed"], DOCUMENT["plan"]["seen"]) == (plan.seed, plan.seen)
    assert DOCUMENT["plan"]["test"] == plan.test


def test_single_frames_are_near_chance() -> None:
    (tsn,) = [row for row in DOCUMENT["rows"] if row["name"] == "tsn"]
    for group in ("direction", "order"):
        low, high = tsn["accuracy"]["played"][group]["against_opposite"]["interval95"]
        assert low <= DOCUMENT["chance"]["against_opposite"] <= high


def test_columns_are_aligned() -> None:
    lines = text(cells(DOCUMENT)).splitlines()
    assert len(lines) == len(DOCUMENT["rows"]) + 1
    at = lines[0].index("GMACs")
    assert all(line[at - 1] == " " != line[at] for line in lines)
    assert [lines[0].index(name) for name in HEAD] == sorted(lines[0].index(name) for name in HEAD)


def test_it_can_be_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs vpipe[plots]")
    from vpipe.comparison.plot import draw

    for name in ("a.png", "a.svg"):
        draw(DOCUMENT, tmp_path / name)
        assert (tmp_path / name).stat().st_size > 10_000
