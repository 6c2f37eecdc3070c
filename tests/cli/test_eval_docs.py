"""docs/evaluation.md names every warning and every key of the scores, and none that there is not."""

from __future__ import annotations

import re
from pathlib import Path

from vpipe.evaluation.anet import DetectionScores
from vpipe.evaluation.classification import classification_scores
from vpipe.evaluation.formats import SegmentTable
from vpipe.evaluation.frames import frame_scores
from vpipe.evaluation.proposals import average_recall
from vpipe.evaluation.thumos_kit import kit_map

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "evaluation.md").read_text()
SOURCE = "".join(path.read_text() for path in sorted((ROOT / "vpipe" / "evaluation").glob("*.py")))


def test_every_warning_has_a_row() -> None:
    emitted = set(re.findall(r'Warning_\(\s*"(\w+)"', SOURCE)) | set(
        re.findall(r'"(\w+_segments)": \(', SOURCE)
    )
    table = PAGE.partition("## What is odd")[2].partition("\n\nA truth")[0]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("|")][2:]
    documented = {code for cell in rows for code in re.findall(r"`([a-z_]+)`", cell)}
    assert len(emitted) > 15
    assert documented == emitted


def test_every_key_is_named() -> None:
    whole = SegmentTable.of([("v", "a", 0, 1, 1)])
    detection: DetectionScores = kit_map(whole, whole, [0.5])
    documents = [
        detection.to_json(),
        average_recall(whole, whole).to_json(),
        classification_scores(whole, whole).to_json(),
        frame_scores({"v": [("a", 1)]}, {}).to_json(),
    ]
    for document in documents:
        for key in document:
            assert f"`{key}`" in PAGE, key
