"""What a browser is given early, so that nothing moves while a page is being drawn.

Streamlit's browser side loads the code of each kind of element when one is first shown, and until then a placeholder
that is 38 pixels high stands in its place; once the code is there, it still waits for up to half a second. So the first
run of a session shows one of each kind at once, in a place that nobody sees, before anything else is drawn. What is
drawn from then on has its own height from the beginning. `surgery_ui.document` has the files fetched ahead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from surgery_ui.session.state import state

KEY = "early"
SIDEBAR_WIDTH = {False: 340, True: 410}
"""In pixels, by whether type is larger."""
FILES = (
    "ArrowVegaLiteChart", "BidiComponent", "Button", "ButtonGroup", "Checkbox", "DataFrame", "DownloadButton",
    "FileUploader", "Html", "Metric", "Multiselect", "NumberInput", "PageLink", "Progress", "Selectbox", "Slider",
    "TextArea", "TextInput",
)  # fmt: skip
"""Files of Streamlit's browser side that have the kinds of elements of these pages, by how their names begin."""
_mount = st.components.v2.component("model_surgery_early", html="<i></i>")


@contextmanager
def kinds() -> Iterator[DeltaGenerator]:
    """Have a session's browser load the code of every kind of element while the run goes on.

    Yields:
        The first place of the page; whatever is in it goes when the run ends.
    """
    place = st.empty()
    if not state.kinds_loaded:
        state.kinds_loaded = True
        with place.container(key=KEY):
            _each()
    try:
        yield place
    finally:
        place.empty()


def _each() -> None:
    """Show one of each kind that is higher than its placeholder, those first that pages begin with; none can be used."""
    st.selectbox("1", ["1"], key="early-select", disabled=True)
    st.text_input("1", key="early-text", disabled=True)
    _mount(key="early-component", height=1)
    st.button("1", key="early-button", disabled=True)
    st.segmented_control("1", ["1"], key="early-segments", disabled=True)
    st.toggle("1", key="early-toggle", disabled=True)
    st.metric("Perplexity", 1)
    st.html("<p>1</p>")
    st.progress(0)
    st.vega_lite_chart(None, {"mark": "point", "data": {"values": []}}, key="early-chart")
    st.dataframe({"1": [1]}, key="early-table")
    st.page_link("https://localhost", label="1", disabled=True)
    st.text_area("1", key="early-area", disabled=True)
    st.number_input("1", 0, 1, key="early-number", disabled=True)
    st.multiselect("1", ["1"], key="early-several", disabled=True)
    st.select_slider("1", ["1", "2"], key="early-slider", disabled=True)
    st.file_uploader("1", key="early-file", disabled=True)
