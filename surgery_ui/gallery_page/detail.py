"""One experiment: what the paper saw, what was measured, what that means, how to do it, and its recipe."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial

import pandas as pd
import streamlit as st

from surgery_core.charts.studies import study_chart
from surgery_core.errors import InputError
from surgery_core.recipes.gallery import Card
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.results import StudyResult
from surgery_core.studies.words import interval_text, units_text, value_text
from surgery_ui.gallery_page.entries import OWN, Known, close, known
from surgery_ui.gallery_page.pictures import draw
from surgery_ui.gallery_page.running import running_section
from surgery_ui.gallery_page.setting_up import set_up
from surgery_ui.parts import keeping
from surgery_ui.parts.files import MIMES
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import follow_sections
from surgery_ui.parts.tables import data_table
from surgery_ui.session import session
from surgery_ui.words import gallery as words
from surgery_ui.words import present
from surgery_ui.work.study_jobs import study_outcome


def detail(now: session.Experiment, card: Card) -> None:
    """Show one experiment."""
    recipe = card.recipe
    st.button("All experiments", key="gallery-back", icon=":material/arrow_back:", type="tertiary", on_click=close)
    st.header(present.plain(recipe.title or card.key), anchor=False)
    if recipe.question:
        st.markdown(present.plain(recipe.question))
    place = st.container()
    section = running_section(now, card)
    rest = st.container()
    with place:
        one = known(now, card)
        _answer(card, one)
    with rest:
        if one is not None:
            _picture(card, one)
        _by_hand(now, card)
        _recipe(now, card)
    follow_sections([section])
    _offer(now, card, one)


def _answer(card: Card, one: Known | None) -> None:
    """Show the paper's number beside ours, the outcome and what it means."""
    recipe = card.recipe
    badge = words.NOT_RUN if one is None else words.badge_of(one.outcome)
    st.badge(badge.word, icon=badge.icon, color=badge.colour)
    if one is not None and one.outcome is not None and recipe.meaning is not None:
        st.markdown(present.plain(recipe.meaning.of(one.outcome)))
    both = st.container().grid(2, min_column_width=300)
    with both.container(border=True, height="stretch"):
        _paper(recipe)
    with both.container(border=True, height="stretch"):
        _ours(one)
    if recipe.claim is not None:
        st.caption(f"What is checked: {present.plain(recipe.claim.says)}", help=words.INTERVAL)


def _paper(recipe: Recipe) -> None:
    paper = recipe.paper
    if paper is None:
        st.caption("No paper is named.")
        return
    st.caption("The paper saw")
    if paper.figure:
        st.markdown(f"### {present.plain(paper.figure)}")
    st.markdown(present.plain(paper.says))
    about = present.plain(", ".join(part for part in (paper.title, paper.by) if part))
    # no caption: links in one are too pale to be read
    st.markdown(f":small[{about}] :small[({words.source(paper)})]")


def _ours(one: Known | None) -> None:
    if one is None:
        st.caption("Here")
        st.markdown("Not measured yet. Press Run below.")
        return
    figure = one.finding.figure
    st.caption("Here")
    st.markdown(f"### {present.plain(value_text(figure))}")
    ends = interval_text(figure)
    interval = f" 95 % interval: {ends}." if ends else ""
    st.markdown(present.plain(f"{words.over(figure)}.{interval}"))
    st.caption(present.plain(one.where))
    if not one.here:
        st.caption("That is another model than the one that is open. Run it below to see what this one shows.")


def _picture(card: Card, one: Known) -> None:
    finding, note = one.finding, card.recipe.note
    st.subheader("The picture", anchor=False)
    if note:
        st.caption(present.plain(note))
    draw(card, one)
    data_table(figures_table(one), alt="All figures of this experiment")
    if finding.note:
        st.caption(present.plain(finding.note))


def figures_table(one: Known) -> pd.DataFrame:
    """Return all figures with their intervals, as a person reads them."""
    rows = [
        {
            "Figure": figure.name,
            "Value": value_text(figure),
            "95 % interval": interval_text(figure),
            "Over": units_text(figure),
        }
        for figure in dict.fromkeys((one.finding.figure, *one.finding.others))
    ]
    return pd.DataFrame(rows)


def _by_hand(now: session.Experiment, card: Card) -> None:
    page = set_up(now, card.recipe)
    if not (card.recipe.do or page):
        return
    st.subheader("Do it by hand", anchor=False)
    if card.recipe.do:
        st.markdown(present.plain(card.recipe.do))
    if page is not None:
        st.button(
            f"Set it up on the {page.title} page", key="gallery-do", icon=":material/arrow_forward:", on_click=page.go,
            help="The plan, the texts and the fields of that page are filled in; your own prompt and settings stay.",
        )  # fmt: skip
    show_problem("gallery")


def _recipe(now: session.Experiment, card: Card) -> None:
    with st.expander("The recipe", icon=":material/description:"):
        st.caption(
            "The whole experiment as a small file. Change it, and drop it on the list of experiments. “Keep”, in the sidebar, "
            "saves what you are doing now as a recipe."
        )
        name = f"{card.key}.toml"
        model = now.loaded.info.name
        which = name if card.key.startswith(OWN) else card.key
        elsewhere = "" if model == card.recipe.model else f" --model {_quoted(model)}"
        st.code(f"python -m surgery_core run {which}{elsewhere}", language="bash")
        st.code(card.text, language="toml", height=320)
        st.download_button(
            "Recipe", card.text, name, MIMES["toml"], key="gallery-recipe", on_click="ignore",
            icon=":material/download:",
        )  # fmt: skip


def _offer(now: session.Experiment, card: Card, one: Known | None) -> None:
    """Offer the experiment on the open model, and the figures and the picture, to be kept."""
    info, ran = now.loaded.info, study_outcome(now.loaded, card.recipe)
    recipe = replace(card.recipe, model=info.name, revision=info.revision if info.kind == "hub" else None)
    if _fits(recipe, info.n_layers):
        keeping.offer_script(now, "gallery", recipe=recipe, study=ran if isinstance(ran, StudyResult) else None)
    if one is None or not keeping.wants_results():
        return
    finding = one.finding
    figures = pd.DataFrame([asdict(figure) for figure in (finding.figure, *finding.others)])
    chart = partial(study_chart, finding.frame, finding.picture)
    keeping.offer_results(
        {"Figures": figures, "The picture": finding.frame}, {card.recipe.title or card.key: keeping.chart_file(chart)}
    )


def _fits(recipe: Recipe, n_layers: int) -> bool:
    """Whether a model of so many layers has those that the recipe's plan names."""
    try:
        recipe.plan_of(n_layers)
    except InputError:
        return False
    return True


def _quoted(name: str) -> str:
    return f'"{name}"' if " " in name else name
