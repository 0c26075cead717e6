"""Figures of the plans side by side: a table, a chart of perplexity, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from surgery_core.charts.plans import plan_scores, ratios
from surgery_core.errors import RefusedPlanError
from surgery_core.measure.results import Comparison
from surgery_ui.parts import chart_specs, keeping, waiting
from surgery_ui.parts.held import held
from surgery_ui.parts.tables import data_table
from surgery_ui.parts.waiting import Waiting
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.session.tray import Kept
from surgery_ui.words import present
from surgery_ui.words.labels import UNCHANGED
from surgery_ui.words.plans import side_by_side
from surgery_ui.work import plan_jobs as cached
from surgery_ui.work.job import Job
from surgery_ui.work.kinds import tray_lanes

PENDING = "…"


class Figures:
    """A section with a line a plan, which fills as they are measured.

    Args:
        now: what the page works on.
        kept: the plans.
        sentence: an empty element for what is seen in a sentence.
    """

    def __init__(self, now: session.Experiment, kept: Sequence[Kept], sentence: Any) -> None:
        texts, lanes, proofs = session.scored_texts(), tray_lanes("scores"), tray_lanes("proof")
        self._now, self._kept, self._sentence = now, kept, sentence
        self._compared = {
            one.name: cached.comparison_job(now.owner, lanes[at], now.loaded, one.plan, texts)
            for at, one in enumerate(kept)
        }
        self._proofs = {
            one.name: cached.proof_job(now.owner, proofs[at], now.loaded, one.plan) for at, one in enumerate(kept)
        }
        self._trouble = st.empty()
        self._table = st.skeleton(height=waiting.table_height(len(kept) + 1))
        tall = 30 * len(kept) + 60
        with held("tray-ratios", tall):
            self._wait = Waiting(now.owner, list(self._compared.values()), "Scoring texts", "tray-scores")
            self._chart: Any = st.skeleton(height=tall - waiting.BAR)
        self._drawn, self._charted = -1, False

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return [*self._compared.values(), *self._proofs.values()]

    @property
    def found(self) -> dict[str, Comparison]:
        """Return what the plans came to that are measured and not refused, by their names."""
        return {
            name: job.result.within(state.margin)
            for name, job in self._compared.items()
            if job.done and job.error is None and not self._refused(name)
        }

    def frame(self) -> pd.DataFrame:
        """Return one line a plan: its name, plan and figures; the unchanged model's first."""
        found = self.found
        rows = [self._row(one, found.get(one.name)) for one in self._kept]
        base = next(iter(found.values()), None)
        first: dict[str, Any] = {"name": UNCHANGED, "plan": str(self._now.identity)}
        if base is not None:
            first |= {"perplexity": base.base.perplexity, "ratio": 1.0, "kl": 0.0, "top1": 1.0}
        return pd.DataFrame([first, *rows])

    def show(self) -> None:
        """Draw what is new."""
        self._wait.show()
        done = sum(job.done for job in self.jobs)
        if done == self._drawn or not any(job.done for job in self._compared.values()):
            return
        self._drawn = done
        self._say_trouble()
        found, frame = self.found, self.frame()
        self._sentence = self._sentence.markdown(
            present.plain(side_by_side(found)), help=present.interval_help(state.margin)
        )
        self._table = _table(self._table, frame)
        if found and not self._charted and all(job.done for job in self._compared.values()):
            self._charted = True
            with self._chart.container():
                chart = plan_scores(ratios(found), list(found), dark=chart_specs.dark())
                chart_specs.show(chart, key="tray-ratios", alt="Perplexity of each plan over the unchanged model's")

    def offer(self) -> None:
        """Offer the table to be kept."""
        if self.found:
            chart = partial(plan_scores, ratios(self.found), list(self.found))
            keeping.offer_results(
                {"Plans side by side": self.frame()}, {"Perplexity of each plan": keeping.chart_file(chart)}
            )

    def _refused(self, name: str) -> bool:
        job = self._proofs[name]
        return job.done and isinstance(job.error, RefusedPlanError)

    def _say_trouble(self) -> None:
        said = []
        for one in self._kept:
            error = self._proofs[one.name].error if self._refused(one.name) else self._compared[one.name].error
            if error is not None:
                said.append(f"**{present.plain(one.name)}**: {present.plain(str(error))}")
        if said:
            self._trouble.warning("  \n".join(said))

    def _row(self, one: Kept, found: Comparison | None) -> dict[str, Any]:
        row: dict[str, Any] = {"name": one.name, "plan": str(one.plan) or "(no layers)"}
        job = self._compared[one.name]
        if found is None:
            return row | {"verdict": "no figures" if job.done else PENDING}
        ratio = found.interval("ratio")
        return row | {
            "perplexity": found.operated.perplexity, "ratio": found.ratio, "low": ratio.low, "high": ratio.high,
            "kl": found.kl, "top1": found.top1, "verdict": found.verdict().word,
        }  # fmt: skip


def _table(place: Any, frame: pd.DataFrame) -> Any:
    number = st.column_config.NumberColumn
    # a ruined model's perplexity has more digits than a column has room for
    wide = bool(frame.reindex(columns=["perplexity"]).astype(float).max().max() >= 1e5)
    columns = {
        "name": st.column_config.TextColumn("Plan", width="medium"),
        "perplexity": number("Perplexity", width="small", format="scientific" if wide else "%.2f"),
        "ratio": number(
            "Times",
            width="small",
            format="scientific" if wide else "×%.3f",
            help="Perplexity over that of the unchanged model.",
        ),
        "interval": st.column_config.TextColumn("95 % interval", width="small"),
        "kl": number("KL, nats", format="%.3f", width="small", help="Mean KL(base || operated) over the tokens."),
        "top1": number("Top-1 kept", format="%.1f%%", width="small"),
        "verdict": st.column_config.TextColumn("Verdict", width=150),
    }
    shown = frame.reindex(columns=["name", "perplexity", "ratio", "low", "high", "kl", "top1", "verdict"])
    ends = zip(shown["low"], shown["high"], strict=True)
    spans = ["" if low != low else f"{present.amount(low)} to {present.amount(high)}" for low, high in ends]
    numbers = shown[["perplexity", "ratio", "kl", "top1"]].astype(float)
    shown = numbers.assign(
        name=shown["name"], interval=spans, top1=100 * numbers["top1"], verdict=shown["verdict"].fillna("")
    )
    return data_table(
        shown[list(columns)], height="content", column_config=columns,
        place=place, alt="Figures of the plans side by side",
    )  # fmt: skip
