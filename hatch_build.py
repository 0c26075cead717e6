"""How the wheel is built beyond what `pyproject.toml` can say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface


class RequirementsHook(MetadataHookInterface):
    """The dependencies are those of `requirements.txt`, pinned as there."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies."""
        lines = (Path(self.root) / "requirements.txt").read_text(encoding="utf-8").splitlines()
        metadata["dependencies"] = [line for line in lines if line and not line.startswith("#")]


class ShippedHook(BuildHookInterface[Any]):
    """What lies at the top of the repository is copied into a wheel; an editable install uses it where it lies."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to a wheel."""
        if version == "standard":
            build_data["force_include"].update(self.config["shipped"])
