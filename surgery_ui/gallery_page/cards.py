"""All experiments as cards: question, small picture, the paper's number beside ours, outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import streamlit as st

from surgery_core.recipes.gallery import Card, by_topic
from surgery_ui.gallery_page.entries import Known, known, open_card
from surgery_ui.gallery_page.pictures import draw
from surgery_ui.parts.choices import segments
from surgery_ui.session import session
from surgery_ui.words import gallery as words
from surgery_ui.words import present

COLUMNS, LEAST_WIDTH = 3, 290
SEARCH, SHOW = "gallery-search", "gallery-show"
ALL, OWN = "All", "Others"


def cards(now: session.Experiment, found: Sequence[Card]) -> None:
    """Show the cards that a person looks for."""
    all_known = {card.key: known(now, card) for card in found}
    st.caption(_sentence(now, all_known))
    left, right = st.columns([3, 2], gap="medium", vertical_alignment="bottom")
    with left:
        badges = list(dict.fromkeys(_badge(one).word for one in all_known.values()))
        order = [
            badge.word for badge in (*words.BADGES.values(), words.NO_CLAIM, words.NOT_RUN) if badge.word in badges
        ]
        wanted = segments("Show", [ALL, *order], SHOW)
    with right:
        text = st.text_input(
            "Search", key=SEARCH, placeholder="A word, a paper or its number", icon=":material/search:",
            persist_state="session", on_change=session.touch,
        )  # fmt: skip
    shown = [
        card for card in found if wanted in (ALL, _badge(all_known[card.key]).word) and _matches(card, str(text or ""))
    ]
    if not shown:
        st.info("No experiment is left by this search. Empty the search field, or show all of them.")
        return
    for topic, some in by_topic(shown).items():
        st.subheader(present.plain(topic or OWN), anchor=False)
        grid = st.container().grid(COLUMNS, min_column_width=LEAST_WIDTH)
        for card in some:
            with grid.container(border=True, height="stretch"):
                _card(card, all_known[card.key])


def _card(card: Card, one: Known | None) -> None:
    recipe = card.recipe
    st.button(
        words.bold(recipe.title or card.key), key=f"open-{card.key}", type="tertiary", icon=":material/arrow_forward:",
        icon_position="right", on_click=open_card, args=(card.key,),
    )  # fmt: skip
    st.markdown(present.plain(recipe.question or recipe.note))
    if one is None:
        st.caption("Not run on this model yet: open it and press Run.")
    else:
        draw(card, one, small=True)
    badge = _badge(one)
    st.badge(badge.word, icon=badge.icon, color=badge.colour)
    paper = recipe.paper
    lines = [] if paper is None else [f"The paper: {words.saw(paper)} ({words.source(paper)})"]
    lines += [] if one is None else [f"Here: {words.measured(one.finding.figure)}"]
    st.markdown("  \n".join(lines))
    if one is not None:
        st.caption(present.plain(one.where))


def _badge(one: Known | None) -> words.Badge:
    return words.NOT_RUN if one is None else words.badge_of(one.outcome)


def _sentence(now: session.Experiment, all_known: dict[str, Known | None]) -> str:
    """Return what the cards say together, made from their outcomes."""
    count = Counter(one.outcome for one in all_known.values() if one is not None)
    said = [f"{count[outcome]} {words.BADGES[outcome].word.lower()}" for outcome in words.BADGES if count[outcome]]
    summary = f" So far: {', '.join(said)}." if said else ""
    return (
        "Each card asks one question about a model's layers, and puts a paper's number beside one that was measured by this "
        f"program.{summary} Open a card to see what it means, and to run it on {present.plain(now.loaded.info.title)}."
    )


def _matches(card: Card, text: str) -> bool:
    recipe, paper = card.recipe, card.recipe.paper
    held = [card.key, recipe.title, recipe.question, recipe.note]
    held += [] if paper is None else [paper.title, paper.by, paper.arxiv, paper.says]
    everything = " ".join(held).lower()
    return all(word in everything for word in text.lower().split())
