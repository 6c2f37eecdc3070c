"""A million predictions through the installed command, in bounded CPU and memory."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.measured import measured, on_this_machine, used

VIDEOS, LABELS, PREDICTIONS = 5000, 200, 1_000_000
CPU_S, MEMORY_MB = 8.0, 700.0
LINES_CPU_S = 3 * CPU_S  # where each prediction is a document of its own


def write_documents(folder: Path) -> None:
    rng = np.random.default_rng(0)
    main = rng.integers(0, LABELS, VIDEOS)
    database, results = {}, {}
    each = PREDICTIONS // VIDEOS
    for v in range(VIDEOS):
        start = rng.uniform(0, 100, 3)
        spans = np.stack([start, start + rng.uniform(2, 40, 3)], axis=1)
        notes = [{"segment": span, "label": f"activity {main[v]}"} for span in spans.tolist()]
        database[f"{v:011d}"] = {"subset": "validation", "duration": 150.0, "annotations": notes}
        found = spans[rng.integers(0, 3, each)] + rng.normal(0, 3, (each, 2))
        label = np.where(rng.uniform(size=each) < 0.5, main[v], rng.integers(0, LABELS, each))
        results[f"v_{v:011d}"] = [
            {"label": f"activity {c}", "score": s, "segment": t}
            for c, s, t in zip(label.tolist(), rng.uniform(size=each).tolist(), found.tolist(), strict=True)
        ]
    with (folder / "found.jsonl").open("w") as lines:
        for video, notes in results.items():
            lines.writelines(json.dumps({"video_id": video, **note}) + "\n" for note in notes)
    (folder / "truth.json").write_text(json.dumps({"database": database}))
    (folder / "found.json").write_text(json.dumps({"results": results}))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "found"),
    [
        (("detection",), "found.json"),
        (("detection", "--protocol", "thumos14-kit"), "found.json"),
        (("proposals",), "found.json"),
        (("detection",), "found.jsonl"),
    ],
)
def test_a_million_predictions(
    vpipe_executable: Path,
    clean_environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    command: tuple[str, ...],
    found: str,
) -> None:
    """The official code takes 226 s of CPU for the first."""
    folder = tmp_path_factory.getbasetemp() / "million"
    if not folder.exists():
        folder.mkdir()
        write_documents(folder)
    words = [vpipe_executable, "eval", *command, "--json"]
    files = ["--ground-truth", "truth.json", "--predictions", found]
    launched = subprocess.run(
        measured(folder / "used", [*words, *files]),
        cwd=folder,
        env=clean_environment,
        capture_output=True,
        text=True,
        check=True,
    )
    cpu_s, memory_mb = used(folder / "used").cpu_s, used(folder / "used").peak_kib / 1024
    scores = json.loads(launched.stdout)
    assert 0 < scores.get("average_map", scores.get("auc")) < 1
    print(f"vpipe eval {' '.join(command)}: {cpu_s:.1f} s of CPU, {memory_mb:.0f} MB")
    assert cpu_s < on_this_machine(CPU_S if found == "found.json" else LINES_CPU_S)
    assert memory_mb < MEMORY_MB
