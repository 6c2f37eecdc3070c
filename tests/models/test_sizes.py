"""Sizes of the published networks, counted and written down."""

import pytest

from vpipe.models.registry import ARCHITECTURES
from vpipe.models.sizes import SIZES, Size, count_of

PACKAGED = {"tsn", "tsm-diff", "tsn-affine"}  # whose sizes `models list` counts in their weight files


def test_every_published_architecture_has_its_size() -> None:
    assert {size.architecture for size in SIZES} == set(ARCHITECTURES) - PACKAGED
    assert all(size.source for size in SIZES)


@pytest.mark.parametrize("size", SIZES, ids=lambda size: size.architecture)
def test_sizes_are_what_is_counted(size: Size) -> None:
    parameters, gmacs = count_of(size.architecture, size.hyper, size.shape)
    assert parameters == size.parameters
    assert gmacs == pytest.approx(size.gmacs, abs=0.051)


def test_a_count_by_hand() -> None:
    """VGG-16 on one picture: 13 convolutions and three linear layers."""
    sides = (224, 224, 112, 112, 56, 56, 56, 28, 28, 28, 14, 14, 14)
    wide = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
    macs = sum(side**2 * 9 * a * b for side, a, b in zip(sides, wide[:-1], wide[1:], strict=True))
    macs += 25088 * 4096 + 4096 * 4096 + 4096 * 11
    assert count_of("vgg16", {"classes": 11}, (1, 3, 224, 224))[1] == pytest.approx(macs / 1e9)
