"""The words of the pages with what they mean, as a list that can be searched."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from surgery_ui.session import session
from surgery_ui.words import glossary
from surgery_ui.words.glossary import FIGURES, NOTATION, WORDS, Entry

WIDTH = 780
"""Width in pixels of a line that is read with ease."""
SEARCH = "glossary-search"


def words_view() -> None:
    """Show the field to search in, and every word that has what was typed."""
    with st.container(width=WIDTH):
        wanted = st.text_input(
            "Search", key=SEARCH, placeholder="perplexity, KL, rank …", max_chars=80, on_change=session.touch,
        )  # fmt: skip
        found = {part: _found(part, wanted) for part in (FIGURES, WORDS)}
        for part, some in found.items():
            if some:
                st.subheader(part, anchor=False)
                st.markdown("\n\n".join(map(as_markdown, some)))
        if not any(found.values()):
            st.info("No word here has that in it. Try a shorter one.")
        with st.expander("How a plan is written", icon=":material/edit:"):
            st.markdown(glossary.section(NOTATION))


def as_markdown(entry: Entry) -> str:
    """Return a word with what it means: a heading, a sentence, and a figure's range."""
    also = f" Also: {', '.join(entry.names[1:])}." if len(entry.names) > 1 else ""
    # Euler's number stays small
    meaning = entry.meaning if entry.meaning.startswith("e ") else f"{entry.meaning[:1].upper()}{entry.meaning[1:]}"
    lines = [f"##### {entry.title}", f"{meaning}.{also}"]
    if entry.range:
        lines.append(f":gray[**Range:** {entry.range}. **Large:** {entry.large}.]")
    return "\n\n".join(lines)


def _found(part: str, wanted: str) -> Sequence[Entry]:
    """Return what has every word of a search in it; by name where a list is to be looked through."""
    some = [one for one in glossary.entries(part) if one.has(wanted)]
    return sorted(some, key=lambda one: one.title.casefold())
