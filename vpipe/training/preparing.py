"""From a video file to what a stream of a model is fed with, kept in the clip store at the network's scale.

packaged streams     RGB: the frames shown at k / (2 fps), stretched to the input size
                     flow: the flows between those, in px of the input size
published streams    RGB: the video's own frames (or those at k / fps), resized as their repository does

RGB is kept as JPEG of high quality with full colour resolution, flow as compressed float16.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import zstandard

from vpipe.cache import FlowCache
from vpipe.errors import UsageError, VpipeError, Warning_
from vpipe.flow.quantise import Storage
from vpipe.media import FrameSource
from vpipe.models.weights import StreamSpec
from vpipe.recognition.preprocess import resize_flow
from vpipe.recognition.published import resized
from vpipe.training.clip_store import ClipStore, Contents, Damaged, StoredVideo

JPEG_QUALITY = 95
VERSION = 2  # raised when the same video would give other frames
FINER = 2  # RGB for packaged streams is kept at twice their rate: room to vary the tempo
_FLOWS_AT_A_TIME = 32


@dataclass
class PreparedVideo:
    """A video whose frames for one stream are in the store."""

    path: Path
    digest: str  # SHA-256 of the file
    stored: StoredVideo
    _preparer: Preparer

    @property
    def duration_s(self) -> float:
        return float(self.stored.facts["duration_s"])

    @property
    def warnings(self) -> list[Warning_]:
        return [
            Warning_(w["code"], w["message"], {k: v for k, v in w.items() if k not in ("code", "message")})
            for w in self.stored.facts["warnings"]
        ]

    def read(self, indices: Sequence[int]) -> np.ndarray:
        """Frames (T, H, W, 3) uint8 RGB or flows (T, H, W, 2) float32, px.

        Past the end the last frame is held, and there is no flow. A file of the store that was damaged or
        removed meanwhile is made again. Raises InputError, where the video is gone too.
        """
        inside = [min(index, len(self.stored) - 1) for index in indices]
        try:
            blobs = self.stored.read(inside)
        except Damaged:
            self.stored = self._preparer.prepare(self.path, verify=True).stored
            blobs = self.stored.read(inside)
        found = self._preparer.decode(blobs)
        if self._preparer.spec.modality == "flow":
            found[np.array(indices) >= len(self.stored)] = 0
        return found


def frames_per_input(spec: StreamSpec) -> int:
    """Stored frames from one input of a packaged stream to the next."""
    return FINER if spec.modality == "rgb" and spec.convention is None else 1


class Preparer:
    """Prepares videos for one stream of a model."""

    def __init__(self, spec: StreamSpec, store: ClipStore, *, jobs: int = 1, device: str = "cpu") -> None:
        """Raises UsageError for a stream that cannot be trained."""
        if spec.convention is not None and spec.modality == "flow":
            raise UsageError(
                "no_training",
                "imported flow models cannot be trained; take an RGB model, or a packaged one with flow",
            )
        self.spec, self.store, self.jobs, self.device = spec, store, jobs, device
        convention = spec.convention
        self.recipe: dict[str, Any] = {"version": VERSION, "modality": spec.modality}
        if convention is None:
            self.recipe |= {"size": list(spec.size), "fps": str(spec.fps * frames_per_input(spec))}
            if spec.flow_params is not None:
                self.recipe |= {"flow": spec.flow_params.to_dict(), "bound": spec.bound}
        else:
            kept = asdict(convention)
            self.recipe |= {name: kept[name] for name in ("native", "resize", "scale", "interpolation")}
            self.recipe |= {"fps": None if convention.native else str(spec.fps)}

    def prepare(self, video: Path, *, verify: bool = False) -> PreparedVideo:
        """Raises InputError where the video cannot be used, EnvironmentFault where the store cannot."""
        digest = self.store.digest(video)
        place = self.store.place(digest, self.recipe)
        stored = self.store.get(place, lambda: self._contents(video), verify=verify)
        return PreparedVideo(video, digest, stored, self)

    def decode(self, blobs: list[bytes]) -> np.ndarray:
        """What `PreparedVideo.read` gives."""
        if self.spec.modality == "flow":
            width, height = self.spec.size
            plain = zstandard.ZstdDecompressor()
            flows = [np.frombuffer(plain.decompress(b, height * width * 4), np.float16) for b in blobs]
            return np.stack(flows).reshape(-1, height, width, 2).astype(np.float32)
        cache: dict[bytes, np.ndarray] = {}
        for blob in blobs:
            if blob not in cache:
                picture = cv2.imdecode(np.frombuffer(blob, np.uint8), cv2.IMREAD_COLOR_RGB)
                cache[blob] = np.asarray(picture)
        return np.stack([cache[blob] for blob in blobs])

    def _contents(self, video: Path) -> Contents:
        reading = FrameSource(video)
        reading.require_motion()
        if self.spec.modality == "flow":
            return self._flow(video, reading)
        return self._rgb(video, reading)

    def _rgb(self, video: Path, reading: FrameSource) -> Contents:
        spec, convention = self.spec, self.spec.convention
        source = FrameSource(video, size=spec.size) if convention is None else reading

        def frames() -> Iterator[tuple[float, bytes]]:
            if convention is not None and convention.native:
                for frame in source.frames():
                    yield float(frame.time_s), _jpeg(resized(frame.image, convention))
                return
            before, data = -1, b""
            rate = spec.fps * frames_per_input(spec)
            for k, frame in source.resample(rate):
                if frame.index != before:
                    picture = frame.image if convention is None else resized(frame.image, convention)
                    before, data = frame.index, _jpeg(picture)
                yield float(k / rate), data

        return Contents(_facts(reading), frames(), lambda: _warnings(source.warnings))

    def _flow(self, video: Path, reading: FrameSource) -> Contents:
        spec = self.spec
        assert spec.flow_params is not None
        storage = Storage("standard", spec.bound)
        entry = FlowCache(self.store.root).entry(video, spec.flow_params, storage, device=self.device)

        def frames() -> Iterator[tuple[float, bytes]]:
            entry.ensure(None, jobs=self.jobs)
            shrink = zstandard.ZstdCompressor(3)
            for first in range(0, entry.pairs, _FLOWS_AT_A_TIME):
                pairs = list(range(first, min(first + _FLOWS_AT_A_TIME, entry.pairs)))
                for k, flow in zip(pairs, resize_flow(entry.read(pairs), spec.size), strict=True):
                    yield float(k / spec.fps), shrink.compress(flow.astype(np.float16).tobytes())

        return Contents(_facts(reading), frames(), lambda: _warnings(entry.warnings))


def _facts(reading: FrameSource) -> dict[str, Any]:
    return {"duration_s": float(reading.timeline().duration_s)}


def _warnings(warnings: list[Warning_]) -> dict[str, Any]:
    return {"warnings": [warning.to_json() for warning in warnings]}


def _jpeg(picture: np.ndarray) -> bytes:
    """uint8 RGB (H, W, 3), with its colours at full resolution."""
    options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]
    options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise VpipeError("internal_error", "a frame cannot be compressed")
    return data.tobytes()
