"""A person's own sets of texts: files that are picked, what is in them, and their use as a set with a name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from surgery_core.errors import TextError
from surgery_core.text import FIRST_SET, Text
from surgery_core.text_sources.counts import TextCounts
from surgery_core.text_sources.files import LINES, TABLES, read_files
from surgery_core.text_sources.found import FoundTexts, Problem, own_set
from surgery_ui.parts import waiting
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sections import emphasis
from surgery_ui.parts.tables import data_table
from surgery_ui.parts.text_sets import choose
from surgery_ui.session import echo, own_texts, session
from surgery_ui.session.state import state
from surgery_ui.words import present
from surgery_ui.words.sweeps import counted
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.job import Job
from surgery_ui.work.timing import known

FILES, COLUMN, NAME = "own-file", "own-column", "own-name"
"""Keys of the fields."""
MAX_NAME = 40
TABLE_ROWS = 6
"""Problems that are seen at once; the table scrolls."""


def picked() -> list[Any]:
    """Return the files that are picked now."""
    return list(st.session_state.get(FILES) or ())


def read_picked() -> None:
    """Read the files that are picked, and keep what was found until it is used."""
    session.touch()
    session.set_problem("own-set", None)
    files = picked()
    if not files:
        state.set_draft = None
        return
    column = str(st.session_state.get(COLUMN) or "").strip() or None
    state.set_draft = read_files([(file.name, file.getvalue()) for file in files], column, own_texts.LIMITS)
    stem = str(files[0].name).rsplit(".", 1)[0]
    st.session_state[NAME] = (stem if len(files) == 1 else "My texts")[:MAX_NAME]


def draft(now: session.Experiment) -> None:
    """Show what is in the files that are picked, before it is used, and the buttons that use or discard it."""
    found = state.set_draft
    if found is None:
        return
    if _has_rows(found):
        st.text_input(
            "Field or column with the texts", key=COLUMN, on_change=read_picked, placeholder="text", width=280,
            help="Of .jsonl, .csv and .tsv files.",
        )  # fmt: skip
    if found.n_empty == len(found.texts):
        st.error("No text was found in these files.")
        _problems(found.problems)
        return
    job = cached.count_job(now.owner, now.loaded, found.texts)
    if job.done:
        _summary(found, job)
    else:
        st.fragment(_follow, run_every=0.5)(found, job)
    counts: TextCounts | None = known(job)
    if job.done and job.error is not None:
        st.error(present.plain(str(job.error)))
    short = counts.problems if counts else ()
    _problems((*found.problems, *short))
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.text_input("Name", key=NAME, max_chars=MAX_NAME, width=240, on_change=session.touch)
        st.button(
            "Use these texts", key="own-set-use", type=emphasis(), on_click=_use, args=(found, short),
            disabled=counts is None or len(short) >= len(found.texts) - found.n_empty,
        )  # fmt: skip
    show_problem("own-set")


def sets_list(now: session.Experiment) -> None:
    """List the person's own sets, each with a button that removes it."""
    for name in state.own_sets:
        found = own_texts.find(name)
        if found is None:
            continue
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f"**{present.plain(found.title)}**", width="content")
            st.caption(present.plain(found.about), width="content")
            st.button(
                "Remove", key=f"own-set-remove-{name}", type="tertiary", on_click=_remove, args=(name,),
                help="From this session; what is scored on it then are the short texts.",
            )  # fmt: skip


def _has_rows(found: FoundTexts) -> bool:
    """Whether there is a table among the files that are picked, or in an archive of them."""
    names = [str(file.name) for file in picked()] + [one.title for one in found.texts]
    names += [problem.where for problem in found.problems]
    return any(ending in name.lower() for name in names for ending in (*LINES, *TABLES))


def _summary(found: FoundTexts, job: Job[TextCounts]) -> None:
    """Say how many texts, tokens and bytes there are; until the tokens are counted, look again."""
    job.look()
    counts: TextCounts | None = known(job)
    found = FoundTexts(_kept(found, counts.problems if counts else ()))
    number = len(found.texts) - found.n_empty
    empty = f", and {counted(found.n_empty, 'empty row')}" if found.n_empty else ""
    tokens = f"{counts.tokens:,} tokens" if counts else "counting tokens …"
    st.markdown(f"**{counted(number, 'text')}{empty}** · {tokens} · {found.n_bytes:,} bytes")


def _follow(found: FoundTexts, job: Job[TextCounts]) -> None:
    _summary(found, job)
    if job.done:
        st.rerun()


def _problems(problems: Sequence[Problem]) -> None:
    """Show what is not read, or cannot be scored, each with its reason."""
    if not problems:
        return
    st.caption(f"{counted(len(problems), 'thing')} left out:")
    rows = [{"Where": one.where, "Why": _without_name(one)} for one in problems]
    data_table(
        rows, height=waiting.table_height(min(len(rows), TABLE_ROWS)), alt="What is left out, and why",
        column_config={"Where": st.column_config.TextColumn(width="small"), "Why": st.column_config.TextColumn(width="large")},
    )  # fmt: skip


def _without_name(problem: Problem) -> str:
    """Return why something was left out, without its name at the beginning, which stands beside it."""
    named = problem.why.startswith(f"{problem.where} ")
    return f"It{problem.why[len(problem.where) :]}" if named else problem.why


def _kept(found: FoundTexts, short: Sequence[Problem]) -> tuple[Text, ...]:
    """Return the texts without those that are too short to be scored."""
    left_out = {one.where for one in short}
    return tuple(text for text in found.texts if text.title not in left_out)


def _use(found: FoundTexts, short: Sequence[Problem]) -> None:
    """Keep the texts as a set with its name, and choose it."""
    session.set_problem("own-set", None)
    try:
        name = own_texts.add(own_set(str(st.session_state.get(NAME) or "My texts"), _kept(found, short)))
    except TextError as error:
        return session.set_problem("own-set", error)
    state.set_draft = None
    return choose(name)


def _remove(name: str) -> None:
    session.touch()
    if state.text_set == name:
        choose(FIRST_SET)
    own_texts.remove(name)
    for key in [key for key in state.chosen if key.endswith("-texts")]:
        echo.hold(key, session.text_set().title)
