"""How much long work a person has going: sweeps, removals, importance, runs of the gallery, trainings."""

from __future__ import annotations

from surgery_ui.work.lens_jobs import TRAINING
from surgery_ui.work.sweep_jobs import SWEEPS


def running(owner: str) -> int:
    """Return how many pieces of long work an owner has that run or wait."""
    return SWEEPS.wanted_by(owner) + TRAINING.wanted_by(owner)
