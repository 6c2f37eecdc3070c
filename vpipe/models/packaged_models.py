"""The models that come with the package, and loading any model by name or path."""

from __future__ import annotations

import difflib
from pathlib import Path

from vpipe.errors import UsageError
from vpipe.models.weights import Model, read_weights

DEFAULT_MODEL = "motion-rgb"
FOLDER = Path(__file__).parent / "packaged"


def packaged_models() -> list[str]:
    """Names of the weight files in the package."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def load_model(name_or_path: str | Path, device: str = "cpu") -> Model:
    """A packaged model by its name, or a weight file by its path.

    Raises UsageError: `unknown_model` for a name that is neither, `model_not_found`, `bad_weights`.
    """
    text = str(name_or_path)
    if text in packaged_models():
        return read_weights(FOLDER / f"{text}.safetensors", device)
    path = Path(text)
    if path.suffix == ".safetensors" or path.exists():
        return read_weights(path, device)
    close = difflib.get_close_matches(text, packaged_models(), 1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        "unknown_model",
        f"unknown model '{text}'{hint}: give a packaged one ({', '.join(packaged_models())}) "
        "or the path of a weight file",
    )
