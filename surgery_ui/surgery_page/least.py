"""One click that removes the layer which the plan misses least: every layer is left out once, and the least harmful goes.

The sweep is one of the session, as if it had been started on the Sweep page; one that was run there is used.
"""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from surgery_core.plans.labels import slot_labels
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.estimate import Span
from surgery_core.sweeps.file import model_name
from surgery_core.sweeps.findings import least_harmful
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.request import SweepRequest
from surgery_ui.parts import sweep_chart, sweep_shelf
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import session
from surgery_ui.session.least import Least
from surgery_ui.session.state import state
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work import timing
from surgery_ui.work.kinds import Lane

LABEL = "Find the least important layer and remove it"


def least_important(now: session.Experiment) -> None:
    """Show the button, how far its sweep is, and what was removed and what that cost."""
    running = sweep_shelf.sync() is not None
    st.fragment(_live, run_every=sweep_chart.TICK if running else None)(now, running)


def settle() -> None:
    """Remove the layer that was found, before anything is drawn: fields of the sidebar show the plan."""
    now = session.experiment()
    entry = _pending(now) if now is not None else None
    if now is not None and entry is not None and entry.state == "finished":
        _remove(entry, now)


def _live(now: session.Experiment, was: bool) -> None:
    entry = _pending(now)
    if (sweep_shelf.sync() is not None) != was or (entry is not None and entry.state == "finished"):
        # a whole run begins with `settle`, and the button waits for other sweeps too
        st.rerun()
    if entry is None:
        _button(now)
    else:
        st.caption(
            f"Leaving out each of {sweep_words.counted(entry.total, 'layer')} once, to find the least important."
        )
        if entry.error:
            st.error(present.plain(entry.error))
        sweep_chart.progress(entry, now)
    show_problem("least")
    _say(now)


def _pending(now: session.Experiment) -> Entry | None:
    """Return the sweep that is waited for; one that was cancelled or removed from the list is no longer."""
    least = state.least
    if least is None or least.said or least.model != now.loaded.info.key:
        return None
    sweep_shelf.sync()
    entry = next((one for one in sweep_shelf.entries() if one.number == least.sweep), None)
    if entry is None or entry.state == "cancelled":
        state.least = None
        return None
    return entry


def _button(now: session.Experiment) -> None:
    reason = _reason(now)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            LABEL, key="least-start", icon=":material/content_cut:", disabled=bool(reason), on_click=_find, args=(now,),
            help="Leaves out each layer of the plan once, over the texts below, and deletes the one without which the loss "
            "stays lowest. Click again for the next one.",
        )  # fmt: skip
        st.caption(reason or _estimate(now))


def _reason(now: session.Experiment) -> str:
    """Return why no layer can be looked for; nothing where one can."""
    if len(now.plan) < 2:
        return "No layer is left to remove." if not len(now.plan) else "One layer is left."
    running = sweep_shelf.sync()
    mine = running is not None and running is sweep_shelf.same_sweep(now, _request(now))
    return (
        ""
        if running is None or mine
        else f"“{present.plain(running.name)}” is running; wait for it, or cancel it first."
    )


def _estimate(now: session.Experiment) -> str:
    """Return how many plans are measured and, as far as that is known without timing the model, how long it takes."""
    request, plans = _request(now), sweep_words.counted(len(now.plan), "plan")
    known = sweep_shelf.same_sweep(now, request)
    if known is not None and known.state == "finished":
        return f"{plans}, measured before."
    seconds = _seconds(now, request)
    return f"{plans}." if seconds is None else f"{plans}: {sweep_words.span(Span.about(seconds))}."


def _seconds(now: session.Experiment, request: SweepRequest) -> float | None:
    """Return about how long the sweep takes: from one like it, or where the model was timed; None where neither is known."""
    for entry in reversed(sweep_shelf.entries(Lane.SWEEP)):
        asked = entry.request
        if (
            not isinstance(asked, SweepRequest)
            or entry.state != "finished"
            or entry.model != model_name(now.loaded.info)
        ):
            continue
        if (asked.kind, asked.texts, asked.measures) == (request.kind, request.texts, request.measures):
            # each layer that is there makes one more plan, and every plan longer
            longer = (len(request.start) / len(asked.start)) ** 2
            return longer * sum(row.seconds for row in entry.rows)
    costs = timing.known_costs(now.loaded, request.texts)
    return None if costs is None else request.seconds(costs)


def _request(now: session.Experiment) -> SweepRequest:
    return SweepRequest("delete", SweepOptions(), now.plan, session.scored_texts())


def _find(now: session.Experiment) -> None:
    session.touch()
    sweep_shelf.guarded("least", lambda: _begin(now))


def _begin(now: session.Experiment) -> None:
    """Start the sweep; go on with one that was paused, or use one that ended."""
    request = _request(now)
    entry = sweep_shelf.same_sweep(now, request)
    if entry is None:
        entry = sweep_shelf.start(now, request, timing.known_costs(now.loaded, request.texts))
        entry.passing = True
    elif entry.state not in ("running", "finished"):
        sweep_shelf.resume(entry, now)
    state.least = Least(now.loaded.info.key, entry.number, str(now.plan))


def _remove(entry: Entry, now: session.Experiment) -> None:
    """Delete the layer that hurt least, where the plan is still the one that was tried."""
    least, row = state.least, least_harmful(entry.rows)
    if least is None:
        return
    if row is None:
        state.least = replace(
            least, said="Nothing was removed: without any one of its layers this plan has no figures."
        )
        return
    label = slot_labels(LayerPlan.parse(least.before, now.plan.n_layers))[row.number]
    if str(now.plan) != least.before:
        said = f"{label} hurt least, but the plan was changed meanwhile, so nothing was removed."
        state.least = replace(least, before=str(now.plan), said=said)
    elif session.change("least", lambda plan: plan.delete(row.number)):
        margin, unit = state.margin, "window" if entry.request is not None and entry.request.texts[0].window else "text"
        said = sweep_words.least_said(label, row, margin, unit)
        after = str(session.history().plan)
        state.least = replace(
            least, after=after, said=said, help=sweep_words.least_help(len(now.plan), margin)
        )  # fmt: skip
    else:
        state.least = None


def _say(now: session.Experiment) -> None:
    """Say what was removed, as long as the plan is the one that came of it."""
    least = state.least
    if least is None or not least.said or least.model != now.loaded.info.key:
        return
    if str(now.plan) == (least.before if least.after is None else least.after):
        st.markdown(present.plain(least.said), help=least.help or None)
