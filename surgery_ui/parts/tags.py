"""Chosen values of a multiselect in the dark theme: dark ink on petrol, for Streamlit's white has a contrast of 2.6."""

import streamlit as st

from surgery_ui.parts.chart_specs import dark

INK = "#0e1518"
CSS = f"<style>[data-testid='stMultiSelectTagsContainer'] [data-tag] {{ color: {INK} }}</style>"


def legible() -> None:
    """Make them legible on this page."""
    if dark():
        st.html(CSS)
