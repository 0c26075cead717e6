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
from surgery_core.errors import AnatomyError
from surgery_core.models.offered import digest
from surgery_core.models.opening import ModelInfo
from surgery_core.surgery.anatomy import plan_of

GIT_SECONDS = 5.0
"""How long git may take to name a commit."""


def model_facts(model: nn.Module, info: ModelInfo | None) -> dict[str, str | None]:
    """Return what a record says of a model: class, name, revision, plan; None for what is not known."""
    name, revision = (info.name, info.revision) if info else _named(getattr(model, "config", None))
    return {"class": type(model).__name__, "name": name, "revision": revision, "plan": _plan(model)}


def _named(config: Any) -> tuple[str | None, str | None]:
    """Return where a model was opened from, and the commit on the hub or a digest of the folder's files."""
    name = str(getattr(config, "name_or_path", "") or "") or None
    folder = name is not None and Path(name).is_dir()
    return name, digest(Path(str(name))) if folder else getattr(config, "_commit_hash", None)


def _plan(model: nn.Module) -> str | None:
    try:
        return str(plan_of(model))
    except AnatomyError:
        return None


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
    code = getattr(inspect.unwrap(function), "__code__", None)
    file = Path(code.co_filename if code is not None else "")
    folder = file.parent if file.is_file() else Path.cwd()
    command = ["git", "-C", str(folder), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=GIT_SECONDS)
    except (OSError, subprocess.SubprocessError):
        return None
    return said.stdout.strip() or None
