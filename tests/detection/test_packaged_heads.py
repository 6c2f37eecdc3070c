"""The heads in the package belong to the models in the package."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from vpipe.detection.detector import DetectorSettings
from vpipe.detection.heads.head import FOLDER, load_head, packaged_heads
from vpipe.detection.heads.run import detect_with_head
from vpipe.models import load_model
from vpipe.recognition.features import FeatureRecognizer, split_features
from vpipe.recognition.snippets import scan


@pytest.mark.parametrize("name", packaged_heads())
def test_a_packaged_head_fits_its_model(name: str, tmp_path: Path, make_clip: Callable[..., Path]) -> None:
    """It learnt on features of the very weights that are packaged; a pan from end to end is one segment."""
    head = load_head(name)
    assert head.header.model is not None
    model = load_model(head.header.model["name"])
    assert head.header.model["hash"] == model.hash, "train the head again on features of the new weights"
    assert set(head.header.labels) <= set(model.labels)
    path = make_clip(tmp_path / "pan.mp4", frames=100, fps=25, size=(340, 256), step_px=(2, 0))
    recognizer = FeatureRecognizer(model, batch_size=8)
    grid = head.grid(recognizer)
    seen = scan(path, recognizer, grid=grid)
    scores, features = split_features(seen.scores, path, recognizer, grid, seen.info.rate)
    best = max(detect_with_head(head, features, DetectorSettings(), scores).segments, key=lambda s: s.score)
    assert (best.label, round(best.start_s, 1), round(best.end_s, 1)) == ("pan_left", 0.0, 4.0)
    assert best.score > 0.5


def test_the_heads_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.safetensors")) < 4_000_000
