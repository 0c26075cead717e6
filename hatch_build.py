"""The wheel's dependencies are those of `requirements.txt`, pinned as there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class RequirementsHook(MetadataHookInterface):
    """Reads them when the metadata is made."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the dependencies."""
        lines = (Path(self.root) / "requirements.txt").read_text(encoding="utf-8").splitlines()
        metadata["dependencies"] = [line for line in lines if line and not line.startswith("#")]
