"""What a browser's tab had before it was loaded anew comes back into its new session."""

from __future__ import annotations

from surgery_ui.session import plans, session
from surgery_ui.session.memory import TABS, is_token
from surgery_ui.session.state import State, bring_back, state
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.work import plan_jobs as cached


def recall(token: object) -> None:
    """Take over what the browser's tab had before it was loaded anew, by the token that it shows."""
    if not is_token(token) or state.tab_token == token:
        return
    session.touch()
    state.tab_token = str(token)
    kept = TABS.take(state.tab_token, state.session)
    if not kept:
        return
    # Work that was asked for in the moment before goes on under the owner that the tab had.
    cached.WORK.leave(state.owner)
    plans.recall(kept.pop(State.histories.key))
    _recall_sweeps(kept.pop(State.sweeps.key, []), kept.pop(State.sweep_count.key, 0))
    # plans that a link has put side by side are newer than the tab's of the same model
    kept[State.trays.key] = kept.get(State.trays.key, {}) | {key: some for key, some in state.trays.items() if some}
    bring_back(kept)


def _recall_sweeps(kept: list[Entry], count: int) -> None:
    """Put the sweeps that a tab had before those of this session; numbers stay unique."""
    for number, entry in enumerate(state.sweeps, count + 1):
        entry.number = number
    state.sweeps, state.sweep_count = [*kept, *state.sweeps], count + len(state.sweeps)
