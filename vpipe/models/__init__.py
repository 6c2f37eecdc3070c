"""Networks, their weight files, and the packaged models."""

from vpipe.models import networks as networks  # registers every architecture
from vpipe.models.packaged_models import DEFAULT_MODEL, load_model, packaged_models
from vpipe.models.weights import Model, Stream

__all__ = ["DEFAULT_MODEL", "Model", "Stream", "load_model", "packaged_models"]
