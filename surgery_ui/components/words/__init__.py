"""The words of the texts in the browser as soon as the server has them: the page's own way takes longer to draw them."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from surgery_ui.work.channel import PATH, UNKNOWN, Channel

_mount = st.components.v2.component(
    "model_surgery_words", html="<div></div>", js=Path(__file__).with_name("words.js").read_text(encoding="utf-8")
)


def early_words(channel: Channel) -> None:
    """Have the browser listen to a session's channel; the component itself shows nothing.

    It puts words into the elements of the page that `words.texts.continuation` marked `SIDE TURN`.
    """
    _mount(key="words", data={"token": channel.token, "path": PATH, "unknown": UNKNOWN})
