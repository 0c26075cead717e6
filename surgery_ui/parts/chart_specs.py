"""Charts as specifications: made once for many redraws, and safely beside other threads.

Altair keeps its theme and data transformer in globals. Streamlit changes them while it converts a chart, under a lock
of its own; whatever else converts a chart has to hold that lock too. Streamlit is pinned, and tests would notice if
these two names were gone.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import streamlit as st
from streamlit.elements.vega_charts import _altair_globals_lock as altair_lock
from streamlit.elements.vega_charts import _convert_altair_to_vega_lite_spec as to_spec

from surgery_core.charts.larger import larger
from surgery_core.charts.style import legible
from surgery_ui.session.state import state
from surgery_ui.work.kept import Kept

Specs = dict[str, tuple[Hashable, dict[str, Any]]]
"""The newest specification of each chart, with what it was made of."""


PRESENTED = 1.25
"""How many times as large type and charts are for a projector."""
_kept: Kept[dict[str, Any]] = Kept(256)


def show(chart: Any, *, key: str, alt: str, made_of: Hashable = None, place: Any = st, **more: Any) -> None:
    """Draw a chart in colours that can be read, on a page that is light or dark.

    Args:
        chart: of Altair, or what makes it where `made_of` is given.
        key, alt: of the element.
        made_of: everything that the chart depends on besides the page's colours and size; it is made again only when that
            has changed. A map takes half a second, and a click elsewhere on the page would wait for it.
        place: where it goes.
        more: for `st.vega_lite_chart`.
    """
    spec = _spec(chart) if made_of is None else _newest(state.chart_specs, key, (made_of, dark()), chart)
    place.vega_lite_chart(None, dict(spec), key=key, alt=alt, height=_height(spec), **more)


def show_kept(made_of: Hashable, make: Callable[[], Any], *, key: str, alt: str) -> None:
    """Draw a chart that many people see alike; it is made once for all of them, as long as what it is made of stays.

    Making one takes a tenth of a second, and a page of cards has thirty.
    """
    spec = _kept.get((made_of, dark(), times()), lambda: _spec(make()))
    # Streamlit takes the data out of the dictionary that it is given
    st.vega_lite_chart(None, dict(spec), key=key, alt=alt, height=_height(spec))


def dark() -> bool:
    """Return whether the page is dark."""
    return bool(st.context.theme.type == "dark")


def times() -> float:
    """Return how many times as large as usual things are drawn."""
    return PRESENTED if state.present else 1.0


def draw(
    specs: Specs, name: str, made_of: Hashable, make: Callable[[], Any], *, key: str,
    on_select: Callable[[], None] | None = None, alt: str,
) -> None:  # fmt: skip
    """Draw a chart, which may be clicked; it is made again only when what it is made of has changed.

    A chart that fills is drawn several times a second for everybody who watches, and mostly nothing is new.
    """
    spec = _newest(specs, name, made_of, make)
    # Streamlit takes the data out of the dictionary that it is given.
    st.vega_lite_chart(None, dict(spec), key=key, on_select=on_select or "ignore", alt=alt, height=_height(spec))


def _newest(specs: Specs, name: str, made_of: Hashable, make: Callable[[], Any]) -> dict[str, Any]:
    """Return a chart's specification, made again only when what it is made of has changed."""
    known = specs.get(name)
    if known is None or known[0] != (made_of, times()):
        known = specs[name] = ((made_of, times()), _spec(make()))
    return known[1]


def _height(spec: dict[str, Any]) -> Any:
    """Return how high a chart will be, where it says so: with that nothing moves when the browser has drawn it."""
    tall = spec.get("height")
    return round(tall) if isinstance(tall, (int, float)) else "content"


def _spec(chart: Any) -> dict[str, Any]:
    """Return a chart as a specification, in colours and at the size of this session's page."""
    unchecked: Any = _Unchecked(legible(chart, dark=dark()))
    spec = dict(to_spec(unchecked))
    return spec if times() == 1 else larger(spec, times())


class _Unchecked:
    """A chart that is not held against Vega-Lite's schema when it is converted: tests do that, and it is over half of the time."""

    def __init__(self, chart: Any) -> None:
        self.chart = chart

    def to_dict(self) -> dict[str, Any]:
        """Return the chart's specification."""
        spec: dict[str, Any] = self.chart.to_dict(validate=False)
        return spec


__all__ = ["PRESENTED", "Specs", "altair_lock", "dark", "draw", "show", "show_kept", "times"]
