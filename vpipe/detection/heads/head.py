"""A learned head with everything that says what it is for, and its weight file.

A file is safetensors whose metadata describes it (format `vpipe.head/1`): the kind of head and its
dimensions, the labels, the features it learnt on (width, spacing, the model's name and hash), and its source.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vpipe.detection.heads.mstcn import MSTCN, MSTCNDims
from vpipe.detection.heads.stpp import STPP, STPPDims
from vpipe.errors import InputError, UsageError
from vpipe.models.tensor_file import bad_weights, read_tensors, write_tensors
from vpipe.recognition.features_file import Features, Spacing
from vpipe.recognition.grid import SnippetGrid, snippet_grid
from vpipe.recognition.recognizer import Recognizer

FORMAT = "vpipe.head/1"
FOLDER = Path(__file__).parent / "packaged"
PLUS_PLUS: dict[str, Any] = {"dual": 11, "stages": 4}  # a first stage of eleven layers, three that refine

# What `vpipe train --head` knows: name -> (network, dimensions, what differs from their defaults).
KINDS: dict[str, tuple[Callable[[Any], MSTCN | STPP], Callable[..., Any], dict[str, Any]]] = {
    "stpp": (STPP, STPPDims, {}),
    "mstcn": (MSTCN, MSTCNDims, {}),
    "mstcn++": (MSTCN, MSTCNDims, PLUS_PLUS),
}


@dataclass(frozen=True)
class HeadHeader:
    """What a head's file says beside its weights."""

    kind: str
    name: str
    hyper: dict[str, Any]
    labels: tuple[str, ...]  # the background last
    spacing: Spacing
    model: dict[str, str] | None  # name and hash of what made the features; None: a tool of somebody else
    source: str
    licence: str

    @property
    def background(self) -> str:
        return self.labels[-1]

    @property
    def channels(self) -> int:
        return int(self.hyper["channels"])


@dataclass(frozen=True)
class Head:
    header: HeadHeader
    network: MSTCN | STPP  # in eval mode
    hash: str  # SHA-256 of the file, hexadecimal

    def summary(self) -> dict[str, Any]:
        """The `model` of a JSON envelope whose rows come from this head."""
        header = self.header
        return {
            "name": header.name,
            "hash": self.hash,
            "head": header.kind,
            "features_of": header.model,
            "labels": list(header.labels),
            "background": header.background,
        }

    def grid(self, recognizer: Recognizer) -> SnippetGrid:
        """Where the model has to look for this head. Raises UsageError `other_model`."""
        header, model = self.header, recognizer.model
        if header.model and header.model["hash"] != model.hash:
            raise UsageError(
                "other_model",
                f"head '{header.name}' learnt on features of '{header.model['name']}' "
                f"({header.model['hash'][:12]}), not of '{model.name}' ({model.hash[:12]}): give that "
                "--model, or train a head on features of this one",
            )
        try:
            return snippet_grid(recognizer, round(header.spacing.window), round(header.spacing.stride))
        except UsageError:
            raise UsageError(
                "other_model",
                f"head '{header.name}' learnt on feature files of {header.spacing}, and '{model.name}' makes "
                "none like these: give --features, or the --model that made them",
            ) from None

    def check(self, features: Features) -> None:
        """Raises InputError where features are not of the kind that the head learnt on: `other_width`,
        `other_model`, `other_spacing`."""
        header, name = self.header, self.header.name
        if features.table.shape[1] != header.channels:
            raise InputError(
                "other_width",
                f"{features.path}: {features.table.shape[1]} channels, where head '{name}' learnt on "
                f"{header.channels}: give it features of the same model",
            )
        made_by = features.model
        if header.model and made_by and header.model["hash"] != made_by["hash"]:
            raise InputError(
                "other_model",
                f"{features.path}: features of '{made_by.get('name')}' ({made_by['hash'][:12]}), where head "
                f"'{name}' learnt on '{header.model['name']}' ({header.model['hash'][:12]}): make features "
                "with that model, or train the head on these",
            )
        if not features.spacing.like(header.spacing):
            raise InputError(
                "other_spacing",
                f"{features.path}: {features.spacing}, where head '{name}' learnt on {header.spacing}: make "
                "features with that spacing",
            )


def build_head(kind: str, channels: int, classes: int) -> tuple[MSTCN | STPP, dict[str, Any]]:
    """A network with fresh weights and its dimensions. Raises UsageError `unknown_head`."""
    if kind not in KINDS:
        raise UsageError("unknown_head", f"--head {kind}: choose one of {', '.join(KINDS)}")
    network, dims, differs = KINDS[kind]
    hyper = asdict(dims(channels=channels, classes=classes, **differs))
    return network(dims(**hyper)), hyper


def write_head(path: Path, header: HeadHeader, network: MSTCN | STPP) -> None:
    """Writes a head: weights as float16, biases and statistics as they are. Raises EnvironmentFault."""
    tensors = {
        key: (value.half() if key.endswith("weight") else value).detach().cpu().contiguous()
        for key, value in network.state_dict().items()
    }
    description = {**asdict(header), "format": FORMAT}
    write_tensors(path, description, tensors)


def packaged_heads() -> list[str]:
    """Names of the heads in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def load_head(name_or_path: str | Path) -> Head:
    """A packaged head by its name, or a file by its path.

    Raises UsageError: `unknown_head` for a name that is neither, `head_not_found`, `bad_weights`.
    """
    text = str(name_or_path)
    if text in packaged_heads():
        return read_head(FOLDER / f"{text}.safetensors")
    path = Path(text)
    if path.suffix == ".safetensors" or path.exists():
        return read_head(path)
    close = difflib.get_close_matches(text, packaged_heads(), 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        "unknown_head",
        f"unknown head '{text}'{hint}: give the path of one that `vpipe train --head` wrote"
        + (f", or a packaged one ({', '.join(packaged_heads())})" if packaged_heads() else ""),
    )


def read_head(path: Path) -> Head:
    """Opens a head's file. Raises UsageError `head_not_found`, `bad_weights`."""
    if not path.is_file():
        raise UsageError("head_not_found", f"{path}: no such head; `vpipe train --head` writes one")
    description, tensors = read_tensors(path, FORMAT)
    try:
        model = description["model"]
        header = HeadHeader(
            str(description["kind"]),
            str(description["name"]),
            dict(description["hyper"]),
            tuple(str(label) for label in description["labels"]),
            Spacing(**{key: float(value) for key, value in description["spacing"].items()}),
            {"name": str(model["name"]), "hash": str(model["hash"])} if model else None,
            str(description["source"]),
            str(description["licence"]),
        )
        if header.hyper["classes"] != len(header.labels):
            raise ValueError("labels and classes differ")
        network, dims, _ = KINDS[header.kind]
        with torch.device("meta"):  # nothing is allocated from what a file says of itself
            built = network(dims(**header.hyper))
        state: dict[str, Tensor] = {key: value.float() for key, value in tensors.items()}
        if not all(torch.isfinite(value).all() for value in state.values()):
            raise ValueError("it holds values that are not finite")
        built.load_state_dict(state, assign=True)
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise bad_weights(path, f"{type(error).__name__}: {str(error)[:200]}") from None
    return Head(header, built.eval(), hashlib.sha256(path.read_bytes()).hexdigest())
