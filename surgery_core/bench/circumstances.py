"""Under which circumstances an experiment runs: model, versions, source, commit."""

from __future__ import annotations

import hashlib
import inspect
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import nn

from surgery_core import __version__
from surgery_core.models.opening import ModelInfo
from surgery_core.surgery.anatomy import plan_of

GIT_SECONDS = 5.0
"""How long git may take to name a commit."""


def model_facts(model: nn.Module, info: ModelInfo | None) -> dict[str, str | None]:
    """Return what a record says of a model: class, name, revision, plan; None for what is not known."""
    config = getattr(model, "config", None)
    return {
        "class": type(model).__name__,
        "name": info.name if info else str(getattr(config, "name_or_path", "") or "") or None,
        "revision": info.revision if info else getattr(config, "_commit_hash", None),
        "plan": str(plan_of(model)),
    }


def versions() -> dict[str, str]:
    """Return the versions of this package, of what runs its models, and of Python."""
    return {
        "surgery_core": __version__,
        "torch": version("torch"),
        "transformers": version("transformers"),
        "python": platform.python_version(),
    }


def source_of(function: Callable[..., Any]) -> tuple[str | None, str | None]:
    """Return a function's source with its decorators, and the SHA-256 of it; None where there is no file of it."""
    try:
        source = inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        return None, None
    return source, hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()


def commit_of(function: Callable[..., Any]) -> str | None:
    """Return the git commit of the function's file, or of the working directory, with `-dirty` behind it where files
    have changed since; None where there is no repository."""
    file = Path(inspect.unwrap(function).__code__.co_filename)
    folder = file.parent if file.is_file() else Path.cwd()
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
