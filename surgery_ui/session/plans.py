"""The plans of one session: a history for every model that it had open, of which one is current."""

from __future__ import annotations

from surgery_core.models.opening import LoadedModel, ModelInfo
from surgery_ui.session import echo
from surgery_ui.session.history import History
from surgery_ui.session.state import State, state
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.kinds import PLAN_LANES


def current() -> History:
    """Return the plans of the open model."""
    return state.history


def open_model() -> LoadedModel:
    """Return the model that is open, where there is a plan of one."""
    if state.loaded is None:
        raise LookupError("No model is open.")
    return state.loaded


def keep(new: History, key: tuple[str, ...] | None = None) -> None:
    """Make a history the current one, of the model with this key or of the open one.

    The notation field follows, and jobs of the old plan are let go.
    """
    if State.history.is_set and state.history.plan != new.plan:
        # the unchanged model's side goes on being computed: the new plan is about to need it
        cached.WORK.leave(state.owner, PLAN_LANES, needs=key is not None)
    state.history = new
    state.histories[key or open_model().info.key] = new
    echo.put(State.notation.key, str(new.plan))
    for control in [name for name in state.problems if name in ("strip", "notation") or name.startswith("tool-")]:
        del state.problems[control]


def open_for(info: ModelInfo) -> None:
    """Make the history of a model that was opened the current one; a model that is new here starts unchanged."""
    known = state.histories.get(info.key)
    keep(known or History.start(info.n_layers), info.key)


def recall(kept: dict[tuple[str, ...], History]) -> None:
    """Put the plans that a tab had before those of this session, which began with what the address said."""
    mine = state.histories
    state.histories = kept | {key: kept[key].then(new) if key in kept else new for key, new in mine.items()}
    if state.loaded is not None:
        key = state.loaded.info.key
        bare = key in kept and mine[key].is_fresh and not state.plan_said
        keep(kept[key] if bare else state.histories[key])
