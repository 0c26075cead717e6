"""What can be kept of the sweep that is shown."""

from __future__ import annotations

from surgery_core.sweeps.rows import frame as rows_frame
from surgery_ui.parts import keeping, sweep_shelf
from surgery_ui.session import session


def offer(now: session.Experiment) -> None:
    """Offer the sweep that is shown as a script, and its rows as a table; its chart is saved beside it."""
    entry = sweep_shelf.shown()
    keeping.offer_script(now, "sweep", sweep=entry.request if entry is not None else None)
    if entry is not None and entry.rows:
        keeping.offer_results({entry.name: rows_frame(entry.rows)})
