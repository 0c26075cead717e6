"""A report of what a page shows, in the popover "Keep": chosen, measured in the background, then handed out as a page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.keeping.report.asked import PARTS, USUAL, Asked, AskedSweep, Swept
from surgery_core.recipes.parts import MOST_PLANS, NamedPlan
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.scored import titles_of
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.chart_specs import altair_lock
from surgery_ui.parts.files import MIMES, stem
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.work import keep_jobs

if TYPE_CHECKING:
    from surgery_core.keeping.report.findings import Findings
    from surgery_core.recipes.results import StudyResult
    from surgery_core.sweeps.request import SweepRequest
    from surgery_core.sweeps.rows import SweepRow

TITLE, CHOSEN, MAKE = "keep-report-title", "keep-report-parts", "keep-report"
"""Keys of the fields and of the button."""
MOST_TITLE = 120
_OF_PAGES = {"lens": "lens", "skills": "skills", "sweep": "sweep", "compare": "plans", "gallery": "study"}
"""Parts that a page adds to the usual ones."""


def offer_report(
    now: session.Experiment, place: DeltaGenerator, page: str, recipe: Recipe, lens: str, sweep: SweepRequest | None,
    *, rows: Sequence[SweepRow] = (), study: StudyResult | None = None, unproved: bool,
    swap_lens: str | None = None,
) -> list[Awaited]:  # fmt: skip
    """Offer a report, and return what waits for it once it is asked for.

    Args:
        now: what the session works on.
        place: where in the popover it stands.
        page: which page; it has a say in what is chosen at first.
        recipe: the experiment.
        lens: what reads layers.
        sweep: the sweep that the page shows.
        rows: all of its rows, once it is done.
        study: what the recipe's study found, once it is done.
        unproved: whether figures of a plan are shown that did not pass its checks.
        swap_lens: id of what the recipe's swap reads with, where the page has it.
    """
    with place.container():
        st.markdown("**A report that can be run again**")
        title = st.text_input(
            "Title of the report", key=TITLE, max_chars=MOST_TITLE, placeholder=recipe.title, on_change=session.touch,
            persist_state="session",
        )  # fmt: skip
        stitched = page == "surgery" and now.is_stitched
        recipe = _beside_the_cut(recipe, now) if stitched else recipe
        asked = _asked(page, recipe, lens, sweep, unproved, "plans" if stitched else _OF_PAGES.get(page))
        recipe = replace(recipe, title=" ".join(title.split()) or recipe.title)
        wanted = json.dumps([now.loaded.info.key, recipe.dumps(), asked.plain()])
        if state.report != wanted:
            st.button(
                "Make the report", key=f"{MAKE}-{page}", icon=":material/lab_profile:", width="stretch", on_click=_ask,
                args=(wanted,), disabled=not asked.parts,
                help="One page that opens without a network, with live charts. `model-surgery verify` runs its figures again.",
            )  # fmt: skip
            return []
        swept = Swept(sweep, tuple(sorted(rows, key=lambda row: row.number))) if sweep is not None and rows else None
        plan = recipe.plan_of(now.loaded.info.n_layers)
        job = keep_jobs.report_job(now.owner, now.loaded, plan, recipe, asked, swept, study, swap_lens)

        def draw() -> None:
            st.download_button(
                "Report", partial(_written, job.result), f"{stem(recipe.title)}.html", MIMES["html"],
                key="keep-report-html", on_click="ignore", width="stretch", icon=":material/lab_profile:",
            )  # fmt: skip

        return [Awaited(now.owner, [job], "report", draw, text="Measuring the report")]


def _beside_the_cut(recipe: Recipe, now: session.Experiment) -> Recipe:
    """Return the recipe with the plain cut and the stitched plan before the plans that stand side by side, as the page has them."""
    both = (NamedPlan("Cut", str(now.plan.unstitched)), NamedPlan("Stitched", str(now.plan)))
    others = [one for one in recipe.plans if one.plan not in (both[0].plan, both[1].plan)]
    return replace(recipe, plans=(*both, *others)[:MOST_PLANS])


def _asked(
    page: str, recipe: Recipe, lens: str, sweep: SweepRequest | None, unproved: bool, own: str | None
) -> Asked:  # fmt: skip
    """Show which parts there are, and return what is chosen; `own` is the part that a page adds to the usual ones."""
    has = {"sweep": sweep is not None, "plans": bool(recipe.plans), "study": recipe.study is not None}
    has |= {"swap": recipe.swap is not None}
    # of a recipe about the unchanged model nothing stands there before and after
    has |= dict.fromkeys(("plan", "writing", "scores"), recipe.plan is not None)
    has |= {"lens": bool(recipe.lens or recipe.prompts)}
    there = [part for part in PARTS if has.get(part, True)]
    usual = [part for part in there if part in (*USUAL, "plans" if page == "gallery" else own, own, "swap")]
    # a word that is swapped later is shown too: what was chosen before knew nothing of it
    key = f"{CHOSEN}-{page}{'-swap' if recipe.swap is not None else ''}"
    chosen = st.pills(
        "What it shows", there, key=key, default=usual, selection_mode="multi",
        format_func=PARTS.__getitem__, on_change=session.touch,
    )  # fmt: skip
    parts = tuple(part for part in there if part in chosen)
    if "sweep" in parts and sweep is not None:
        st.caption(
            "The sweep as it is shown; where it is not done, or over texts that this experiment does not have, it is run."
        )
        return Asked(parts, lens, AskedSweep.of(sweep, titles_of(recipe, sweep.texts)), unproved)
    return Asked(parts, lens, None, unproved)


def _ask(wanted: str) -> None:
    session.touch()
    state.report = wanted


def _written(found: Findings) -> bytes:
    # here and not above: it loads what only the job needs
    from surgery_core.keeping.report.page import report_page

    with altair_lock:
        return report_page(found).encode("utf-8")
