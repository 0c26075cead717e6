"""Skill by layer: which skill goes with which layer, as a map that fills while the sweep runs."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from surgery_core.charts import layers as layer_charts
from surgery_core.measure.skills import load_skills
from surgery_core.sweeps.file import model_name
from surgery_core.sweeps.frames import skill_map_frame, sweep_frame
from surgery_core.sweeps.kinds import sweep_kind
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.setup import SweepMeasures
from surgery_ui.parts import adoption, chart_specs, doubts, sweep_chart, sweep_shelf
from surgery_ui.parts.choices import segments
from surgery_ui.parts.estimate import Estimate, estimate_of
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import emphasis
from surgery_ui.session import session
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words

KINDS = {"delete": "Whole layer", "delete-attention": "Attention", "delete-mlp": "MLP", "adapter-off": "Adapter"}
"""Sweeps that ask the skills, by what they take out of a layer."""


def skill_by_layer(now: session.Experiment) -> Estimate:
    """Show the map, or the button that starts the sweep behind it; return the estimate of its time, to be drawn."""
    st.subheader("Skill by layer", anchor=False)
    st.caption(
        "Accuracy on each skill when one more layer, or a part of it, is taken out of the plan in the strip. Click a cell "
        "to take its plan over."
    )
    with st.container(horizontal=True, gap="medium", vertical_alignment="bottom"):
        adapter = now.loaded.info.adapter is not None
        offered = [key for key in KINDS if adapter or not sweep_kind(key).adapter]
        kind = segments("Taken out", offered, "skills-kind", format_func=KINDS.__getitem__)
    request = SweepRequest(
        str(kind), SweepOptions(), now.plan, session.scored_texts(), SweepMeasures(skills=load_skills())
    )
    running = sweep_shelf.sync() is not None
    place = st.empty()
    missing = _entry(now, request) is None
    st.fragment(_map, run_every=sweep_chart.TICK if running else None)(now, request, running, missing)
    return estimate_of(now, request if missing and len(request.start) else None, place)


def _map(now: session.Experiment, request: SweepRequest, was: bool, missing: bool) -> None:
    adoption.follow()
    running, entry = sweep_shelf.sync() is not None, _entry(now, request)
    if (running, entry is None) != (was, missing):
        # Only a whole run redraws what stands outside: a sweep that somebody else ran is there at once.
        st.rerun()
    show_problem("skills-sweep")
    if not len(request.start):
        st.info("No layer runs under this plan, so there is none to delete.")
        return
    if entry is None:
        st.button(
            "Ask without each layer", key="skills-start", type=emphasis(), icon=":material/play_arrow:", disabled=was,
            on_click=_begin, args=(now, request), help="Another sweep is running." if was else None,
        )  # fmt: skip
        return
    if entry.state != "finished":
        sweep_chart.progress(entry, now)
    dark = chart_specs.dark()
    key = f"skill-map-{entry.number}-{adoption.clicks()}"
    chart_specs.draw(
        entry.specs, "skills", (len(entry.rows), dark),
        lambda: layer_charts.skill_map(_skill_map(entry), entry.kind.x_title, dark=dark),
        key=key, on_select=adoption.on_click("sweep", sweep_chart.plans_of(entry), key), alt="Accuracy on each skill without each layer",
    )  # fmt: skip
    if entry.done and entry.state != "running":
        _adopt_field(entry)
    doubts.show(entry.rows)
    if entry.first is not None:
        kept = ", ".join(f"{name} {value:.0%}" for name, value in entry.first.skills.items())
        st.caption(present.plain(f"With nothing more taken out: {kept}."))
    show_problem("sweep")


def _adopt_field(entry: Entry) -> None:
    places = sweep_frame(entry.kind, entry.labels, entry.planned, entry.rows, "skill_accuracy")
    known = places[places["state"] == "done"]
    said = {
        int(number): f"{x}: {value:.0%} of all skills"
        for number, x, value in zip(known["number"], known["x"], known["value"], strict=True)
    }
    adoption.field("sweep", sweep_chart.plans_of(entry), said, "cell")


def _skill_map(entry: Entry) -> pd.DataFrame:
    titles = [skill.title for skill in entry.request.measures.skills] if isinstance(entry.request, SweepRequest) else []
    return skill_map_frame(entry.kind, entry.labels, entry.planned, entry.rows, titles)


def _begin(now: session.Experiment, request: SweepRequest) -> None:
    session.touch()

    def start() -> None:
        entry = sweep_shelf.start(now, request)
        entry.name = f"Skills: {sweep_words.lower(request.family.title)}"

    sweep_shelf.guarded("skills-sweep", start)


def _entry(now: session.Experiment, request: SweepRequest) -> Entry | None:
    """Return this session's newest sweep of the same kind, plan and model that asked the skills."""
    mine = model_name(now.loaded.info)
    found = [
        entry for entry in sweep_shelf.entries()
        if entry.model == mine and isinstance(entry.request, SweepRequest) and entry.request.measures.skills
        and (entry.request.kind, entry.request.start) == (request.kind, request.start)
    ]  # fmt: skip
    return max(found, key=lambda entry: (entry.state in ("finished", "running"), entry.number), default=None)
