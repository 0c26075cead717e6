"""Sentences about several plans at once. Nothing here imports Streamlit."""

from __future__ import annotations

from collections.abc import Mapping

from surgery_core.measure.results import Comparison
from surgery_ui.words.present import times


def side_by_side(found: Mapping[str, Comparison]) -> str:
    """Return which of some plans costs least and most, and of how many nobody can tell that they cost anything.

    Args:
        found: what each plan came to, by its name; those without figures are passed over.
    """
    known = {name: one for name, one in found.items() if not one.not_finite and one.ratio == one.ratio}
    if not known:
        return ""
    ordered = sorted(known, key=lambda name: known[name].ratio)
    if len(ordered) == 1:
        return f"“{ordered[0]}” makes perplexity {times(known[ordered[0]].ratio)} what it was."
    least, most = ordered[0], ordered[-1]
    said = (
        f"Of {len(ordered)} plans “{least}” costs least (perplexity {times(known[least].ratio)}) and “{most}” most "
        f"({times(known[most].ratio)})."
    )
    alike = sum(one.verdict().word not in ("worse", "better") for one in known.values())
    if alike:
        said += f" {_alike(alike, len(ordered))} cannot be told from the unchanged model on these texts."
    return said


def _alike(number: int, of: int) -> str:
    return "All of them" if number == of else "One of them" if number == 1 else f"{number} of them"
