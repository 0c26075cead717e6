"""With what figures were made."""

from __future__ import annotations

import platform

import torch
import transformers

from surgery_core import __version__
from surgery_core.models.opening import ModelInfo


def made_with(info: ModelInfo) -> dict[str, str]:
    """Return what figures depend on besides the recipe: versions, and the model's revision, number format and device."""
    versions = {
        "surgery_core": __version__, "torch": torch.__version__, "transformers": transformers.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
    facts = {
        "model": info.name, "title": info.title, "revision": info.revision, "layers": str(info.n_layers),
        "dtype": info.dtype, "device": info.device, "machine": f"{platform.system()} {platform.machine()}",
    }  # fmt: skip
    return {name: str(value) for name, value in (versions | facts).items()}
