"""Packages with entry points, laid into a folder as pip does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def declare(folder: Path, package: str, points: Mapping[str, str], source: str) -> None:
    """Lay a package of one module into a folder.

    Args:
        folder: one that will be on `sys.path`.
        package: its name, and its module's.
        points: lines of entry points by group, without `model_surgery.`.
        source: of its module.
    """
    about = folder / f"{package}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    groups = (f"[model_surgery.{group}]\n{lines}\n" for group, lines in points.items())
    (about / "entry_points.txt").write_text("\n".join(groups))
    (folder / f"{package}.py").write_text(source)
