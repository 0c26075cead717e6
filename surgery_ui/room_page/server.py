"""How the server is, for an organiser: who is there, what waits, what memory is left, what went wrong last."""

from __future__ import annotations

import pandas as pd
import psutil
import streamlit as st

from surgery_core.models.devices import free_memory
from surgery_ui.parts.tables import data_table
from surgery_ui.words import present
from surgery_ui.work import channel, diary
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.kinds import Workers
from surgery_ui.work.lens_jobs import FETCHING, TRAINING
from surgery_ui.work.limits import MB, limits
from surgery_ui.work.pool import Pool
from surgery_ui.work.sweep_jobs import SWEEPS

EVERY = 2.0
"""Seconds between two looks."""
DOES: dict[Workers, tuple[str, Pool]] = {
    Workers.MODELS: ("Models", cached.MODELS),
    Workers.WORK: ("Texts, figures, layers", cached.WORK),
    Workers.SWEEPS: ("Sweeps", SWEEPS),
    Workers.TRAINING: ("Training", TRAINING),
    Workers.FETCHING: ("Lens files", FETCHING),
}


def server() -> None:
    """Show the section, which is drawn again every `EVERY` seconds."""
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
    with st.container(horizontal=True, gap="large"):
        for label, value in figures.items():
            st.metric(label, value, width="content")
    opened = ", ".join(one.info.name for one in cached.open_models())
    kept = present.size(sum(pool.kept_bytes() for _, pool in DOES.values()))
    st.caption(
        present.plain(
            f"Open models: {opened or 'none'}. Results that are kept take {kept}, of {present.size(limits().cache_mb * MB)} "
            "at most. Sessions count for two minutes after their tab is closed."
        )
    )
    data_table(workers(), height="content", alt="What each group of workers does, and what waits for it")
    found = errors()
    if found.empty:
        st.caption("Nothing went wrong since the server was started.")
    else:
        st.markdown("**What went wrong last.** The log has more under each id.")
        data_table(found, height="content", alt="The last errors, the newest first")


def workers() -> pd.DataFrame:
    """Return a line for each pool: what it does, how many of its jobs run and wait."""
    loads = {what: pool.load() for what, pool in DOES.values()}
    return pd.DataFrame({"Workers": what, "Run": run, "Wait": wait} for what, (run, wait) in loads.items())


def errors() -> pd.DataFrame:
    """Return a line for each of the last errors, the newest first."""
    return pd.DataFrame(
        {
            "When": f"{one.at.astimezone():%H:%M:%S}", "Id": one.id, "In": one.where, "Error": one.kind, "Place": one.place,
        }
        for one in diary.faults()
    )  # fmt: skip
