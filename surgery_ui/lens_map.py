"""The lens before and after as maps of layers by tokens, and the top ten of a chosen cell."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_core import charts
from surgery_core.errors import Stopped
from surgery_core.lens import Follow, Trajectory
from surgery_core.lens_files import lens_beside
from surgery_core.text import bundled_prompts, visible
from surgery_ui import cached, present, session
from surgery_ui.jobs import Job

WINDOW = 16
"""Tokens that a map shows at once; a slider moves on through longer texts."""
LABELS = 80
"""Room in pixels for the names of the layers beside a map."""
TITLES = {"before": "Before", "after": "After"}


def lens_text() -> str:
    """Show the field with the text that the lens reads, and return the text."""
    state = st.session_state
    prompts = {prompt.title: prompt.text for prompt in bundled_prompts()}
    state["lens-pick"] = next((title for title, text in prompts.items() if text == state["lens"]), None)
    st.pills("Text", list(prompts), key="lens-pick", on_change=_take_text, args=(prompts,))
    st.text_area(
        "Text to read",
        key="lens",
        height=68,
        label_visibility="collapsed",
        persist_state="session",
        on_change=session.touch,
    )
    return str(state["lens"])


def _take_text(prompts: dict[str, str]) -> None:
    session.touch()
    if st.session_state["lens-pick"] is not None:
        st.session_state["lens"] = prompts[st.session_state["lens-pick"]]


LOGIT, TUNED = "Logit lens", "Tuned lens"
ABOUT = {
    LOGIT: "Each cell decodes the residual stream after a layer (rows, last on top) at a token (columns) with the "
    "model's own head. Colour is the probability of the word in the cell.",
    TUNED: "Each cell decodes the residual stream after a layer (rows, last on top) at a token (columns) through a "
    "translator trained for that layer (arXiv 2303.08112), then the model's own head. Colour is the probability of "
    "the word in the cell.",
}
FOLLOW: dict[str, Follow] = {"Their layer": "layer", "Their position": "position"}


def lens_choice(now: session.Experiment) -> cached.Reading:
    """Show which lens reads, where the model came with a tuned one, and return the choice."""
    if lens_beside(now.loaded.info.source) is None:
        st.caption(ABOUT[LOGIT])
        return cached.Reading()
    with st.container(horizontal=True, gap="medium"):
        kind = _segments("Lens", (LOGIT, TUNED), "lens-kind")
        follow = "Their layer"
        if kind == TUNED and not now.plan.is_identity:
            text = (
                "After surgery: whether the row behind layer 5 is read as layer 5's wherever it runs, or by its place."
            )
            follow = _segments("Translators follow", tuple(FOLLOW), "lens-follow", help=text)
    st.caption(ABOUT[kind])
    return cached.Reading(kind == TUNED, FOLLOW[follow])


def _segments(label: str, options: tuple[str, ...], key: str, **more: Any) -> str:
    st.session_state.setdefault(key, options[0])
    chosen = st.segmented_control(
        label, options, key=key, required=True, persist_state="session", on_change=session.touch, **more
    )
    return str(chosen or options[0])


class LensMap:
    """Both maps and the chosen cell's top tokens, drawn when both sides are read."""

    def __init__(self, now: session.Experiment, text: str, reading: cached.Reading) -> None:
        sides = {"before": now.identity} if now.plan.is_identity else {"before": now.identity, "after": now.plan}
        self._jobs = {
            side: cached.lens_job(now.owner, f"lens-{side}", now.loaded, plan, text, reading)
            for side, plan in sides.items()
        }
        self._place = st.container()
        self._drawn = False

    @property
    def jobs(self) -> list[Job[Any]]:
        """Return the jobs to look at."""
        return list(self._jobs.values())

    def show(self) -> None:
        """Draw everything once both sides are there."""
        if self._drawn or not all(job.done for job in self.jobs):
            return
        self._drawn = True
        errors = [job.error for job in self.jobs if job.error is not None]
        with self._place:
            if not errors:
                self._draw({side: job.result for side, job in self._jobs.items()})
            elif not isinstance(errors[0], Stopped):
                st.error(present.plain(str(errors[0])))

    def _draw(self, sides: dict[str, Trajectory]) -> None:
        first = next(iter(sides.values()))
        if first.truncated:
            st.info(present.plain(first.note))
        start = _window(len(first.tokens))
        # Short texts have both maps side by side; where they do not fit, one goes below the other.
        row = st.container(horizontal=True, gap="medium")
        width = LABELS + charts.CELL * min(WINDOW, len(first.tokens))
        for side, trajectory in sides.items():
            place = row.container(width=width)
            place.subheader(TITLES[side], anchor=False)
            # On a narrow screen the map scrolls sideways in its grid, not the page.
            _map(place.grid(1, min_column_width=width, wrap=False), side, trajectory, start)
        _cell(sides, start)
        if "after" not in sides:
            st.caption("Change the plan in the sidebar, and a second map shows the model after surgery.")


def _window(n_tokens: int) -> int:
    """Return the first position to show; a long text gets a slider."""
    if n_tokens <= WINDOW:
        return 0
    last = n_tokens - WINDOW
    st.session_state["lens-start"] = min(st.session_state.get("lens-start", 0), last)
    return int(
        st.slider(
            f"First of {WINDOW} tokens shown, of {n_tokens}",
            0,
            last,
            key="lens-start",
            width=420,
            on_change=session.touch,
        )
    )


def _map(place: DeltaGenerator, side: str, trajectory: Trajectory, start: int) -> None:
    frame = trajectory.frame()
    shown = frame[frame["position"].between(start, start + WINDOW - 1)]
    place.altair_chart(
        charts.lens_map(shown, dark=_dark()),
        width="content",
        key=f"map-{side}",
        on_select=_choose(side),
        alt=f"Lens {side} surgery: the likeliest next token after each layer at each token",
    )


def _dark() -> bool:
    return bool(st.context.theme.type == "dark")


def _choose(side: str) -> Any:
    """Return the callback that keeps the cell that was clicked on this side's map."""

    def take() -> None:
        session.touch()
        chosen = st.session_state[f"map-{side}"]["selection"].get("cell") or []
        if chosen:
            st.session_state["cell"] = (side, int(chosen[0]["row"]), int(chosen[0]["position"]))

    return take


def _cell(sides: dict[str, Trajectory], start: int) -> None:
    """Show the ten likeliest tokens of the chosen cell on both sides; at first the last layer at the last token."""
    side, row, position = st.session_state.get("cell", ("before", -1, -1))
    trajectory = sides.get(side, sides["before"])
    if not 0 <= row < len(trajectory.labels) or not 0 <= position < len(trajectory.tokens):
        row, position = len(trajectory.labels) - 1, min(start + WINDOW, len(trajectory.tokens)) - 1
    st.subheader("Ten likeliest next tokens", anchor=False)
    token = present.plain(visible(trajectory.tokens[position]))
    st.caption(
        f"After {trajectory.labels[row]}, having read the text up to token {position + 1}, “{token}”. "
        "Click a cell for another."
    )
    tops = {name: _top(other, trajectory, row, position) for name, other in sides.items()}
    most = max(frame["probability"].max() for frame in tops.values() if frame is not None)
    for column, (name, frame) in zip(st.columns(2), tops.items(), strict=False):
        column.markdown(f"**{TITLES[name]}**")
        if frame is None:
            column.caption(f"{trajectory.labels[row]} does not run here.")
        else:
            chart = charts.top_tokens(frame, most=float(most), dark=_dark())
            column.altair_chart(chart, alt=f"Ten likeliest tokens {name} surgery", key=f"top-{name}")


def _top(side: Trajectory, chosen: Trajectory, row: int, position: int) -> pd.DataFrame | None:
    """Return a side's top tokens where the chosen one's row is; last rows, the models' outputs, go together."""
    label = chosen.labels[row]
    if row == len(chosen.labels) - 1:
        return side.top(len(side.labels) - 1, position)
    return side.top(side.labels.index(label), position) if label in side.labels else None
