"""Which model is open: opening the one that is wanted, and what becomes of the plans.

Every model keeps its own plan and undo steps. Another model starts unchanged, also where the old plan would fit it:
a layer's number means another layer there. The old plan can be taken along with one click, where it fits, and the
model that was left comes back with one click, with its plan and steps.

A link's plan is for the link's model. Where that cannot be opened, the plan is not applied to another one, but shown.
"""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from surgery_core.errors import PlanError
from surgery_core.models.opening import LoadedModel
from surgery_core.plans.plan import LayerPlan
from surgery_ui.session import plans
from surgery_ui.session.first import first_model
from surgery_ui.session.history import History
from surgery_ui.words import present
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.following import follow


@dataclass(frozen=True)
class Left:
    """The model that was open before, with the plans that it had."""

    name: str
    title: str
    history: History

    def fits(self, n_layers: int) -> bool:
        """Return whether its plan can be written down for a model of this depth."""
        try:
            LayerPlan.parse(str(self.history.plan), n_layers)
        except PlanError:
            return False
        return True


@dataclass(frozen=True)
class Refused:
    """A link's plan that was not applied, because the link's model could not be opened."""

    model: str
    plan: str


def open_model() -> None:
    """Open the wanted model; where that fails, say so and go on with the one that was open, or the default."""
    state = st.session_state
    wanted = state["model"]
    for name in dict.fromkeys((wanted, state.get("loaded_name"), first_model())):
        if name is None:
            continue
        job = cached.model_job(state["owner"], name)
        if not job.done:
            with st.spinner(f"Opening {present.plain(name)}"):
                follow([job], lambda: None)
        if job.error is None:
            if name != wanted:
                _refuse(wanted)
            return _use(name, job.result)
        state["problems"].setdefault("model", job.error)
    _refuse(wanted)
    state["loaded"] = None


def choose(name: str | None) -> None:
    """Open this model from the next run on."""
    if name and name.strip():
        st.session_state["model"] = name.strip()
        st.session_state["problems"].pop("model", None)
        st.session_state["edited"] = True


def left() -> Left | None:
    """Return the model that was open before, as long as that is worth a word."""
    found: Left | None = st.session_state.get("left")
    return found


def refused() -> Refused | None:
    """Return a link's plan that was not applied."""
    found: Refused | None = st.session_state.get("refused")
    return found


def _use(name: str, loaded: LoadedModel) -> None:
    state = st.session_state
    before, before_name = state.get("loaded"), state.get("loaded_name")
    state["model"], state["loaded"], state["loaded_name"] = name, loaded, name
    if before is not None and before.info.key == loaded.info.key:
        return
    old = state.get("history")
    plans.open_for(loaded.info)
    worth = [history for history in (old, plans.current()) if history is not None and not history.is_fresh]
    state["left"] = Left(before_name, before.info.title, old) if before is not None and old and worth else None


def _refuse(wanted: str) -> None:
    plan = st.session_state.pop("wanted_plan", None)
    if plan is not None:
        st.session_state["refused"] = Refused(wanted, plan)
