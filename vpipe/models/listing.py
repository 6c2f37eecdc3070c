"""What `vpipe models list` knows: packaged models, architectures, checkpoints that can be downloaded."""

from __future__ import annotations

from typing import Any

from vpipe.models.catalogue import ENTRIES
from vpipe.models.packaged_models import DEFAULT_MODEL, load_model, packaged_models
from vpipe.models.registry import ARCHITECTURES
from vpipe.models.sizes import SIZES, count
from vpipe.models.weights import Stream

ACCURACY_SOURCE = "docs/vocabulary.md"  # of the packaged models, on generated and on real clips


def listing() -> dict[str, Any]:
    """Tables of plain values: `default`, `models`, `architectures` and `checkpoints`."""
    sizes = {size.architecture: size for size in SIZES}
    architectures = []
    for name in sorted(ARCHITECTURES):
        size = sizes.get(name)
        architectures.append(
            {
                "name": name,
                "input": size.input if size else None,
                "parameters": size.parameters if size else None,
                "gmacs": size.gmacs if size else None,
                "accuracy": size.accuracy if size else "of the packaged models",
                "source": size.source if size else ACCURACY_SOURCE,
            }
        )
    return {
        "default": DEFAULT_MODEL,
        "models": [_packaged(name) for name in packaged_models()],
        "architectures": architectures,
        "checkpoints": [entry.to_json() for entry in ENTRIES],
    }


def _packaged(name: str) -> dict[str, Any]:
    model = load_model(name)
    counts = [_count(stream) for stream in model.streams]
    described = model.info()
    for stream, of_stream, (_, gmacs) in zip(described["streams"], model.streams, counts, strict=True):
        stream |= {"gmacs": round(gmacs, 3), "input": "x".join(str(n) for n in _shape(of_stream))}
    return {
        **described,
        "parameters": sum(parameters for parameters, _ in counts),
        "gmacs": round(sum(gmacs for _, gmacs in counts), 3),
        "accuracy_source": ACCURACY_SOURCE,
    }


def _shape(stream: Stream) -> tuple[int, int, int, int]:
    """(T, C, H, W) of a clip."""
    width, height = stream.size
    return stream.frames, len(stream.mean), height, width


def _count(stream: Stream) -> tuple[int, float]:
    return count(stream.network, _shape(stream))
