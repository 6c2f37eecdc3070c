"""Where a network sees a label: against the closed form, and against what moves in generated clips."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.models.test_networks import CHANNELS, FRAMES, SIDES, tiny
from vpipe.media import VideoWriter
from vpipe.models import load_model
from vpipe.models.registry import ARCHITECTURES
from vpipe.recognition.classify import classify
from vpipe.recognition.explain import Explanation, activation
from vpipe.recognition.grad_cam import class_activation
from vpipe.recognition.recognizer import Recognizer

# A mean over all places, then a linear layer.
PLAIN = ("stm", "tanet", "tea", "tsm", "tsm-mobilenetv2", "tsn-bninception", "tsn-resnet", "resnet3d", "r3d")


@pytest.mark.parametrize("name", PLAIN)
def test_it_is_the_class_activation_map_where_that_is_defined(name: str) -> None:
    network, side = tiny(name), SIDES.get(name, 32) * 2
    network.fc.weight.data.abs_()  # type: ignore[union-attr,operator]  # else all maps may be negative: unseen
    clip = torch.randn(1, FRAMES.get(name, 4), 3, side, side)
    with torch.inference_mode():
        maps = network.maps(clip)[0]  # type: ignore[operator]
        wanted = torch.einsum("lc,schw->lshw", network.fc.weight, maps).relu() / maps[:, 0].numel()  # type: ignore[union-attr]
    label = int(wanted.flatten(1).amax(1).argmax())  # one that is seen somewhere
    found = class_activation(network, clip, label)
    assert found.shape == wanted.shape[1:]
    assert torch.allclose(found, wanted[label], atol=float(wanted.max()) * 1e-4)
    assert wanted.max() > 0


@pytest.mark.parametrize("name", sorted(set(ARCHITECTURES) - set(PLAIN)))
def test_every_other_architecture_has_maps_over_time(name: str) -> None:
    side, channels = SIDES.get(name, 32), CHANNELS.get(name, 3)
    network = tiny(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    maps = class_activation(network, torch.randn(1, FRAMES.get(name, 4), channels, side, side), 1)
    assert maps.ndim == 3
    assert maps.isfinite().all()
    assert (maps >= 0).all()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())


def moving_square(path: Path, corner: tuple[int, int], step: int) -> Path:
    """A textured square that moves sideways from `corner` (x, y) before a still, textured background."""
    generator = np.random.default_rng(4)
    back = generator.integers(90, 120, (32, 40, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    square = generator.integers(0, 256, (8, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with VideoWriter(path, 320, 256, fps=Fraction(24), crf=12) as writer:
        for number in range(36):
            picture = back.copy()
            x = corner[0] + step * number
            picture[corner[1] : corner[1] + 64, x : x + 64] = square
            writer.write(picture)
    return path


@pytest.mark.parametrize("corner", [(10, 20), (170, 20), (10, 170), (170, 170)])
def test_it_points_at_the_subject_that_moves(tmp_path: Path, corner: tuple[int, int]) -> None:
    recognizer = Recognizer(load_model("motion-rgb"))
    explanation = Explanation()
    path = moving_square(tmp_path / "a.mp4", corner, 2)
    found = classify(path, recognizer, clips=1, explanation=explanation)
    label = found.labels.index(found.top(1)[0][0])
    seen = explanation.streams[0]
    warmth = activation(seen.ready, seen.clips[0], label).mean(0)
    middle_y, middle_x = (side // 2 for side in warmth.shape)
    quarters = {
        (x, y): warmth[part_y, part_x].sum()
        for x, part_x in ((10, slice(middle_x)), (170, slice(middle_x, None)))
        for y, part_y in ((20, slice(middle_y)), (170, slice(middle_y, None)))
    }
    there = quarters.pop(corner)
    assert all(there > 2 * elsewhere for elsewhere in quarters.values()), (corner, there, quarters)
