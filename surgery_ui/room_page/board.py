"""The board: plans of few layers within a bound; their figures are computed and proved here before they count."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.errors import SurgeryError
from surgery_core.plans.plan import LayerPlan
from surgery_core.workshops.goals import Run, missing, runs
from surgery_core.workshops.workshop import Challenge
from surgery_ui.parts import room_tasks
from surgery_ui.parts.sections import emphasis
from surgery_ui.parts.tables import data_table
from surgery_ui.rooms.records import Standing
from surgery_ui.session import room, session
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane


def board(challenge: Challenge, me: str | None) -> None:
    """Show the board, which is at most a second old, and for a person the button that enters their plan."""
    st.subheader(present.plain(challenge.title), anchor=False)
    st.markdown(f"{challenge.text} {_bound(challenge)}".strip())
    now = session.experiment()
    if me is not None and now is not None:
        with st.container(horizontal=True, gap="medium", vertical_alignment="center"):
            st.button(
                "Enter the plan in the strip", key="room-enter", type=emphasis(), icon=":material/emoji_events:",
                disabled=now.plan.is_identity, on_click=_enter, args=(str(now.plan),),
            )  # fmt: skip
            st.caption(present.plain(f"{runs(now.plan)} layers: {now.plan or 'none'}"))
    st.fragment(_live, run_every=room_tasks.TICK)(challenge, me)


def _bound(challenge: Challenge) -> str:
    goal, said = challenge.goal, []
    if goal.ratio_at_most is not None:
        said.append(f"perplexity at most ×{goal.ratio_at_most:g}")
    if goal.kept_at_least is not None:
        said.append(f"at least {goal.kept_at_least:.0%} of the likeliest tokens kept")
    return f"Bound: {' and '.join(said)}, over the short texts."


def _enter(plan: str) -> None:
    session.touch()
    state.room_entered, state.room_said = plan, ""


def _live(challenge: Challenge, me: str | None) -> None:
    if me is not None and state.room_entered:
        _judge(challenge, me)
    if state.room_said:
        st.info(present.plain(state.room_said))
    found = room.read(lambda rooms: rooms.board(state.room))
    if not found:
        st.caption("Nobody is on the board yet.")
        return
    data_table(table(found, me), height="content", alt="The board, the best plan first")


def table(found: list[Standing], me: str | None) -> pd.DataFrame:
    """Return the board as lines: place, name, layers, ratio, what is kept, plan."""
    return pd.DataFrame(
        {
            "Place": at + 1, "Name": one.name + (" (you)" if one.person == me else ""), "Layers": one.layers,
            "Perplexity": present.times(one.ratio), "Top-1 kept": f"{one.kept:.1%}", "Plan": one.plan,
        }
        for at, one in enumerate(found)
    )  # fmt: skip


def _judge(challenge: Challenge, me: str) -> None:
    """Have the figures of the plan that was entered computed and proved, and put it on the board where it holds."""
    now = session.experiment()
    if now is None:
        return None
    plan = LayerPlan.parse(state.room_entered, now.plan.n_layers)
    if not room_tasks.can_enter(plan):
        return _say("A plan for the board has layers of this model alone: no means, no other models.")
    texts = room_tasks.short_texts()
    jobs: list[Job[Any]] = [
        cached.comparison_job(now.owner, Lane.ROOM_SCORES, now.loaded, plan, texts),
        cached.proof_job(now.owner, Lane.ROOM_PROOF, now.loaded, plan),
    ]
    for job in jobs:
        job.look()
    if not all(job.done for job in jobs):
        st.caption(present.plain(f"Measuring and proving {plan} …"))
        return None
    if problem := next((job.error for job in jobs if job.error is not None), None):
        return _say(f"Not on the board: {problem}")
    result = jobs[0].result
    if lacking := missing(challenge.goal, Run(plan, result.ratio, result.top1)):
        return _say(f"Not on the board: {' '.join(lacking)}")
    try:
        new = room.store().score(state.room, me, str(plan), runs(plan), result.ratio, result.top1)
    except SurgeryError as error:
        return _say(str(error))
    return _say(
        f"On the board: {runs(plan)} layers, {present.times(result.ratio)}."
        if new
        else "This plan of yours is there already."
    )


def _say(sentence: str) -> None:
    state.room_entered, state.room_said = "", sentence
