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

from surgery_core.charts.style import legible

Specs = dict[str, tuple[Hashable, dict[str, Any]]]
"""The newest specification of each chart, with what it was made of."""


def show(chart: Any, *, key: str, alt: str, place: Any = st, **more: Any) -> None:
    """Draw a chart in colours that can be read, on a page that is light or dark."""
    place.altair_chart(legible(chart, dark=dark()), key=key, alt=alt, **more)


def dark() -> bool:
    """Return whether the page is dark."""
    return bool(st.context.theme.type == "dark")


def draw(
    specs: Specs, name: str, made_of: Hashable, make: Callable[[], Any], *, key: str, on_select: Callable[[], None],
    alt: str,
) -> None:  # fmt: skip
    """Draw a chart that can be clicked; it is made again only when what it is made of has changed.

    A chart that fills is drawn several times a second for everybody who watches, and mostly nothing is new.
    """
    known = specs.get(name)
    if known is None or known[0] != made_of:
        known = specs[name] = (made_of, dict(to_spec(legible(make(), dark=dark()))))
    # Streamlit takes the data out of the dictionary that it is given.
    st.vega_lite_chart(None, dict(known[1]), key=key, on_select=on_select, alt=alt)


__all__ = ["Specs", "altair_lock", "dark", "draw", "show"]
