"""Which model is open: opening the one that is wanted, and what becomes of the plans.

Every model keeps its own plan and undo steps. Another model starts unchanged, also where the old plan would fit it:
a layer's number means another layer there. The old plan can be taken along with one click, where it fits, and the
model that was left comes back with one click, with its plan and steps.

A link's plan is for the link's model. Where that cannot be opened, the plan is not applied to another one, but shown.
"""

from __future__ import annotations

import streamlit as st

from surgery_core.models.opening import LoadedModel
from surgery_core.sweeps.estimate import Span
from surgery_ui.session import plans
from surgery_ui.session.first import first_model
from surgery_ui.session.history import Left, Refused
from surgery_ui.session.state import State, state
from surgery_ui.words import present
from surgery_ui.words import sweeps as words
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work import timing
from surgery_ui.work.following import follow


def open_model() -> None:
    """Open the wanted model; where that fails, say so and go on with the one that was open, or the default."""
    wanted = state.model
    for name in dict.fromkeys((wanted, state.loaded_name, first_model())):
        if name is None:
            continue
        job = cached.model_job(state.owner, name)
        if not job.done:
            with st.spinner(_opening(name), show_time=True):
                follow([job], lambda: None)
        if job.error is None:
            if name != wanted:
                _refuse(wanted)
            return _use(name, job.result)
        state.problems.setdefault("model", job.error)
    _refuse(wanted)
    state.loaded = None


def _opening(name: str) -> str:
    """Return what is said while a model is opened: how long that takes, where it is not in an instant."""
    seconds = timing.opening_seconds(name)
    takes = f", which takes {words.span(Span.about(seconds))}" if seconds is not None and seconds >= 1 else ""
    return f"Opening {present.plain(name)}{takes}"


def choose(name: str | None) -> None:
    """Open this model from the next run on."""
    if name and name.strip():
        state.model = name.strip()
        state.problems.pop("model", None)
        state.edited = True


def left() -> Left | None:
    """Return the model that was open before, as long as that is worth a word."""
    return state.left


def refused() -> Refused | None:
    """Return a link's plan that was not applied."""
    return state.refused


def _use(name: str, loaded: LoadedModel) -> None:
    before, before_name = state.loaded, state.loaded_name
    state.model, state.loaded, state.loaded_name = name, loaded, name
    if before is not None and before.info.key == loaded.info.key:
        return
    old = state.history if State.history.is_set else None
    plans.open_for(loaded.info)
    worth = [history for history in (old, plans.current()) if history is not None and not history.is_fresh]
    state.left = None
    if before is not None and before_name is not None and old is not None and worth:
        state.left = Left(before_name, before.info.title, old)


def _refuse(wanted: str) -> None:
    plan = State.wanted_plan.take()
    if plan is not None:
        state.refused = Refused(wanted, plan)
