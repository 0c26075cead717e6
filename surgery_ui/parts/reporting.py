"""A report of what a page shows, in the popover "Keep": chosen, measured in the background, then handed out as a page."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.keeping.report.asked import PARTS, USUAL, Asked, AskedSweep
from surgery_core.recipes.recipe import Recipe
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.chart_specs import altair_lock
from surgery_ui.parts.files import MIMES, stem
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.work import plan_jobs as cached

if TYPE_CHECKING:
    from surgery_core.keeping.report.findings import Findings
    from surgery_core.sweeps.request import SweepRequest

TITLE, CHOSEN, MAKE = "keep-report-title", "keep-report-parts", "keep-report"
"""Keys of the fields and of the button."""
MOST_TITLE = 120
_OF_PAGES = {"lens": "lens", "skills": "skills", "sweep": "sweep"}
"""Parts that a page adds to the usual ones."""


def offer_report(
    now: session.Experiment, place: DeltaGenerator, page: str, recipe: Recipe, lens: str, sweep: SweepRequest | None,
    *, unproved: bool,
) -> list[Awaited]:  # fmt: skip
    """Offer a report, and return what waits for it once it is asked for.

    Args:
        now: what the session works on.
        place: where in the popover it stands.
        page: which page; it has a say in what is chosen at first.
        recipe: the experiment.
        lens: what reads layers.
        sweep: the sweep that the page shows.
        unproved: whether figures of a plan are shown that did not pass its checks.
    """
    with place.container():
        st.markdown("**A report that can be run again**")
        title = st.text_input(
            "Title of the report", key=TITLE, max_chars=MOST_TITLE, placeholder=recipe.title, on_change=session.touch,
            persist_state="session",
        )  # fmt: skip
        asked = _asked(page, lens, sweep, unproved)
        recipe = replace(recipe, title=" ".join(title.split()) or recipe.title)
        wanted = json.dumps([now.loaded.info.key, recipe.dumps(), asked.plain()])
        if state.report != wanted:
            st.button(
                "Make the report", key=f"{MAKE}-{page}", icon=":material/lab_profile:", width="stretch", on_click=_ask,
                args=(wanted,), disabled=not asked.parts,
                help="One page that opens without a network, with live charts. `model-surgery verify` runs its figures again.",
            )  # fmt: skip
            return []
        job = cached.report_job(now.owner, now.loaded, now.plan, recipe, asked)

        def draw() -> None:
            st.download_button(
                "Report", partial(_written, job.result), f"{stem(recipe.title)}.html", MIMES["html"],
                key="keep-report-html", on_click="ignore", width="stretch", icon=":material/lab_profile:",
            )  # fmt: skip

        return [Awaited(now.owner, [job], "report", draw, text="Measuring the report")]


def _asked(page: str, lens: str, sweep: SweepRequest | None, unproved: bool) -> Asked:
    """Show which parts there are, and return what is chosen."""
    there = [part for part in PARTS if part != "sweep" or sweep is not None]
    own = _OF_PAGES.get(page)
    usual = [part for part in there if part in USUAL or part == own]
    chosen = st.pills(
        "What it shows", there, key=f"{CHOSEN}-{page}", default=usual, selection_mode="multi",
        format_func=PARTS.__getitem__, on_change=session.touch,
    )  # fmt: skip
    parts = tuple(part for part in there if part in chosen)
    if "sweep" in parts and sweep is not None:
        st.caption("The sweep is run once more, over the texts of this experiment.")
        start = None if sweep.start.is_identity else str(sweep.start)
        return Asked(parts, lens, AskedSweep(sweep.kind, sweep.options, start), unproved)
    return Asked(parts, lens, None, unproved)


def _ask(wanted: str) -> None:
    session.touch()
    state.report = wanted


def _written(found: Findings) -> bytes:
    # here and not above: it loads what only the job needs
    from surgery_core.keeping.report.page import report_page

    with altair_lock:
        return report_page(found).encode("utf-8")
