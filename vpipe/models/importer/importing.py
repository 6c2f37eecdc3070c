"""A published checkpoint as a weight file of ours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vpipe.models.importer.checkpoint import read_checkpoint
from vpipe.models.importer.inputs import stream_spec
from vpipe.models.importer.labels import find_labels
from vpipe.models.importer.layout import Choices
from vpipe.models.importer.recognise import recognise
from vpipe.models.weights import ModelHeader, write_weights

SEGMENTS_TOLD = ("tanet",)  # by the shapes of its weights


@dataclass(frozen=True)
class Imported:
    """What an import did."""

    path: Path
    layout: str
    architecture: str
    classes: int
    notes: tuple[str, ...]


def import_checkpoint(
    checkpoint: Path,
    output: Path,
    labels: str | None = None,
    *,
    choices: Choices | None = None,
    architecture: str | None = None,
    licence: str = "as its source says",
) -> Imported:
    """Writes `output` from a published checkpoint; weights stay as they are, in float32.

    `labels` is the name of a packaged list or a text file; None: the list that fits layout and class count.
    Raises UsageError as read_checkpoint, recognise, find_labels and stream_spec do.
    """
    choices = choices or Choices()
    read = read_checkpoint(checkpoint)
    mapped = recognise(read, choices, architecture)
    classes = int(mapped.hyper["classes"])
    names = find_labels(labels, classes, mapped.layout.name)
    spec = stream_spec(mapped.layout.inputs, mapped.layout.architecture, mapped.hyper, choices)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    source = f"{mapped.layout.name}; imported from {checkpoint.name}, SHA-256 {digest}"
    header = ModelHeader(output.stem, names, None, source, licence)
    write_weights(output, header, [(spec, mapped.state)], half=False)
    notes = (*mapped.notes, *_assumed(mapped.layout.architecture, mapped.hyper, choices))
    return Imported(output, mapped.layout.name, mapped.layout.architecture, classes, notes)


def _assumed(architecture: str, hyper: dict[str, Any], choices: Choices) -> list[str]:
    """What neither the keys nor the user told."""
    if choices.segments is not None or "segments" not in hyper or architecture in SEGMENTS_TOLD:
        return []
    return [f"{hyper['segments']} segments, the usual number: --segments where it was trained with another"]
