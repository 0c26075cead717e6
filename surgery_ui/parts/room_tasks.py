"""The tasks of a room: which one is shown, whether the person's own run is what it asks for, hints, answers."""

from __future__ import annotations

import time

import streamlit as st

from surgery_core.plans.plan import LayerPlan
from surgery_core.text import FIRST_SET, Text, text_sets
from surgery_core.workshops.goals import Run, missing
from surgery_core.workshops.workshop import Step, Workshop
from surgery_ui.parts import adoption, sweep_shelf
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import emphasis
from surgery_ui.rooms.records import Progress
from surgery_ui.rooms.store import MAX_ANSWER
from surgery_ui.session import room, session
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.kinds import Lane
from surgery_ui.work.sweep_jobs import known_skills

TICK = 1.0
"""Seconds between two looks at whether a goal is reached, and at what the organiser shows."""
SEEN = 10.0
"""Seconds between two notes of where somebody is."""


def short_texts() -> tuple[Text, ...]:
    """Return the texts over which goals and boards are measured, whatever a person scores."""
    return text_sets()[FIRST_SET].scored()


def run_of(now: session.Experiment, page: str) -> Run:
    """Return what a person has before them, as far as it is known; nothing is computed."""
    ratio = kept = None
    if now.plan.is_identity:
        ratio = kept = 1.0
    else:
        job = cached.WORK.outcome(("comparison", now.loaded.info.key, cached.plan_key(now.plan), short_texts()))
        if job is not None and job.error is None and cached.refusal(now.loaded, now.plan) is None:
            ratio, kept = job.result.ratio, job.result.top1
    answers = known_skills(now.loaded, now.plan) or ()
    done = {entry.kind.key for entry in sweep_shelf.entries() if entry.state == "finished"}
    return Run(now.plan, ratio, kept, {one.skill.name: one.accuracy for one in answers}, page, frozenset(done))


def shown_step(workshop: Workshop, progress: dict[int, Progress]) -> int:
    """Return the number of the task that is shown: the chosen one, or the first that is not done."""
    chosen = state.room_step
    if chosen is not None and 0 <= chosen < len(workshop.steps):
        return chosen
    open_ones = [at for at in range(len(workshop.steps)) if progress.get(at, Progress()).done is None]
    return open_ones[0] if open_ones else len(workshop.steps) - 1


def card(workshop: Workshop, me: str, page: str) -> None:
    """Show the task at hand above a page, and look again and again whether its goal is reached."""
    st.fragment(_card, run_every=TICK)(workshop, me, page)


def _card(workshop: Workshop, me: str, page: str) -> None:
    rooms, code = room.store(), state.room
    progress = room.read(lambda rooms: rooms.progress(code, me)) or {}
    at = shown_step(workshop, progress)
    step, mine = workshop.steps[at], progress.get(at, Progress())
    now = session.experiment()
    lacking = [] if step.goal is None or now is None else missing(step.goal, run_of(now, page))
    reached = step.goal is not None and now is not None and not lacking and mine.done is None
    if reached and room.guarded("room-task", lambda: rooms.finish(code, me, at)):
        state.room_step = at  # the next one comes when the person wants it
        mine = Progress(mine.hints, mine.answer, time.time())
    done = mine.done is not None
    with st.container(border=True, gap="small", key="room-card"):
        badge = " :green-badge[:material/check: done]" if done else ""
        st.markdown(f":gray[Task {at + 1} of {len(workshop.steps)}] **{present.plain(step.title)}**{badge}")
        st.markdown(step.text)
        if not done:
            _check(now, step, lacking)
        for hint in step.hints[: mine.hints]:
            st.markdown(f":material/lightbulb: {hint}")
        with st.container(horizontal=True, gap="xsmall", vertical_alignment="center"):
            _ways(workshop, at, done=done)
            _hints(me, at, step, mine)
            _question(me, at, step, mine)
        show_problem("room-task")


def _check(now: session.Experiment | None, step: Step, lacking: list[str]) -> None:
    """Say what is missing; where figures of the plan are, have them measured."""
    if now is None or step.goal is None:
        return
    if step.goal.needs_comparison and not now.plan.is_identity and any("not known yet" in one for one in lacking):
        job = cached.comparison_job(
            now.owner, Lane.ROOM_SCORES, now.loaded, now.plan, short_texts()
        )  # fmt: skip
        job.look()
        lacking = [one if "not known yet" not in one else "Measuring …" for one in lacking]
    for sentence in lacking:
        st.caption(present.plain(sentence))


def _question(me: str, at: int, step: Step, mine: Progress) -> None:
    if not step.question:
        return
    key = f"room-answer-{state.room}-{at}"
    with st.popover("Your answer" if mine.answer else "Answer the question", icon=":material/edit_note:"):
        st.session_state.setdefault(key, mine.answer)
        st.text_area(
            present.plain(step.question), key=key, height=120, max_chars=MAX_ANSWER, on_change=_answer, args=(me, at, key),
            placeholder="A sentence or two, for the organiser to read",
        )  # fmt: skip


def _answer(me: str, at: int, key: str) -> None:
    text = str(st.session_state[key])

    def keep() -> None:
        room.store().answer(state.room, me, at, text)
        workshop = (found := room.current()) and found.workshop
        if workshop and workshop.steps[at].goal is None and text.strip():
            room.store().finish(state.room, me, at)

    room.asked("room-task", keep)


def _hints(me: str, at: int, step: Step, mine: Progress) -> None:
    if mine.hints < len(step.hints):
        label = ("A nudge", "A suggestion", "Show me")[min(mine.hints, 2)]
        st.button(
            label, key=f"room-hint-{at}-{mine.hints}", icon=":material/lightbulb:", on_click=_open_hint,
            args=(me, at, mine.hints + 1),
        )  # fmt: skip
    elif step.show is not None and mine.hints:
        st.button(
            f"Put {step.show} into the strip", key=f"room-show-{at}", on_click=adoption.take, args=("room-task", step.show)
        )  # fmt: skip


def _open_hint(me: str, at: int, number: int) -> None:
    room.asked("room-task", lambda: room.store().open_hint(state.room, me, at, number))


def _ways(workshop: Workshop, at: int, *, done: bool) -> None:
    """Show the ways to the tasks before and behind."""
    last = at == len(workshop.steps) - 1
    st.button("Back", key="room-back", disabled=at == 0, on_click=_go, args=(at - 1,))
    st.button(
        "Next", key="room-next", disabled=last, on_click=_go, args=(at + 1,),
        type=emphasis() if done and not last else "secondary",
    )  # fmt: skip


def _go(at: int) -> None:
    state.edited = True
    state.room_step = at


def pushed(now: session.Experiment | None) -> None:
    """Show the plan that the organiser has pushed, to be taken over with a click, or take it over by itself."""
    st.fragment(_pushed, run_every=TICK)(now is not None)


def _pushed(usable: bool) -> None:
    adoption.follow()
    found = room.current()
    if found is None or not usable or found.plan is None or found.pushed <= state.room_pushed:
        return show_problem("room-push")
    if state.room_follows:
        take_pushed(found.pushed, found.plan)
        adoption.follow()
        return show_problem("room-push")
    with st.container(border=True, gap="small", key="room-pushed"):
        st.caption("The organiser shows a plan.")
        st.code(found.plan or "(no layers)", language=None, wrap_lines=True)
        with st.container(horizontal=True, gap="xsmall"):
            st.button(
                "Take it over", key="room-take", type=emphasis(), on_click=take_pushed, args=(found.pushed, found.plan)
            )  # fmt: skip
            st.button("Not now", key="room-not-now", on_click=_seen, args=(found.pushed,))


def take_pushed(number: int, plan: str) -> None:
    """Take over a plan that was pushed; it can be undone."""
    state.room_pushed = number
    adoption.take("room-push", plan)


def _seen(number: int) -> None:
    state.edited = True
    state.room_pushed = number


def note(me: str, page: str) -> None:
    """Note where a person is, now and then."""
    before, then = state.room_noted
    if before != page or time.monotonic() - then > SEEN:
        state.room_noted = (page, time.monotonic())
        room.guarded("room", lambda: room.store().see(state.room, me, page))


def can_enter(plan: LayerPlan) -> bool:
    """Return whether a plan may stand on a board: of layers of this model alone."""
    return not plan.donors and not any(layer.mean for slot in plan for layer in slot.layers)
