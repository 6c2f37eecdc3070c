"""Weight files: safetensors whose metadata says everything needed to use them.

A file holds one stream (RGB or flow), or several that are fused. Tensors of stream k are named
`streams.k.<key>`; the metadata entry `vpipe` is JSON with the model's name, labels and, for each stream, its
architecture, hyper-parameters, sampling, preprocessing and flow recipe. Nothing in it is ever executed.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vpipe.errors import InputError, UsageError
from vpipe.flow.params import FlowParams
from vpipe.models.convention import Convention
from vpipe.models.layers import channels_last
from vpipe.models.registry import build
from vpipe.models.tensor_file import bad_weights, read_tensors, write_tensors

FORMAT = "vpipe.weights/1"
INITIAL = "weights to start training from, not a video model:"  # begins the source of such a file


@dataclass(frozen=True)
class StreamSpec:
    """What one network expects and how it was made; all of it is in the weight file."""

    architecture: str
    hyper: dict[str, Any]
    modality: str  # "rgb" or "flow"
    frames: int  # network inputs of a clip: RGB frames, or flows between frames + 1 grid frames
    fps: Fraction  # of the grid the inputs come from
    size: tuple[int, int]  # (width, height) of the input picture, px
    mean: tuple[float, ...]  # of RGB in 0..1; of flow in px
    std: tuple[float, ...]
    weight: float = 1.0  # in the fusion of streams
    resize: str = "stretch"  # the whole frame becomes the input picture; "published": as `convention` says
    flow_params: FlowParams | None = None
    bound: float = 20.0  # of the flow cache, px
    flip_labels: dict[str, str] = field(default_factory=dict)  # label of a mirrored clip, where it differs
    convention: Convention | None = None  # of published models; None: clips of consecutive grid frames

    def to_json(self) -> dict[str, Any]:
        entry = asdict(replace(self, flow_params=None))
        entry["fps"] = str(self.fps)
        entry["flow_params"] = self.flow_params.to_dict() if self.flow_params else None
        return entry

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> StreamSpec:
        flow, convention = entry.get("flow_params"), entry.get("convention")
        return cls(
            **{
                **entry,
                "fps": Fraction(entry["fps"]),
                "size": tuple(int(n) for n in entry["size"]),
                "mean": tuple(float(n) for n in entry["mean"]),
                "std": tuple(float(n) for n in entry["std"]),
                "flow_params": FlowParams.from_dict(flow) if flow else None,
                "convention": Convention.from_json(convention) if convention else None,
            }
        )


@dataclass(frozen=True)
class Stream:
    """A network in eval mode with what it expects: the fields of its StreamSpec by the same names."""

    spec: StreamSpec
    network: nn.Module

    def __getattr__(self, name: str) -> Any:
        return getattr(self.spec, name)


@dataclass(frozen=True)
class ModelHeader:
    """The part of a weight file that does not concern a single stream."""

    name: str
    labels: tuple[str, ...]
    background: str | None  # the label that means "nothing happens"
    source: str  # how the weights were made
    licence: str
    fusion: str = "softmax"  # what is added up where there are several streams: probabilities, or "logits"

    def __post_init__(self) -> None:
        if self.fusion not in ("softmax", "logits"):
            raise ValueError(f"fusion is softmax or logits, not {self.fusion!r}")


@dataclass(frozen=True)
class Model:
    header: ModelHeader
    streams: tuple[Stream, ...]
    hash: str  # SHA-256 of the file, hexadecimal

    @property
    def name(self) -> str:
        return self.header.name

    @property
    def labels(self) -> list[str]:
        return list(self.header.labels)

    @property
    def background(self) -> str | None:
        return self.header.background

    def info(self) -> dict[str, Any]:
        """For JSON: everything but the tensors, and the number of parameters of each stream."""
        streams = [
            {**stream.spec.to_json(), "parameters": sum(p.numel() for p in stream.network.parameters())}
            for stream in self.streams
        ]
        return {**asdict(self.header), "labels": self.labels, "hash": self.hash, "streams": streams}


def write_weights(
    path: Path, header: ModelHeader, streams: list[tuple[StreamSpec, dict[str, Tensor]]], *, half: bool = True
) -> None:
    """Writes a weight file beside and renames it: what is under `path` is whole. `half` stores float16."""
    tensors = {}
    for number, (_, state) in enumerate(streams):
        for key, tensor in state.items():
            value = tensor.detach().cpu().contiguous()
            tensors[f"streams.{number}.{key}"] = value.half() if half and value.is_floating_point() else value
    description = {**asdict(header), "format": FORMAT, "streams": [spec.to_json() for spec, _ in streams]}
    write_tensors(path, description, tensors)


def read_weights(path: Path, device: str = "cpu") -> Model:
    """Opens a weight file and builds its networks in eval mode, float32.

    Raises UsageError with code `model_not_found`, `bad_weights` (damaged, or not one of ours).
    """
    if not path.is_file():
        raise UsageError(
            "model_not_found", f"{path}: no such weight file; `vpipe models list` names the packaged ones"
        )
    header, specs, tensors = _parse(path)
    streams = []
    for number, spec in enumerate(specs):
        with torch.device("meta"):  # nothing is allocated from what a file says of itself
            network = build(spec.architecture, spec.hyper)
        prefix = f"streams.{number}."
        state = {
            key.removeprefix(prefix): value.float() if value.is_floating_point() else value
            for key, value in tensors.items()
            if key.startswith(prefix)
        }
        try:
            network.load_state_dict(state, assign=True)
        except RuntimeError as error:
            first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise bad_weights(path, f"its tensors do not fit {spec.architecture}: {first[:200]}") from None
        if not all(torch.isfinite(value).all() for value in state.values() if value.is_floating_point()):
            raise bad_weights(path, "it holds values that are not finite")
        network = channels_last(network).to(device).eval()
        streams.append(Stream(spec, network))
    return Model(header, tuple(streams), hashlib.sha256(path.read_bytes()).hexdigest())


def _parse(path: Path) -> tuple[ModelHeader, list[StreamSpec], dict[str, Tensor]]:
    description, tensors = read_tensors(path, FORMAT)
    try:
        header = ModelHeader(
            str(description["name"]),
            tuple(str(label) for label in description["labels"]),
            description["background"],
            str(description["source"]),
            str(description["licence"]),
            description.get("fusion", "softmax"),
        )
        specs = [StreamSpec.from_json(entry) for entry in description["streams"]]
        if not specs or any(spec.hyper.get("classes") != len(header.labels) for spec in specs):
            raise ValueError("labels and classes differ")
    except (KeyError, TypeError, ValueError, ZeroDivisionError, InputError) as error:
        raise bad_weights(path, f"its metadata is not complete ({type(error).__name__}: {error})") from None
    return header, specs, tensors
