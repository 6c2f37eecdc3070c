"""A published checkpoint as a weight file of ours."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from vpipe.errors import UsageError
from vpipe.models.importer.checkpoint import read_checkpoint
from vpipe.models.importer.inputs import stream_spec
from vpipe.models.importer.layout import Choices
from vpipe.models.importer.recognise import recognise
from vpipe.models.weights import ModelHeader, write_weights


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
    labels: tuple[str, ...],
    *,
    choices: Choices | None = None,
    architecture: str | None = None,
    licence: str = "as its source says",
) -> Imported:
    """Writes `output` from a published checkpoint; weights stay as they are, in float32.

    Raises UsageError as read_checkpoint, recognise and stream_spec do, and `labels_differ` where there are
    not as many labels as classes.
    """
    choices = choices or Choices()
    read = read_checkpoint(checkpoint)
    mapped = recognise(read, choices, architecture)
    classes = int(mapped.hyper["classes"])
    if len(labels) != classes:
        raise UsageError(
            "labels_differ",
            f"{checkpoint}: it tells {classes} classes and {len(labels)} labels are given; a file of labels "
            "has one label a line, in the order of the classes",
        )
    spec = stream_spec(mapped.layout.inputs, mapped.layout.architecture, mapped.hyper, choices)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    source = f"{mapped.layout.name}; imported from {checkpoint.name}, SHA-256 {digest}"
    header = ModelHeader(output.stem, labels, None, source, licence)
    write_weights(output, header, [(spec, mapped.state)], half=False)
    return Imported(output, mapped.layout.name, mapped.layout.architecture, classes, mapped.notes)


def read_labels(path: Path) -> tuple[str, ...]:
    """Labels from a text file, one a line, in the order of the classes. Raises UsageError `bad_labels`."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise UsageError("bad_labels", f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise UsageError("bad_labels", f"{path}: not a text file in UTF-8") from None
    labels = tuple(line.strip() for line in lines if line.strip())
    if len(set(labels)) != len(labels) or not labels:
        twice = next((label for label in labels if labels.count(label) > 1), "nothing")
        raise UsageError("bad_labels", f"{path}: one label a line, each once; found {twice!r} otherwise")
    return labels
