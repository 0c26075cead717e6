"""Facts about the open model, and the list of models that can be opened."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

from surgery_core.models.devices import free_memory
from surgery_core.models.offered import ModelChoice
from surgery_core.models.opening import LoadedModel, ModelInfo
from surgery_ui.parts import keeping
from surgery_ui.parts.sections import Section
from surgery_ui.session import session, switching
from surgery_ui.session.state import ModelKey, state
from surgery_ui.words import labels, present
from surgery_ui.work import closing
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.kinds import MOST_MODELS
from surgery_ui.work.limits import limits


def facts_table(info: ModelInfo) -> None:
    """Show the facts of a model in two columns."""
    rows = list(present.fact_rows(info, paths=limits().paths).items())
    half = (len(rows) + 1) // 2
    for column, part in zip(st.columns(2, gap="medium"), (rows[:half], rows[half:]), strict=True):
        column.table(dict(part), border="horizontal", hide_header=True)


def offer_facts(info: ModelInfo, checks: Section) -> None:
    """Offer the model's facts and its checks as tables to be kept."""
    facts = pd.DataFrame(present.fact_rows(info, paths=limits().paths).items(), columns=["fact", "value"])
    done = [job.result.frame() for job in checks.jobs if job.done and job.error is None]
    keeping.offer_results({"Facts": facts} | ({"Checks": done[0]} if done else {}))


def choices_table(info: ModelInfo) -> None:
    """Show every model that lies ready or is open on this server, with buttons that open and close it."""
    seen = (one for one in cached.open_models() if cached.may_see(state.owner, one.info.name))
    in_memory = {one.info.name: one for one in seen}
    choices = cached.choices()
    others = {name: one for name, one in in_memory.items() if name not in {choice.name for choice in choices}}
    titles = {choice.name: choice.title for choice in choices} | {name: one.info.title for name, one in others.items()}
    named = labels.unique(titles, {name: name for name in titles})
    st.caption(present.memory([one.info for one in in_memory.values()], free_memory(), MOST_MODELS))
    for choice in choices:
        # an adapter's base model may have to be fetched
        name, usable = choice.name, choice.n_layers is not None or bool(choice.adapter_of)
        _card(Card(name, named[name], _line(choice), name == info.name, usable, in_memory.get(name)))
    for name, one in others.items():
        _card(Card(name, named[name], present.facts(one.info), name == info.name, True, one))


@dataclass(frozen=True)
class Card:
    """A model as the list shows it: its name and title, a line of facts, whether it is used here, and the open model."""

    name: str
    title: str
    line: str
    in_use: bool
    usable: bool
    opened: LoadedModel | None


def _card(card: Card) -> None:
    note = f" · {present.size(card.opened.info.bytes)} in memory" if card.opened is not None else ""
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            st.markdown(f"**{present.plain(card.title)}**")
            st.caption(card.line + note)
        if card.opened is not None and not card.in_use:
            _close_button(card.opened, card)
        st.button(
            "In use" if card.in_use else "Open",
            key=f"open-{card.name}",
            disabled=card.in_use or not card.usable,
            help=present.plain(f"Open {card.title}"),
            on_click=switching.choose,
            args=(card.name,),
        )


def _close_button(opened: LoadedModel, card: Card) -> None:
    """Show the button that closes a model, which is off while somebody works with it."""
    busy = _busy(opened.info.name, opened.info.key)
    frees = f"Close {card.title}: gives its {present.size(opened.info.bytes)} of memory back. Its plans stay."
    st.button(
        "Close", key=f"close-{card.name}", type="tertiary", disabled=bool(busy), help=present.plain(busy or frees),
        # a callback's arguments are held for as long as its page stands
        on_click=_close, args=(opened.info.name, opened.info.key),
    )  # fmt: skip


def _busy(name: str, key: ModelKey) -> str:
    """Return who works with a model, as a sentence; nothing where nobody does."""
    users = closing.users(name, key)
    others = len(users - {state.owner})
    if others:
        return f"{others} other {'person works' if others == 1 else 'people work'} with it on this server."
    return "A plan of yours takes layers from it, or work of yours runs on it." if users else ""


def _close(name: str, key: ModelKey) -> None:
    session.touch()
    if not _busy(name, key):
        closing.close(name, key)


def _line(choice: ModelChoice) -> str:
    where = {"bundled": "in the models folder", "folder": "in a folder of yours", "hub": "downloaded from the hub"}[
        choice.kind
    ]
    where = f"GGUF file {where}" if choice.path.is_file() else where
    where = (
        f"{where[0].upper()}{where[1:]}" if choice.name == choice.title else f"{present.plain(choice.name)}, {where}"
    )
    if choice.n_layers is None and choice.adapter_of is not None:
        wanted = present.plain(choice.adapter_of) or "not named"
        return f"{where}; its base model is {wanted}, which does not lie ready"
    if choice.n_layers is None or choice.n_parameters is None:
        return f"{where}; its config or weights cannot be read"
    return f"{where}, {choice.n_layers} layers, {present.count(choice.n_parameters)} parameters"
