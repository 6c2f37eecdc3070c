"""Generated clips kept on disk, with TV-L1 flow as `vpipe flow` computes it, so that they can be seen often.

To make a clip takes a tenth of a second of one core, half of it TV-L1; a training step on it far less. So
`kept` clips are made once, as RGB and as flow, and every epoch sees each of them once,
mirrored and played backwards at random.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from vpipe.errors import EnvironmentFault
from vpipe.flow.methods import FlowFrame, flow_between
from vpipe.flow.params import FlowParams
from vpipe.flow.quantise import Storage
from vpipe.media.upright import scaled_size
from vpipe.recognition.preprocess import resize_flow
from vpipe.synth.textures import TexturePool
from vpipe.synth.vocabulary import FLIPPED, LABELS
from vpipe.training.export import packaged_flow_recipe
from vpipe.training.generated import draw_clip
from vpipe.training.recipe import Recipe
from vpipe.whole_file import whole

log = logging.getLogger(__name__)

FORMAT = "vpipe.kept-clips/1"
KINDS = ("rgb", "flow", "target")
BLOCK = 256  # clips, which share a stock of textures
STOCK = 48
# Flow is kept in 8 bits with a step that grows with it: 0.017 px at rest, 0.7 px at the bound.
BOUND_PX = 20.0
_GAIN = 2.0
_CODES = 127 / np.arcsinh(_GAIN * BOUND_PX)
DECODED_PX = (np.sinh((np.arange(256) - 127) / _CODES) / _GAIN).astype(np.float32)

TURNED_OVER = {  # the label of a clip mirrored top to bottom
    "tilt_up": "tilt_down",
    "tilt_down": "tilt_up",
    "roll_clockwise": "roll_counterclockwise",
    "roll_counterclockwise": "roll_clockwise",
}

BACKWARDS = {  # and of a clip played backwards
    **TURNED_OVER,
    **FLIPPED,
    "zoom_in": "zoom_out",
    "zoom_out": "zoom_in",
}


def encode(flow: np.ndarray) -> np.ndarray:
    """Flow in px -> uint8 codes, whose values are DECODED_PX."""
    codes = np.rint(np.arcsinh(_GAIN * flow) * _CODES) + 127
    return np.clip(codes, 0, 254).astype(np.uint8)


def kept_folder(recipe: Recipe, cache: Path) -> Path:
    """Where the clips of this recipe are: RGB and flow recipes of equal clips share them."""
    params = packaged_flow_recipe(recipe.fps)
    about = {
        "format": FORMAT,
        "flow": [params.to_dict(), params.engine()],
        "fps": str(recipe.fps),
        **{name: getattr(recipe, name) for name in ("seed", "frames", "size", "joined", "lively")},
    }
    key = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()
    return cache / "training" / key[:16]


def keep_clips(recipe: Recipe, folder: Path, jobs: int) -> None:
    """Makes the blocks that are missing, in `jobs` processes. Raises EnvironmentFault `unwritable_cache`."""
    blocks = range(-(-recipe.kept // BLOCK))
    missing = [k for k in blocks if not all(_file(folder, kind, k).is_file() for kind in KINDS)]
    if not missing:
        return
    log.warning("making %d clips to keep in %s", len(missing) * BLOCK, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number, _ in enumerate(_made(recipe, missing, folder, jobs)):
            log.info("%d of %d clips made", (number + 1) * BLOCK, len(missing) * BLOCK)
    except OSError as error:
        raise EnvironmentFault(
            "unwritable_cache", f"{folder}: {error.strerror}; set VPIPE_CACHE_DIR to another folder"
        ) from None


def _made(recipe: Recipe, blocks: list[int], folder: Path, jobs: int) -> Iterator[None]:
    if jobs <= 1 or len(blocks) <= 1:
        for block in blocks:
            make_block(recipe, block, folder)
            yield
        return
    with ProcessPoolExecutor(min(jobs, len(blocks)), get_context("spawn")) as pool:
        try:
            for future in [pool.submit(make_block, recipe, block, folder) for block in blocks]:
                yield future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _file(folder: Path, kind: str, block: int) -> Path:
    return folder / f"{kind}_{block:05d}.npy"


def make_block(recipe: Recipe, block: int, folder: Path) -> None:
    """Writes clips BLOCK * block onwards: rgb, flow and targets, whole under their final names."""
    cv2.setNumThreads(1)
    pool = TexturePool(stock=STOCK, stock_rng=np.random.default_rng([recipe.seed, 1, block]))
    rng = np.random.default_rng([recipe.seed, 4, block])
    params = packaged_flow_recipe(recipe.fps)
    rgb, flow, targets = [], [], []
    for _ in range(BLOCK):
        clip = draw_clip(recipe, rng, pool)
        frames = clip.recorded(rng)
        size = (recipe.size, recipe.size)
        rgb.append(np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]))
        flow.append(encode(tvl1_flow(frames, params, recipe.size)))
        targets.append(clip.target)
    for kind, parts in zip(KINDS, (rgb, flow, targets), strict=True):
        with whole(_file(folder, kind, block)) as beside, beside.open("wb") as file:
            np.save(file, np.stack(parts))


def tvl1_flow(frames: list[np.ndarray], params: FlowParams, side: int) -> np.ndarray:
    """What a flow stream gets from these frames: float32 (T - 1, 2, side, side), px of that size."""
    height, width = frames[0].shape[:2]
    size = scaled_size(width, height, params.short_side_px or min(width, height))
    shrinks = size[0] <= width
    gray = [
        cv2.resize(
            cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY),
            size,
            interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
        )
        for frame in frames
    ]
    ready = [FlowFrame(picture, params) for picture in gray]
    storage = Storage()
    flows = [flow_between(a, b) for a, b in pairwise(ready)]
    stored = storage.dequantise(storage.quantise(np.stack(flows)))
    return resize_flow(stored, (side, side)).transpose(0, 3, 1, 2)


class KeptClips:
    """Batches out of kept clips: every epoch has each clip once, in an order of its own, turned at random.

    Batch i depends on the recipe's seed and i alone.
    """

    in_threads = True  # to read is all there is to do

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        kind = "rgb" if recipe.modality == "rgb" else "flow"
        blocks = range(-(-recipe.kept // BLOCK))
        self._clips = [np.load(_file(folder, kind, k), mmap_mode="r") for k in blocks]
        self._targets = np.concatenate([np.load(_file(folder, "target", k)) for k in blocks])

    def __len__(self) -> int:
        return -(-self.recipe.clips // self.recipe.batch)

    def __getitem__(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """(clips, targets) as in `GeneratedClips`."""
        recipe, first = self.recipe, number * self.recipe.batch
        rng = np.random.default_rng([recipe.seed, 5, number])
        clips, targets = [], []
        for place in range(first, first + recipe.batch):
            epoch, at = divmod(place, recipe.kept)
            which = int(_order(recipe.seed, epoch, recipe.kept)[at])
            clip, target = self._clips[which // BLOCK][which % BLOCK], self._targets[which]
            if recipe.modality == "flow":
                clip = DECODED_PX[clip]
            clip, target = turned(clip, target, *(bool(chance < 0.5) for chance in rng.random(3)))
            clips.append(clip)
            targets.append(target)
        return np.stack(clips), np.stack(targets)


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, 6, epoch]).permutation(count)


def turned(
    clip: np.ndarray, target: np.ndarray, sideways: bool, over: bool, backwards: bool
) -> tuple[np.ndarray, np.ndarray]:
    """A clip mirrored left to right, top to bottom and played backwards, and its target.

    clip: (T, H, W, 3) RGB or (T, 2, H, W) flow. The flow back is not quite the flow there turned round: it
    stands where a thing comes from and not where it goes.
    """
    flow = clip.shape[-1] != 3
    column, row = (3, 2) if flow else (2, 1)
    for wanted, axis, signs, names in (
        (sideways, column, (-1, 1), FLIPPED),
        (over, row, (1, -1), TURNED_OVER),
        (backwards, 0, (-1, -1), BACKWARDS),
    ):
        if wanted:
            clip = np.flip(clip, axis)
            if flow:
                clip = clip * np.array(signs, np.float32)[:, None, None]
            target = target[[LABELS.index(names.get(label, label)) for label in LABELS]]
    return clip, target
