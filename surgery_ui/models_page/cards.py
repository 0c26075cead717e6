"""Facts about the open model, and the list of models that can be opened."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from surgery_core.models.offered import ModelChoice, list_models
from surgery_core.models.opening import ModelInfo
from surgery_ui.parts import keeping
from surgery_ui.parts.sections import Section
from surgery_ui.session import switching
from surgery_ui.words import labels, present
from surgery_ui.work import plan_jobs as cached


def facts_table(info: ModelInfo) -> None:
    """Show the facts of a model in two columns."""
    rows = list(present.fact_rows(info).items())
    half = (len(rows) + 1) // 2
    for column, part in zip(st.columns(2, gap="medium"), (rows[:half], rows[half:]), strict=True):
        column.table(dict(part), border="horizontal", hide_header=True)


def offer_facts(info: ModelInfo, checks: Section) -> None:
    """Offer the model's facts and its checks as tables to be kept."""
    facts = pd.DataFrame(present.fact_rows(info).items(), columns=["fact", "value"])
    done = [job.result.frame() for job in checks.jobs if job.done and job.error is None]
    keeping.offer_results({"Facts": facts} | ({"Checks": done[0]} if done else {}))


def choices_table(info: ModelInfo) -> None:
    """Show every model that lies ready or is open on this server, with a button that opens it."""
    in_memory = {one.info.name: one.info for one in cached.open_models()}
    choices = list_models()
    others = {name: one for name, one in in_memory.items() if name not in {choice.name for choice in choices}}
    titles = {choice.name: choice.title for choice in choices} | {name: one.title for name, one in others.items()}
    named = labels.unique(titles, {name: name for name in titles})
    for choice in choices:
        note = ", in memory" if choice.name in in_memory else ""
        # an adapter's base model may have to be fetched
        name, usable = choice.name, choice.n_layers is not None or bool(choice.adapter_of)
        _card(name, named[name], _line(choice) + note, name == info.name, usable)
    for name, one in others.items():
        _card(name, named[name], f"{present.facts(one)}, in memory", name == info.name, True)


def _card(name: str, title: str, line: str, in_use: bool, usable: bool) -> None:
    with st.container(border=True, horizontal=True, vertical_alignment="center"):
        with st.container(gap=None):
            st.markdown(f"**{present.plain(title)}**")
            st.caption(line)
        st.button(
            "In use" if in_use else "Open",
            key=f"open-{name}",
            disabled=in_use or not usable,
            help=present.plain(f"Open {title}"),
            on_click=switching.choose,
            args=(name,),
        )


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
