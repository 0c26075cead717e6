"""The text before and after, side by side, with its prompt and settings; of a stitched plan also that of the plain cut."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.errors import InputError, SettingsError, SurgeryError
from surgery_core.measure.generation import Generation
from surgery_core.plans.generation_settings import GenerationSettings
from surgery_core.plans.plan import LayerPlan
from surgery_ui.parts import chat, examples, waiting
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.text_columns import text_columns
from surgery_ui.session import session
from surgery_ui.session.address import SETTINGS
from surgery_ui.session.state import State, state
from surgery_ui.words import present, texts
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.channel import Channel
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import Lane

PICK = "prompt-pick"
LANES = {"before": Lane.TEXT_BEFORE, "cut": Lane.TEXT_CUT, "after": Lane.TEXT_AFTER}
"""The sides, in the order in which they stand."""
FIRST = 0.12
"""Seconds that an edit's first words have to themselves, before the page is drawn on the same cores."""
FRAME = 0.02
"""Seconds in which a browser shows them; it shows nothing while it takes in the page."""
SELDOM = 1.0
"""Seconds between two drawings of a text that is written, where the browser gets its words by a way of their own."""


def writing_section(now: session.Experiment) -> Writing:
    """Show the controls of the text, have both sides written, and return the section that draws them meanwhile."""
    _controls(now)
    chat.caption(now)
    jobs = _text_jobs(now)
    trouble, places = st.container(), _columns(now.plan)
    # What stood here is of a former plan or prompt: each side begins empty, with its line below.
    elements = {side: places[side].empty() for side in jobs}
    notes = {side: places[side].caption("Writing …") for side in jobs}
    section = Writing(now.owner, chat.shown(now, state.prompt), jobs, trouble, elements, notes, state.channel)
    section.show()
    return section


def begin_writing() -> None:
    """Have the text written before the page is drawn, so that the first words are there as soon as their place is."""
    now = session.experiment()
    if now is None or cached.refusal(now.loaded, now.plan) is not None:
        return
    first = next(iter(_text_jobs(now)))
    if state.channel.connected and state.channel.wait_for_words(first, FIRST):
        time.sleep(FRAME)


def _text_jobs(now: session.Experiment) -> dict[str, Job[Generation]]:
    """Have all sides written, the one after surgery first."""
    plans = {"after": now.plan, "before": now.identity} if not now.plan.is_identity else {"before": now.identity}
    if now.is_stitched:
        plans["cut"] = now.plan.unstitched
    prompt, settings = state.prompt, chat.fitting(now, state.prompt)
    jobs = {
        side: cached.text_job(now.owner, LANES[side], now.loaded, plan, prompt, settings)
        for side, plan in plans.items()
    }
    state.channel.follow(chat.shown(now, state.prompt), jobs)
    return jobs


class Writing:
    """The texts of both sides, drawn while they are written.

    Args:
        owner: who asked for them.
        prompt: what they continue.
        jobs: what writes them, by side.
        trouble: where it is said what is wrong with the prompt.
        elements, notes: where each side and the line below it stand.
        channel: by which the browser may get the words earlier.

    Attributes:
        jobs_by_side: the same jobs.
    """

    def __init__(
        self, owner: str, prompt: str, jobs: dict[str, Job[Generation]], trouble: DeltaGenerator,
        elements: dict[str, DeltaGenerator], notes: dict[str, DeltaGenerator], channel: Channel,
    ) -> None:  # fmt: skip
        self._owner, self._prompt, self.jobs_by_side = owner, prompt, jobs
        self._trouble, self._elements, self._notes = trouble, elements, notes
        self._channel, self._turn = channel, channel.turn
        self._said = False
        self._shown: dict[str, tuple[_Seen, str]] = {}
        self._next, self._said_at = 0.0, time.monotonic()

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return list(self.jobs_by_side.values())

    def show(self) -> None:
        """Draw what is new."""
        seen = {side: _look(job) for side, job in self.jobs_by_side.items()}
        self._say_how_far(seen)
        if self._can_wait(seen):
            return
        for side, now in seen.items():
            # What failed is drawn once, however far the other side writes: its button may be there only once.
            other = texts.beside(side, {name: one.text for name, one in seen.items()}) if now.error is None else ""
            if self._shown.get(side) == (now, other):
                continue
            self._shown[side] = (now, other)
            if now.error is None:
                self._draw(side, now, other)
            else:
                self._fail(side)

    def _can_wait(self, seen: dict[str, _Seen]) -> bool:
        """Whether there are only more words, which the browser has already; the page then draws them now and then."""
        known = {side: shown[0] for side, shown in self._shown.items()}
        if any(side not in known or now.ended != known[side].ended for side, now in seen.items()):
            self._next = time.monotonic() + SELDOM
            return False
        if self._channel.connected and time.monotonic() < self._next:
            return True
        self._next = time.monotonic() + SELDOM
        return False

    def _say_how_far(self, seen: dict[str, _Seen]) -> None:
        """Say below a side that takes longer than a moment how many tokens it has, and how long it goes on."""
        if time.monotonic() < self._said_at + SELDOM:
            return
        self._said_at = time.monotonic()
        for side, now in seen.items():
            if not now.ended:
                self._notes[side] = self._notes[side].caption(waiting.writing(self.jobs_by_side[side]))

    def _draw(self, side: str, now: _Seen, other: str) -> None:
        body = texts.continuation(self._prompt, now.text, other, f"{side} {self._turn}")
        self._elements[side] = self._elements[side].html(body)
        if now.generation is not None:
            self._notes[side] = self._notes[side].caption(present.written(now.generation))

    def _fail(self, side: str) -> None:
        """Say what went wrong in the side's place; what is wrong with the prompt is said once, above both."""
        said = isinstance(self.jobs_by_side[side].error, InputError)
        if said and not self._said:
            self._said = True
            self._trouble.error(present.plain(str(self.jobs_by_side[side].error)))
        waiting.failed(self._elements[side], self._owner, [self.jobs_by_side[side]], f"text-{side}", said=said)
        self._notes[side].empty()


@dataclass(frozen=True)
class _Seen:
    """A job at one moment. It may finish between two looks, so a round of drawing looks once."""

    text: str
    generation: Generation | None = None
    error: SurgeryError | None = None

    @property
    def ended(self) -> bool:
        """Whether no more words come."""
        return self.generation is not None or self.error is not None


def _look(job: Job[Generation]) -> _Seen:
    if not job.done:
        return _Seen(job.text)
    if job.error is not None:
        return _Seen(job.text, error=job.error)
    return _Seen(job.result.text, job.result)


def _columns(plan: LayerPlan) -> dict[str, DeltaGenerator]:
    stitched = plan != plan.unstitched
    titles = {"before": "Before", "after": "After"} | ({"cut": "Cut", "after": "Stitched"} if stitched else {})
    sides = [side for side in LANES if side in titles]
    places = dict(zip(sides, text_columns([titles[side] for side in sides]), strict=True))
    if stitched:
        st.caption(
            "Underlined: from where a text differs from that before, to its end; before, from where the stitched one does."
        )
    elif not plan.is_identity:
        st.caption("Underlined: from where the two texts differ, to their end.")
    else:
        places["after"].caption(
            "Nothing is changed yet. Drag a layer in the sidebar, click it for more, or choose a preset; "
            "what the changed model writes appears here."
        )
    return places


def _controls(now: session.Experiment) -> None:
    prompts = examples.follow(State.prompt.key, PICK)
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.pills(
            "Prompt",
            prompts,
            key=PICK,
            on_change=examples.take_pick,
            args=(State.prompt.key, PICK),
            wrap=True,
        )
        with st.container(horizontal=True, width="content"):
            chat.controls(now, state.prompt)
            with st.popover("Settings", icon=":material/tune:"):
                _settings(chat.longest(now, state.prompt))
    st.text_area(
        "Text to continue",
        key=State.prompt.key,
        height=68,
        label_visibility="collapsed",
        persist_state="session",
        on_change=examples.take_text,
        args=(State.prompt.key,),
    )
    examples.drawn(State.prompt.key, PICK)


def _settings(most: int) -> None:
    shown = st.session_state
    if session.problem("settings") is None:
        for name, setting in SETTINGS.items():
            shown[_key(name)] = setting.kind(getattr(state.settings, setting.attribute))
    shown[_key("length")] = min(shown[_key("length")], most)
    if most > 1:
        _control(st.slider, "length", "Length in tokens", most, step=1, help=_FITS)
    else:
        st.caption("The prompt fills what the model reads at once. Shorten it to choose a length.")
    _control(st.slider, "temperature", "Temperature", step=0.05, help="0 always takes the likeliest token.")
    st.caption("The rest matters only above temperature 0.")
    left, middle, right = st.columns(3)
    _control(left.number_input, "top_k", "Top k", step=1, help="Choose among the k likeliest tokens; 0 for all.")
    _control(
        middle.number_input, "top_p", "Top p", step=0.05,
        help="Choose among the likeliest tokens that together have this probability.",
    )  # fmt: skip
    _control(right.number_input, "seed", "Seed", step=1, help="The same seed writes the same text.")
    show_problem("settings")


_FITS = "Prompt and text together fit into what the model reads at once."


def _control(
    widget: Callable[..., Any], name: str, label: str, most: float | None = None, **options: Any
) -> None:  # fmt: skip
    setting = SETTINGS[name]
    least, most = setting.kind(setting.least), setting.kind(setting.most if most is None else most)
    widget(label, least, most, key=_key(name), on_change=_take_settings, **options)


def _key(name: str) -> str:
    """Return the key of a setting's field."""
    return f"set-{name}"


def _take_settings() -> None:
    values = {setting.attribute: st.session_state[_key(name)] for name, setting in SETTINGS.items()}
    try:
        state.settings = GenerationSettings(**values)
    except SettingsError as error:
        return session.set_problem("settings", error)
    session.set_problem("settings", None)
