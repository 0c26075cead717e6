"""What the Lens page calls what it reads with."""

from __future__ import annotations

from typing import Literal

FOLLOW: dict[str, Literal["layer", "position"]] = {"Their layer": "layer", "Their position": "position"}
"""What translators and matrices follow after surgery."""
