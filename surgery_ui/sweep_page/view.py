"""What a tab of the Sweep page shows below its controls: the list, and one sweep with its chart, its table and its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from surgery_core.sweeps.file import model_name
from surgery_core.sweeps.findings import best_on_unseen, best_on_unseen_items
from surgery_core.sweeps.frames import OF_LOSS, SHARES, between, figure, sweep_frame
from surgery_core.sweeps.request import SweepRequest
from surgery_core.sweeps.rows import METRICS, SweepRow
from surgery_core.sweeps.rows import frame as rows_frame
from surgery_ui.components.arrival import arrival
from surgery_ui.parts import adoption, doubts, sweep_shelf
from surgery_ui.parts.estimate import Estimate
from surgery_ui.parts.problems import show_problem
from surgery_ui.parts.sweep_chart import FILLS, TICK, chart, count, log_switch, metric_choice, plans_of, progress
from surgery_ui.parts.tables import data_table
from surgery_ui.session import session
from surgery_ui.session.state import state
from surgery_ui.session.sweep_entry import Entry
from surgery_ui.sweep_page import comparing as sweep_compare
from surgery_ui.sweep_page import saving as sweep_save
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from surgery_ui.work.kinds import Lane


@dataclass(frozen=True)
class Board:
    """How the work of one lane is shown.

    Attributes:
        lane: whose work.
        draw: shows one entry; it is given what the page works on, and the estimate of what the controls ask for.
        none: what is said where there is nothing yet.
    """

    lane: Lane
    draw: Callable[[Entry, session.Experiment, Estimate], None]
    none: str


def results(now: session.Experiment, board: Board, estimate: Estimate, draft: SweepRequest | None = None) -> None:
    """Show the work of a lane below the controls of its tab; while some runs, look at it again and again.

    Args:
        now: what the page works on.
        board: how it is shown.
        estimate: of what the controls ask for; the model may still be timed.
        draft: what they ask for, where its empty chart is to be shown as long as there is nothing else.
    """
    st.divider()
    arrival("sweep-arrival", state.sweep_starts)
    sweep_compare.shelf(board.lane)
    stage = _stage(board.lane, estimate)
    st.fragment(_live, run_every=TICK if stage != SETTLED else None)(now, board, draft, estimate, stage)


POINTS = {"bars": "bar", "heat": "cell", "lines": "point", "maps": "cell"}
"""What is clicked, by the form of a chart."""


SETTLED = (False, True)
"""Nothing runs, and the model has been timed."""


def _stage(lane: Lane, estimate: Estimate) -> tuple[bool, bool]:
    return sweep_shelf.sync(lane) is not None, all(job.done for job in estimate.jobs)


def _live(
    now: session.Experiment, board: Board, draft: SweepRequest | None, estimate: Estimate, before: tuple[bool, bool]
) -> None:  # fmt: skip
    adoption.follow()
    if (running := sweep_shelf.sync(board.lane)) is not None and running.drawn:
        running.await_first()
    if _stage(board.lane, estimate) != before:
        # Only a whole run redraws the controls that wait for a sweep to end.
        st.rerun()
    entry, others = sweep_shelf.shown(board.lane), sweep_compare.compared() if board.lane is Lane.SWEEP else []
    if entry is None and draft is not None:
        entry = sweep_shelf.draft(now, draft)
    if entry is None:
        st.info(board.none)
    elif others:
        sweep_compare.side_by_side(others, now)
    else:
        board.draw(entry, now, estimate)
        entry.drawn = True


def _one(entry: Entry, now: session.Experiment, estimate: Estimate) -> None:
    """Show one sweep. Its chart keeps its place on the page, so that a browser goes on with the one that it has."""
    above, drawn, below = st.container(), st.container(), st.container()
    with above:
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            with st.container():
                head(entry)
            metric = metric_choice([entry])
            _log_choice(entry, metric)
        _seen(entry)
        trouble(entry, now, estimate)
    with drawn:
        chart(entry, metric, now)
    with below:
        _adopt_field(entry, metric)
        _below(entry, metric)


SWEEPS = Board(
    Lane.SWEEP, _one, "No sweep yet. Choose one above and press Start, or check a paper's finding with one click."
)


def _log_choice(entry: Entry, metric: str) -> None:
    """Show whether the axis or the colours are logarithmic, where that is a question: not of shares."""
    if metric in SHARES:
        return
    values = [float(getattr(row, metric)) for row in entry.rows if row.number >= 0 and not row.refused]
    first = float(getattr(entry.first, metric)) if entry.first is not None else None
    log_switch(metric, values, first, colours=entry.kind.form in ("heat", "maps"))


def _adopt_field(entry: Entry, metric: str) -> None:
    """Show the field that takes a plan over, once the figures stand still."""
    if not entry.done or entry.state in FILLS:
        return
    places = sweep_frame(entry.kind, entry.labels, entry.planned, entry.rows, metric)
    known = places[places["state"].isin(["done", "broken"])]
    said = {
        int(number): f"{x}{', ' if y else ''}{y}: {figure(value, metric)}"
        for number, x, y, value in zip(known["number"], known["x"], known["y"], known["value"], strict=True)
    }
    adoption.field("sweep", plans_of(entry), said, POINTS[entry.kind.form])


def head(entry: Entry) -> None:
    """Show what a sweep is called, of what it is, and how far it is."""
    st.subheader(present.plain(entry.name), anchor=False)
    st.caption(present.plain(_facts(entry)))


def _seen(entry: Entry) -> None:
    """Say in words what is measured, once nothing is added any more; a line that grew would push the chart about."""
    if entry.state in FILLS or not entry.done:
        return
    names = _names(entry) if entry.kind.form == "bars" else {row.number: row.plan for row in entry.rows}
    say(sweep_words.seen(entry.rows, names, state.margin))


def say(said: str, help: str = "") -> None:
    """Show the sentence that says what work came to, if there is one; by default with what its intervals mean."""
    if said:
        st.markdown(present.plain(said), help=help or present.interval_help(state.margin))


def trouble(entry: Entry, now: session.Experiment, estimate: Estimate) -> None:
    """Say what is special about a sweep: opened from a file, broken off, run whole, not done yet."""
    if entry.identity is not None and entry.state == "opened":
        texts = estimate.costs.texts if estimate.costs is not None else None
        different = sweep_words.differences(entry.identity, model_name(now.loaded.info), texts)
        if different:
            st.warning(present.plain(f"Opened to read only: {'; '.join(different)}."))
    if entry.error:
        st.error(present.plain(entry.error))
    if entry.note:
        st.caption(present.plain(entry.note))
    progress(entry, now)
    show_problem("sweep")


def _facts(entry: Entry) -> str:
    request = entry.request
    if entry.state == "planned":
        return f"Press Start and each {POINTS[entry.kind.form]} fills in as soon as it is measured."
    start = entry.identity.start if entry.identity is not None else str(request.start) if request is not None else ""
    texts = entry.identity.texts.split(",")[0] if entry.identity is not None else ""
    model = entry.model.split(" ")[0]
    return f"{model}, from {start or 'no layers'}{', ' if texts else ''}{texts}. {_where(entry)}"


WHOLE = {
    Lane.SWEEP: "All {} plans measured.",
    Lane.SEARCH: "Done: {} removals, one layer at a time.",
    Lane.IMPORTANCE: "All texts are read: {} windows.",
}
"""What is said of work that came to its end, by its lane."""


def _where(entry: Entry) -> str:
    if entry.state == "finished" and entry.done < entry.total:
        return f"Ended at {count(entry)}: no plan without one more layer comes to figures."
    words = {
        "running": "", "paused": f"Paused at {count(entry)}.", "opened": "Opened from a file.",
        "cancelled": f"Cancelled at {count(entry)}.", "failed": f"Stopped at {count(entry)}.",
        "finished": WHOLE[entry.lane].format(entry.total),
    }  # fmt: skip
    return words[entry.state]


def _below(entry: Entry, metric: str) -> None:
    """Show what a sweep says besides its chart."""
    doubts.show(entry.rows)
    if entry.done and metric in OF_LOSS and entry.kind.form != "lines":
        st.caption(sweep_words.MARKS)
    if entry.done and metric == "skill_accuracy" and entry.kind.form != "lines":
        st.caption(sweep_words.MARKS_OF_SKILLS)
    if entry.done == len(entry.planned):
        _best(entry)
    _finding(entry)
    if left := sum(row.left != "" for row in entry.rows):
        st.caption(sweep_words.left_early(left))
    refused = [row for row in entry.rows if row.refused]
    if refused:
        with st.expander(f"{sweep_words.counted(len(refused), 'plan')} refused", icon=":material/block:"):
            data_table(_refusals(refused), height="content", alt="Refused plans and why")
    if entry.done:
        with st.expander("Table", icon=":material/table_rows:"):
            _table(entry)
        sweep_save.save(entry, sweep_save.charts(entry, metric))


def _best(entry: Entry) -> None:
    """Show the best plan on texts, and by its answers on prompts, that its choice has not seen."""
    for found in (best_on_unseen(entry.rows), best_on_unseen_items(entry.rows)):
        if found is not None:
            named = _names(entry)[found.row.number] if entry.kind.form == "bars" else found.row.plan
            st.markdown(present.plain(found.sentence(named)))


def _table(entry: Entry) -> None:
    """Show all rows with the figures that this sweep has, as labels where charts have labels."""
    places = sweep_frame(entry.kind, entry.labels, entry.planned, (), "perplexity").set_index("number")
    frame = rows_frame(entry.rows)
    known = [metric for metric in METRICS if metric in frame and frame[metric].notna().any()]
    shown = pd.DataFrame({entry.kind.x_title: frame["number"].map(places["x"]).fillna("start")})
    if entry.kind.y_title:
        shown[entry.kind.y_title] = frame["number"].map(places["y"]).fillna("")
    shown["Plan"] = frame["plan"]
    number = st.column_config.NumberColumn
    columns = {METRICS[metric]: number(METRICS[metric], format="%.4g") for metric in known}
    rows = sorted(entry.rows, key=lambda row: row.number)
    shown["Verdict"] = [row.within(state.margin).verdict for row in rows]
    if any(row.answers for row in rows):
        shown["Answers"] = [row.skill_verdict for row in rows]
        shown["Skills, 95 %"] = [between(*row.interval("skill_accuracy"), "skill_accuracy") for row in rows]
    data_table(
        shown.assign(**{METRICS[metric]: frame[metric] for metric in known}), column_config=columns,
        alt="All rows of the sweep",
    )  # fmt: skip


def _refusals(rows: Sequence[SweepRow]) -> list[dict[str, str]]:
    return [{"Plan": row.plan, "Why": row.refused} for row in rows[:200]]


def _finding(entry: Entry) -> None:
    paper = sweep_words.PAPERS.get(entry.kind.key)
    if paper is None:
        return
    with st.container(border=True):
        st.markdown(f"**What a paper saw.** {present.plain(paper)} {sweep_words.SMALL}")
        if entry.done == len(entry.planned):
            names = _names(entry)
            if said := sweep_words.here(entry.kind.key, entry.rows, names):
                st.markdown(f"**What this model shows.** {present.plain(said)}")


def _names(entry: Entry) -> dict[int, str]:
    frame = sweep_frame(entry.kind, entry.labels, entry.planned, (), "perplexity")
    swapped = entry.kind.key == "swap-neighbours"
    return {
        int(number): f"{x} with the next" if swapped else str(x)
        for number, x in zip(frame["number"], frame["x"], strict=True)
    }
