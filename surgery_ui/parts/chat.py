"""Messages to instruct models: whether prompts go through the model's chat template, and what the model then reads."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from surgery_core.errors import TextError
from surgery_core.plans.generation_settings import MAX_SYSTEM, GenerationSettings
from surgery_core.text import Text, chat_text, has_chat_template
from surgery_ui.session import session
from surgery_ui.session.address import SETTINGS
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.work import plan_jobs as cached

_SWITCH, _SYSTEM = "chat-switch", "chat-system"
"""Keys of the fields."""


def offered(now: session.Experiment) -> bool:
    """Return whether the open model has a chat template."""
    return has_chat_template(now.loaded.tokenizer)


def applies(now: session.Experiment) -> bool:
    """Return whether prompts go through it: where there is one, unless a person switched it off."""
    return offered(now) and state.chat is not False


def settings(now: session.Experiment) -> GenerationSettings:
    """Return how text is written for the open model."""
    chat = applies(now)
    return replace(state.settings, chat=chat, system=state.system if chat else "")


def fitting(now: session.Experiment, text: str) -> GenerationSettings:
    """Return how a text is continued: as was set, and no longer than fits behind it."""
    own = settings(now)
    return replace(own, max_new_tokens=min(own.max_new_tokens, longest(now, text)))


def longest(now: session.Experiment, text: str) -> int:
    """Return how many tokens can follow a text in the model's context, at least one, at most what is offered."""
    most, context = int(SETTINGS["length"].most), now.loaded.info.context_length
    if context is None:
        return most
    return max(1, min(most, context - cached.count_tokens(now.loaded, as_read(now, text))))


def shown(now: session.Experiment, prompt: str) -> str:
    """Return a prompt as texts begin with it; an answer is no continuation of the message's last word."""
    return f"{prompt}\n\n" if applies(now) else prompt


def as_read(now: session.Experiment, text: str) -> Text:
    """Return a text as the model reads it. What the template refuses is left as it is; the work on it says why."""
    plain = Text("The text", text)
    if not applies(now):
        return plain
    try:
        return chat_text(now.loaded.tokenizer, text, state.system)
    except TextError:
        return plain


def controls(now: session.Experiment, text: str) -> None:
    """Show the switch, the system prompt and what the model reads; nothing for a model without a template."""
    if not offered(now):
        return
    shown = st.session_state
    shown[_SWITCH], shown[_SYSTEM] = applies(now), state.system
    with st.popover("Chat", icon=":material/forum:"):
        st.toggle(
            "Put the prompt as a message", key=_SWITCH, on_change=_take,
            help="Instruct models were trained on messages in a format of their own, their chat template. Off, the model "
            "continues the prompt as plain text.",
        )  # fmt: skip
        if applies(now):
            st.text_area(
                "System prompt", key=_SYSTEM, height=68, max_chars=MAX_SYSTEM, on_change=_take,
                placeholder="What the model is told before, if anything",
            )  # fmt: skip
            st.caption("What the model reads:")
            st.code(as_read(now, text).text, language=None, wrap_lines=True)
        else:
            st.caption("The prompt is continued as plain text.")


def caption(now: session.Experiment) -> None:
    """Say that a prompt is put as a message."""
    if applies(now):
        told = f", after the system prompt “{_short(state.system)}”" if state.system else ""
        st.caption(present.plain(f"Put to the model as a message{told}."))


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:59]}…"


def _take() -> None:
    session.touch()
    state.chat = bool(st.session_state[_SWITCH])
    state.system = str(st.session_state.get(_SYSTEM, state.system))
