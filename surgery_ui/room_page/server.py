"""How the server is, for an organiser: who is there, what waits, what memory is left, what went wrong last."""

from __future__ import annotations

import pandas as pd
import psutil
import streamlit as st

from surgery_core.models.devices import free_memory
from surgery_ui.words import present
from surgery_ui.work import channel, diary
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.kinds import Workers
from surgery_ui.work.lens_jobs import FETCHING, TRAINING
from surgery_ui.work.pool import Pool
from surgery_ui.work.sweep_jobs import SWEEPS

EVERY = 2.0
"""Seconds between two looks."""
DOES: dict[Workers, tuple[str, Pool]] = {
    Workers.MODELS: ("Opens models", cached.MODELS),
    Workers.WORK: ("Writes texts, measures plans, reads layers", cached.WORK),
    Workers.SWEEPS: ("Measures sweeps", SWEEPS),
    Workers.TRAINING: ("Trains lenses", TRAINING),
    Workers.FETCHING: ("Fetches lenses", FETCHING),
}


def server() -> None:
    """Show the section, which is looked at again while it is open."""
    with st.expander("The server", icon=":material/dns:"):
        st.fragment(_now, run_every=EVERY)()


def _now() -> None:
    loads = [pool.load() for _, pool in DOES.values()]
    figures = {
        "Sessions": str(channel.living()),
        "Jobs that run": str(sum(running for running, _ in loads)),
        "Jobs that wait": str(sum(waiting for _, waiting in loads)),
        "Memory taken": present.size(psutil.Process().memory_info().rss),
        "Memory free": present.size(free_memory()),
    }
    for place, (label, value) in zip(st.columns(len(figures)), figures.items(), strict=True):
        place.metric(label, value)
    opened = ", ".join(one.info.name for one in cached.open_models())
    st.caption(
        present.plain(f"Open models: {opened or 'none'}. Sessions count for two minutes after their tab is closed.")
    )
    st.dataframe(
        workers(), hide_index=True, height="content", alt="What each group of workers does, and what waits for it"
    )
    found = errors()
    if found.empty:
        st.caption("Nothing went wrong since the server was started.")
    else:
        st.markdown("**What went wrong last.** The log has more under each id.")
        st.dataframe(found, hide_index=True, height="content", alt="The last errors, the newest first")


def workers() -> pd.DataFrame:
    """Return a line for each pool: what it does, how many of its jobs run and wait, and what its results take."""
    return pd.DataFrame(
        {
            "Workers": what, "Run": pool.load()[0], "Wait": pool.load()[1], "Results kept": present.size(pool.kept_bytes()),
        }
        for what, pool in DOES.values()
    )  # fmt: skip


def errors() -> pd.DataFrame:
    """Return a line for each of the last errors, the newest first."""
    return pd.DataFrame(
        {
            "When": f"{one.at.astimezone():%H:%M:%S}", "Id": one.id, "In": one.where, "Error": one.kind, "Place": one.place,
        }
        for one in diary.faults()
    )  # fmt: skip
