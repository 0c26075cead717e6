"""The text before and after, side by side, with its prompt and settings."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.errors import SettingsError, Stopped
from surgery_core.generate import Generation, GenerationSettings
from surgery_core.text import bundled_prompts
from surgery_ui import cached, present, session
from surgery_ui.address import SETTINGS
from surgery_ui.controls import show_problem
from surgery_ui.jobs import Job


class Writing:
    """The section with the text: its controls at once, its text while it is written."""

    def __init__(self, now: session.Experiment) -> None:
        prompt, settings = _controls()
        self._prompt = prompt
        sides = {"before": now.identity, "after": now.plan}
        wanted = reversed(sides) if not now.plan.is_identity else ("before",)
        self._jobs = {
            side: cached.text_job(now.owner, side, now.loaded, sides[side], prompt, settings) for side in wanted
        }
        self._trouble = st.container()
        self._places = _columns(bool(now.plan.is_identity))
        self._elements: dict[str, DeltaGenerator] = {}
        self._shown: dict[str, tuple[str, bool]] = {}

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return list(self._jobs.values())

    def show(self) -> None:
        """Draw what is new."""
        texts = {side: _text(job) for side, job in self._jobs.items()}
        for side, job in self._jobs.items():
            other = texts.get("before" if side == "after" else "after", "")
            state = (texts[side] + "\0" + other, job.done)
            if self._shown.get(side) == state:
                continue
            self._shown[side] = state
            if job.done and job.error is not None:
                self._fail(side, job)
            else:
                self._draw(side, present.continuation(self._prompt, texts[side], other), job)

    def _draw(self, side: str, body: str, job: Job[Generation]) -> None:
        place = self._places[side]
        if side in self._elements:
            self._elements[side].html(body)
        else:
            self._elements[side] = place.html(body)
        if job.done and f"{side}-note" not in self._elements:
            self._elements[f"{side}-note"] = place.caption(present.written(job.result))

    def _fail(self, side: str, job: Job[Generation]) -> None:
        if not isinstance(job.error, Stopped) and "error" not in self._elements:
            self._elements["error"] = self._trouble.error(present.plain(str(job.error)))


def _text(job: Job[Generation]) -> str:
    return job.result.text if job.done and job.error is None else job.text


def _columns(identity: bool) -> dict[str, DeltaGenerator]:
    left, right = st.columns(2, gap="small")
    places = {
        "before": left.container(border=True, height="stretch"),
        "after": right.container(border=True, height="stretch"),
    }
    places["before"].markdown("**Before**")
    places["after"].markdown("**After**")
    if identity:
        places["after"].caption(
            "Nothing is changed yet. Drag a layer in the sidebar, click it for more, or choose a preset; "
            "what the changed model writes appears here."
        )
    return places


def _controls() -> tuple[str, GenerationSettings]:
    prompts = {prompt.title: prompt.text for prompt in bundled_prompts()}
    state = st.session_state
    state["prompt-pick"] = next((title for title, text in prompts.items() if text == state["prompt"]), None)
    with st.container(horizontal=True, vertical_alignment="bottom", horizontal_alignment="distribute"):
        st.pills("Prompt", list(prompts), key="prompt-pick", on_change=_take_prompt, args=(prompts,))
        with st.popover("Settings", icon=":material/tune:"):
            _settings()
    st.text_area(
        "Text to continue",
        key="prompt",
        height=80,
        label_visibility="collapsed",
        persist_state="session",
        on_change=session.touch,
    )
    return state["prompt"], state["settings"]


def _take_prompt(prompts: dict[str, str]) -> None:
    session.touch()
    picked = st.session_state["prompt-pick"]
    if picked is not None:
        st.session_state["prompt"] = prompts[picked]


def _settings() -> None:
    state = st.session_state
    if session.problem("settings") is None:
        for name, setting in SETTINGS.items():
            state[f"set-{name}"] = setting.kind(getattr(state["settings"], setting.attribute))
    _control(st.slider, "length", "Length in tokens", step=1)
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


def _control(widget: Callable[..., Any], name: str, label: str, **options: Any) -> None:
    setting = SETTINGS[name]
    least, most = setting.kind(setting.least), setting.kind(setting.most)
    widget(label, least, most, key=f"set-{name}", on_change=_take_settings, **options)


def _take_settings() -> None:
    state = st.session_state
    values = {setting.attribute: state[f"set-{name}"] for name, setting in SETTINGS.items()}
    try:
        state["settings"] = GenerationSettings(**values)
    except SettingsError as error:
        return session.set_problem("settings", error)
    session.set_problem("settings", None)
