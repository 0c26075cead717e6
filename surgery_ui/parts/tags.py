"""What only the dark theme needs of style: chosen values of a multiselect that can be read, and pages for paper.

Streamlit's white on petrol has a contrast of 2.6. On paper everything is dark on white: words by their colour, and what
is drawn (charts, tables, components) turned from light to dark, its hues kept.
"""

import streamlit as st

from surgery_ui.parts.chart_specs import dark

INK = "#0e1518"
CSS = f"""<style>
[data-testid='stMultiSelectTagsContainer'] [data-tag] {{ color: {INK} }}
@media print {{
  html, body, .stApp, .stApp :is(.stAppViewContainer, .stMain, .stMainBlockContainer, .stMainBlockContainer *) {{
    color: {INK} !important; background-color: transparent !important; border-color: #b9c3c7 !important;
  }}
  .stApp :is(.stVegaLiteChart, .stDataFrame, [data-testid='stBidiComponentIsolated']) {{ filter: invert(1) hue-rotate(180deg); }}
}}
</style>"""


def legible() -> None:
    """Make them legible on this page."""
    if dark():
        st.html(CSS)
