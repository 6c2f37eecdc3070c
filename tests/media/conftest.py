"""Numbered videos, written once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.media.numbered import RECIPES, write


@pytest.fixture(scope="session")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Recipe name -> video file. Read-only."""
    folder = tmp_path_factory.mktemp("numbered")
    return {name: write(folder / f"{name}{recipe.suffix}", recipe) for name, recipe in RECIPES.items()}
