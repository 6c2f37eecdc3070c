"""Where a recipe's clips come from: made on the fly, kept on disk, or read from a folder of videos."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vpipe import threads
from vpipe.cache.store import default_root
from vpipe.documents import LARGE_BYTES, read_document
from vpipe.errors import UsageError
from vpipe.media import FrameSource
from vpipe.synth.vocabulary import LABELS
from vpipe.training.generated import GeneratedClips
from vpipe.training.kept import KeptClips, keep_clips, kept_folder
from vpipe.training.recipe import Recipe


class Batches(Protocol):
    """Batches by number: (clips, targets) as in `GeneratedClips`."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]: ...


def open_data(recipe: Recipe) -> Batches:
    """The batches that `recipe.data` names. Kept clips are made where they are not there yet.

    Raises UsageError where there are none, EnvironmentFault where they cannot be kept.
    """
    if recipe.data == "generated" and recipe.kept:
        folder = kept_folder(recipe, default_root())
        keep_clips(recipe, folder, threads.jobs())
        return KeptClips(recipe, folder)
    if recipe.data == "generated":
        return GeneratedClips(recipe)
    return VideoClips(recipe, Path(recipe.data))


class VideoClips:
    """RGB clips out of the videos of `vpipe synth clips`; each is decoded once, kept at network size.

    Batch i draws videos and start times with (seed, i), so that it does not depend on what came before.
    """

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        if recipe.modality != "rgb":
            raise UsageError(
                "bad_data", f'{folder}: videos train RGB models; flow recipes take data = "generated"'
            )
        try:
            truth: dict[str, Any] = json.loads(read_document(folder / "truth.json", LARGE_BYTES))
            self._videos = [
                (folder / Path(name).name, LABELS.index(row["label"]))
                for name, row in sorted(truth["videos"].items())
            ]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UsageError(
                "bad_data",
                f"{folder}: no usable truth.json ({error}); make one with: vpipe synth clips -o {folder}",
            ) from None
        if not self._videos:
            raise UsageError("bad_data", f"{folder}: truth.json names no video")
        self.recipe = recipe
        self._frames: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return -(-self.recipe.clips // self.recipe.batch)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([self.recipe.seed, 3, number])
        chosen = rng.integers(len(self._videos), size=self.recipe.batch)
        clips, targets = [], np.zeros((self.recipe.batch, len(LABELS)), np.float32)
        for place, video in enumerate(chosen):
            frames = self._decoded(int(video))
            start = int(rng.integers(max(1, len(frames) - self.recipe.frames + 1)))
            clip = frames[start : start + self.recipe.frames]
            clips.append(np.concatenate([clip, np.repeat(clip[-1:], self.recipe.frames - len(clip), axis=0)]))
            targets[place, self._videos[int(video)][1]] = 1
        return np.stack(clips), targets

    def _decoded(self, video: int) -> np.ndarray:
        if video not in self._frames:
            source = FrameSource(self._videos[video][0], size=(self.recipe.size, self.recipe.size))
            self._frames[video] = np.stack([frame.image for _, frame in source.resample(self.recipe.fps)])
        return self._frames[video]
