"""Models as ONNX files, compared with the network they came from before they get their name.

One graph: an input for each stream, (batch, T, C, H, W) float32, normalised; `logits` of a model with one
stream, fused `probabilities` of one with several. The batch is free, all else as the model was made. Labels
and what each stream expects are in the metadata, as in a weight file.
"""

from __future__ import annotations

import copy
import io
import json
import logging
import warnings
from contextlib import redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vpipe.errors import UsageError
from vpipe.models.weights import Model, Stream
from vpipe.whole_file import write_whole_file

TOLERANCE = 1e-4  # of the largest difference, as a share of the largest output where that is above 1
BATCHES = (1, 3)  # that are compared; the graph is made with another


class _Graph(nn.Module):
    """All streams of a model as one network."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.networks = nn.ModuleList(copy.deepcopy(stream.network) for stream in model.streams)
        self.weights = [float(stream.weight) for stream in model.streams]
        self.on_logits = model.header.fusion == "logits"

    def forward(self, *clips: Tensor) -> Tensor:
        scores = [network(clip) for network, clip in zip(self.networks, clips, strict=True)]
        if len(scores) == 1:
            only: Tensor = scores[0]
            return only
        if not self.on_logits:
            scores = [one.softmax(1) for one in scores]
        total = sum(weight * one for weight, one in zip(self.weights, scores, strict=True))
        assert isinstance(total, Tensor)
        return total.softmax(1) if self.on_logits else total / sum(self.weights)


def export_onnx(model: Model, path: Path) -> float:
    """Writes `path` and returns the largest difference between onnxruntime's outputs and ours.

    Raises UsageError `missing_library`, `no_export` where torch cannot write the network, `export_differs`
    where the outputs are further apart than TOLERANCE; EnvironmentFault where the file cannot be written.
    """
    runtime, onnx = _libraries()
    graph = _Graph(model).eval()
    names = [stream.modality for stream in model.streams]
    if len(set(names)) < len(names):
        names = [f"{name}{number}" for number, name in enumerate(names)]
    output = "logits" if len(names) == 1 else "probabilities"
    proto = _traced(graph, [_clips(stream, 2) for stream in model.streams], names, output)
    described = {**model.info(), "output": output}
    onnx.helper.set_model_props(
        proto, {"vpipe": json.dumps(described, sort_keys=True), "labels": json.dumps(model.labels)}
    )
    data = proto.SerializeToString()
    difference = _difference(runtime, data, graph, model, names)
    write_whole_file(path, data, "choose another -o")
    return difference


def _libraries() -> tuple[Any, Any]:
    try:
        # By name, because they are extras; onnxscript is what torch writes the graph with.
        found = [import_module(name) for name in ("onnxruntime", "onnx", "onnxscript")]
    except ImportError as error:
        raise UsageError(
            "missing_library", f"{error.name} is not installed; pip install 'vpipe[onnx]' brings it along"
        ) from None
    return found[0], found[1]


def _clips(stream: Stream, count: int) -> Tensor:
    """Random inputs of a stream, (count, T, C, H, W); the same for the same arguments."""
    width, height = stream.size
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, stream.frames, len(stream.mean), height, width, generator=generator)


def _traced(graph: nn.Module, clips: list[Tensor], names: list[str], output: str) -> Any:
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    said = io.StringIO()  # the exporter tells the user about its steps, and of libraries it could use
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings(), redirect_stdout(said), redirect_stderr(said):
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                graph,
                tuple(clips),
                dynamo=True,
                dynamic_shapes=(tuple({0: batch} for _ in clips),),
                input_names=names,
                output_names=[output],
                verbose=False,
            )
    except Exception as error:  # the exporter's errors have no common class below this one
        raise UsageError(
            "no_export", f"torch cannot write this network as ONNX: {str(error).splitlines()[0]:.200}"
        ) from None
    finally:
        logger.setLevel(level)
    assert program is not None
    return program.model_proto


def _difference(runtime: Any, data: bytes, graph: nn.Module, model: Model, names: list[str]) -> float:
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for count in BATCHES:
        clips = [_clips(stream, count) for stream in model.streams]
        with torch.inference_mode():
            ours = graph(*clips).numpy()
        theirs = session.run(None, {name: clip.numpy() for name, clip in zip(names, clips, strict=True)})[0]
        difference = float(np.abs(theirs - ours).max())
        if not difference <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
            raise UsageError(
                "export_differs",
                f"onnxruntime's outputs are {difference:.2g} from ours, more than {TOLERANCE:g}; nothing was "
                "written",
            )
        worst = max(worst, difference)
    return worst
