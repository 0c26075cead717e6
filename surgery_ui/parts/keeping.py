"""What a person can keep of a page: its experiment as a recipe, script and notebook; its tables; its charts.

The popover "Keep" stands in the sidebar, which is drawn before the page. So a page says here what it shows, as soon as
it knows, and what is said is drawn in the popover's place. While the popover is closed, nothing is made.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core.keeping.report.asked import LENSES
from surgery_core.keeping.tables import markdown, table_file
from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.parts import NamedPlan, SweepChoice
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.scored import titles_of
from surgery_core.text import FIRST_SET, Text
from surgery_ui.components.link import copy_text
from surgery_ui.parts import chat
from surgery_ui.parts.awaited import Awaited
from surgery_ui.parts.files import CHARTS, MIMES, palette, rendered, stem
from surgery_ui.parts.reporting import offer_report
from surgery_ui.parts.sections import follow_sections
from surgery_ui.session import session, tray
from surgery_ui.session.first import default_prompt
from surgery_ui.session.state import ModelKey, state
from surgery_ui.words import present
from surgery_ui.work import keep_jobs

if TYPE_CHECKING:
    import pandas as pd

    from surgery_core.keeping.script import LensView, Page
    from surgery_core.models.opening import LoadedModel
    from surgery_core.plans.plan import LayerPlan
    from surgery_core.recipes.results import StudyResult
    from surgery_core.recipes.swap_choice import SwapChoice
    from surgery_core.sweeps.request import SweepRequest
    from surgery_core.sweeps.rows import SweepRow
    from surgery_ui.work.job import Job

TABLES = ("csv", "json", "parquet")
_run = threading.local()
"""Where the popover of the script that runs in this thread has its parts; Streamlit runs a script in one thread."""


def begin(
    scripts: DeltaGenerator | None, results: DeltaGenerator | None, report: DeltaGenerator | None = None,
    recipe: DeltaGenerator | None = None,
) -> None:  # fmt: skip
    """Say where a run's offers are drawn; None while the popover is closed."""
    _run.scripts, _run.results, _run.report, _run.recipe, _run.later = scripts, results, report, recipe, []


def offer_checkpoint(now: session.Experiment) -> None:
    """Offer the plan's model as a checkpoint, a GGUF file and a mergekit file; what is asked for `finish` follows."""
    if now.plan.is_identity:
        return
    st.markdown("**The operated model**")
    if keep_jobs.download_bytes():
        _large(
            now, "zip", "checkpoint", keep_jobs.checkpoint_job,
            "A zip for plain transformers: weights, tokenizer, and a card with the plan, figures and proof. It is opened "
            "again and compared before you get it.",
        )  # fmt: skip
        if why := keep_jobs.why_no_gguf(now.loaded, now.plan):
            st.caption(f"No GGUF file: {present.plain(why[0].lower() + why[1:])}")
        else:
            _large(
                now, "gguf", "GGUF file", keep_jobs.gguf_job,
                "For llama.cpp and all that reads GGUF: the weights as the file has them that this model came from, with the "
                "tokenizer and the chat template. It is opened again and compared before you get it.",
            )  # fmt: skip
    job = keep_jobs.mergekit_job(now.owner, now.loaded, now.plan)

    def draw() -> None:
        st.download_button(
            "mergekit file", job.result, f"{stem(now.loaded.info.name)}-mergekit.yaml", MIMES["yaml"],
            key="keep-mergekit", on_click="ignore", width="stretch",
            help="The plan as a passthrough merge; `mergekit-yaml` makes the checkpoint of it.",
        )  # fmt: skip

    _run.later.append(Awaited(now.owner, [job], "mergekit", draw))


def _large(
    now: session.Experiment, kind: str, what: str, make: Callable[[str, LoadedModel, LayerPlan, bool], Job[bytes]],
    about: str,
) -> None:  # fmt: skip
    """Offer a file that is made when it is asked for.

    Args:
        now: what the session works on.
        kind: the file's ending.
        what: what it is called.
        make: the job that makes it.
        about: what it holds.
    """
    wanted = (now.loaded.info.key, str(now.plan))
    if state.prepared.get(kind) != wanted:
        st.button(
            f"Prepare a {what}", key=f"keep-prepare-{kind}", icon=":material/archive:", width="stretch",
            on_click=_prepare, args=(kind, wanted), help=about,
        )  # fmt: skip
        return
    job = make(now.owner, now.loaded, now.plan, _insists(now))
    name = f"{stem(now.loaded.info.name)}-operated.{kind}"

    def draw() -> None:
        st.download_button(
            f"{what[0].upper()}{what[1:]}, {present.size(len(job.result))}", job.result, name, MIMES[kind],
            key=f"keep-{kind}", on_click="ignore", width="stretch", icon=":material/archive:",
        )  # fmt: skip

    _run.later.append(Awaited(now.owner, [job], kind, draw, text="Saving, scoring, checking"))


def finish() -> None:
    """Follow what is being made, once the page itself is done."""
    follow_sections(getattr(_run, "later", []))


def _prepare(kind: str, wanted: tuple[ModelKey, str]) -> None:
    session.touch()
    state.prepared[kind] = wanted


def offer_script(
    now: session.Experiment, page: Page, *, lens: LensView | None = None, sweep: SweepRequest | None = None,
    rows: Sequence[SweepRow] = (), recipe: Recipe | None = None, study: StudyResult | None = None,
    swap: SwapChoice | None = None, swap_lens: str | None = None,
) -> None:  # fmt: skip
    """Offer what a page shows as a script, a notebook and a report.

    Args:
        now: what the session works on.
        page: which.
        lens: what the Lens page reads.
        sweep: the sweep that is shown.
        rows: of one that is done, all of its rows.
        recipe: an experiment that a page shows; by default that of the session.
        study: what the study of that experiment found, once it is done.
        swap: a word that the Lens page swaps.
        swap_lens: id of the lens along whose directions it does.
    """
    place: DeltaGenerator | None = getattr(_run, "scripts", None)
    if place is None:
        return
    # here and not above: it loads transformers, which the thread that opens the first model loads at the same time
    from surgery_core.keeping.script import Shown, notebook, script

    info = now.loaded.info
    texts = _texts() if recipe is None else None
    # whoever insists on the session's plan has said nothing of an experiment's
    unproved = recipe is None and _insists(now)
    shows = sweep is not None or recipe is not None or swap is not None
    recipe = recipe or recipe_of(now, sweep)
    if swap is not None and lens is not None:
        recipe = replace(recipe, lens=lens.text, swap=swap)
    if shows:
        offer_recipe(recipe, f"keep-recipe-{page}")
    shown = Shown(page, recipe, info.n_layers, info.device, info.dtype, unproved, lens, sweep, texts)
    files = {"py": ("Script", script(shown)), "ipynb": ("Notebook", notebook(shown))}
    for kind, (label, data) in files.items():
        place.download_button(
            label, data, f"{stem(info.name)}-{page}.{kind}", MIMES[kind], key=f"keep-{kind}", on_click="ignore",
            width="stretch",
        )  # fmt: skip
    place = getattr(_run, "report", None)
    if place is not None:
        recipe = recipe if lens is None else replace(recipe, lens=lens.text)
        reads = lens.lens if lens is not None and lens.lens in LENSES else LENSES[0]
        _run.later += offer_report(
            now, place, page, recipe, reads, sweep, rows=rows, study=study, unproved=unproved,
            swap_lens=None if swap is None else swap_lens,
        )  # fmt: skip


def offer_results(
    tables: Mapping[str, pd.DataFrame], charts: Mapping[str, Callable[[str], bytes]] | None = None
) -> None:
    """Offer the tables and charts of a page, once they are there.

    Args:
        tables: by title.
        charts: by title: makes the file of a kind of `CHARTS`.
    """
    place: DeltaGenerator | None = getattr(_run, "results", None)
    if place is None:
        return
    with place.container():
        if tables:
            _tables(tables)
        if charts:
            _charts(charts)


def wants_results() -> bool:
    """Whether the popover is open; while it is closed a page makes no tables for it."""
    return getattr(_run, "results", None) is not None


def chart_file(chart: Any) -> Callable[[str], bytes]:
    """Return what makes the files of an Altair chart, or of one that is made when it is asked for."""
    theme = palette()
    return lambda kind: rendered(chart() if callable(chart) else chart, kind, theme)


def recipe_of(now: session.Experiment, sweep: SweepRequest | None = None) -> Recipe:
    """Return what the session works on as a recipe: model, plan, texts, prompt and settings, and the sweep that is shown."""
    info, own, how = now.loaded.info, session.own_text(), chat.settings(now)
    recipe = Recipe(
        info.name, str(now.plan), title=f"{info.title}, {now.plan or 'no layers'}", note=state.comment,
        revision=info.revision if info.kind == "hub" else None, prompts=(state.prompt,), lens=_lens_text(),
        max_new_tokens=how.max_new_tokens, temperature=how.temperature, top_k=how.top_k, top_p=how.top_p,
        seed=how.seed, chat=how.chat, system=how.system,
    )  # fmt: skip
    plans = tuple(NamedPlan(one.name, str(one.plan)) for one in tray.kept())
    chosen = session.text_set()
    kept = None if chosen.name == FIRST_SET else ChosenSet.of(chosen)
    recipe = replace(
        recipe, text_set=kept, cut=state.cut, margin=state.margin, plans=plans, own_texts=() if own is None else (own,)
    )
    return recipe if sweep is None else replace(recipe, sweep=_sweep_choice(recipe, now, sweep))


def _sweep_choice(recipe: Recipe, now: session.Experiment, asked: SweepRequest) -> SweepChoice:
    start, measures = None if asked.start == now.plan else str(asked.start), asked.measures
    return SweepChoice(
        asked.kind, asked.options, measures.best, start, bool(measures.skills), measures.prompt or "",
        titles_of(recipe, asked.texts),
    )  # fmt: skip


def offer_recipe(recipe: Recipe, key: str = "keep-recipe") -> None:
    """Offer the experiment as a file, in place of the one that was offered before a page said more of it."""
    place: DeltaGenerator | None = getattr(_run, "recipe", None)
    if place is not None:
        place.download_button(
            "Recipe", recipe.dumps(), f"{stem(recipe.title)}.toml", MIMES["toml"], key=key, on_click="ignore",
            width="stretch", help="Model, plan, texts, prompt and settings as a small file; it opens here and with `run`.",
        )  # fmt: skip


def _texts() -> tuple[Text, ...]:
    own = session.own_text()
    return (*session.scored_texts(), *(() if own is None else (own,)))


def _lens_text() -> str:
    return state.lens if state.lens != default_prompt() else ""


def _insists(now: session.Experiment) -> bool:
    return (now.loaded.info.key, str(now.plan)) in state.unproved


def _tables(tables: Mapping[str, pd.DataFrame]) -> None:
    title = _choice("Table", list(tables))
    frame = tables[title]
    with st.container(horizontal=True, gap="xsmall"):
        for kind in TABLES:
            _button(title, kind, partial(table_file, frame, kind))
        copy_text("Copy as Markdown", markdown(frame), key="keep-markdown")


def _charts(charts: Mapping[str, Callable[[str], bytes]]) -> None:
    title = _choice("Chart", list(charts))
    with st.container(horizontal=True, gap="xsmall"):
        for kind in CHARTS:
            _button(title, kind, partial(charts[title], kind))


def _choice(label: str, titles: list[str]) -> str:
    key = f"keep-{label.lower()}"
    if st.session_state.get(key) not in titles:
        st.session_state.pop(key, None)
    return str(st.selectbox(label, titles, key=key, on_change=session.touch))


def _button(title: str, kind: str, make: Callable[[], bytes]) -> None:
    st.download_button(
        kind.upper(), make, f"{stem(title)}.{kind}", MIMES[kind], key=f"keep-{stem(title)}-{kind}", on_click="ignore"
    )
