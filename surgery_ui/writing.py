"""The text before and after, side by side, with its prompt and settings."""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.errors import SettingsError, Stopped
from surgery_core.generate import Generation, GenerationSettings
from surgery_core.text import bundled_prompts
from surgery_ui import cached, present, session
from surgery_ui.controls import show_problem
from surgery_ui.jobs import Job

MAX_LENGTH = 512
"""Most tokens that the page writes; one person's text must not hold the server for minutes."""


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
    places = {"before": left.container(border=True), "after": right.container(border=True)}
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
        "Text to continue", key="prompt", height=80, label_visibility="collapsed", persist_state="session"
    )
    return state["prompt"], state["settings"]


def _take_prompt(prompts: dict[str, str]) -> None:
    picked = st.session_state["prompt-pick"]
    if picked is not None:
        st.session_state["prompt"] = prompts[picked]


def _settings() -> None:
    state, now = st.session_state, st.session_state["settings"]
    if session.problem("settings") is None:
        state["length"], state["temperature"] = min(now.max_new_tokens, MAX_LENGTH), float(now.temperature)
        state["top-k"], state["top-p"], state["seed"] = now.top_k, float(now.top_p), now.seed
    st.slider("Length in tokens", 1, MAX_LENGTH, key="length", on_change=_take_settings)
    st.slider(
        "Temperature", 0.0, 2.0, step=0.05, key="temperature", on_change=_take_settings,
        help="0 always takes the most probable token; the other settings then change nothing.",
    )  # fmt: skip
    left, middle, right = st.columns(3)
    left.number_input("Top k", 0, 10_000, key="top-k", on_change=_take_settings, help="0 keeps every token.")
    middle.number_input("Top p", 0.0, 1.0, step=0.05, key="top-p", on_change=_take_settings, help="1 keeps every token.")
    right.number_input("Seed", 0, 2**31 - 1, key="seed", on_change=_take_settings)
    show_problem("settings")


def _take_settings() -> None:
    state = st.session_state
    try:
        state["settings"] = GenerationSettings(
            max_new_tokens=state["length"],
            temperature=state["temperature"],
            top_k=state["top-k"],
            top_p=state["top-p"],
            seed=state["seed"],
        )
    except SettingsError as error:
        return session.set_problem("settings", error)
    session.set_problem("settings", None)
