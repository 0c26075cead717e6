"""What a sweep can answer, as questions: a click asks one of the unchanged model, and shows what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import streamlit as st

from surgery_core.charts.plan_strip import plan_strip
from surgery_core.plans.plan import LayerPlan
from surgery_core.sweeps.estimate import Costs
from surgery_core.sweeps.middle import VARIANTS
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.request import ImportanceRequest, Request, SweepRequest
from surgery_ui.components.pictured import Choice, pictured_buttons
from surgery_ui.parts import asked_sweep, sweep_shelf
from surgery_ui.parts.asked_sweep import BASE, IMPORTANCE, SWEEP, TAB, from_key, texts_key
from surgery_ui.parts.chart_specs import dark
from surgery_ui.parts.problems import show_problem
from surgery_ui.session import session
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work.timing import costs_job

LEAST = 4
"""Layers from which on the examples look like what they stand for."""


@dataclass(frozen=True)
class Question:
    """One card.

    Attributes:
        title: the question.
        kind: the sweep that answers it.
        help: what is done, and what papers saw.
        example: one of its plans, for the picture.
        tab: where the answer stands.
    """

    title: str
    kind: str
    help: str
    example: Callable[[LayerPlan], LayerPlan]
    tab: str = SWEEP


def _centre(plan: LayerPlan) -> int:
    return len(plan) // 2


QUESTIONS = {
    question.title: question
    for question in (
        Question("Which layers matter?", "delete", "Leaves out each layer once.", lambda plan: plan.delete(_centre(plan))),
        Question(
            "Which block can go?", "skip-block", "Leaves out every run of layers once.",
            lambda plan: plan.delete(range(_centre(plan) - 1, _centre(plan) + 2)),
        ),
        Question(
            "Does their order matter?", "swap-neighbours", "Lets two neighbours change places, everywhere once.",
            lambda plan: plan.swap(_centre(plan) - 1, _centre(plan)),
        ),
        Question(
            "Do extra runs help?", "repeat", "Runs each layer twice, once each.",
            lambda plan: plan.repeat(_centre(plan), _centre(plan) + 1, 2),
        ),
        Question(
            "What can the middle bear?", "painters", "Six things are done to a middle that grows.",
            lambda plan: VARIANTS["parallel"](plan, _centre(plan) - 2, _centre(plan) + 2, 0),
        ),
        Question(
            "Is damage foreseen?", "delete", "Ranks layers from one run, and holds that against leaving out each.",
            lambda plan: plan.delete(len(plan) - 2), IMPORTANCE,
        ),
    )
}  # fmt: skip


def questions(now: session.Experiment) -> None:
    """Show the questions as cards; nothing for a model that is too shallow for most."""
    if now.plan.n_layers < LEAST:
        return
    choices = [
        Choice(title, title, _help(one), plan_strip(one.example(now.identity), dark=dark(), width=140))
        for title, one in QUESTIONS.items()
    ]
    pictured_buttons(choices, "sweep-questions", lambda title: ask(now, QUESTIONS[title]))
    show_problem("finding")


def ask(now: session.Experiment, question: Question) -> None:
    """Start a question's sweep on the unchanged model over all texts, and show the tab with the answer."""
    texts = session.scored_texts()
    sweep = SweepRequest(question.kind, SweepOptions(), now.identity, texts)
    asked: list[Request] = [sweep]
    if question.tab == IMPORTANCE:
        st.session_state[texts_key("importance")] = session.text_set().title
        st.session_state[from_key("importance")] = BASE
        asked.insert(0, ImportanceRequest(now.identity, texts))
    asked_sweep.ask(question.kind)
    st.session_state[TAB] = question.tab
    sweep_shelf.begin("finding", now, *asked, costs=_costs(now, sweep))


def _costs(now: session.Experiment, request: SweepRequest) -> Costs | None:
    """Return the timing for a request where it is known already."""
    job = costs_job(now.owner, now.loaded, request.texts)
    return job.result if job.done and job.error is None else None


def _help(question: Question) -> str:
    paper = sweep_words.PAPERS.get(question.kind if question.tab == SWEEP else "", "")
    return f"{question.help} {paper}".strip()
