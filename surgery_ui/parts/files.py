"""Files that a page hands out: tables, charts, texts; their names, kinds and buttons."""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO, StringIO
from typing import Any

import streamlit as st

from surgery_core.charts.offline import chart_page
from surgery_core.charts.theme import vega_config
from surgery_ui.parts.chart_specs import altair_lock

WIDTH = 760
"""Of a saved chart, in pixels."""
PNG_SCALE = 2.0
CHARTS = ("svg", "png", "html")
"""Kinds of files of a chart."""
MIMES = {
    "csv": "text/csv", "json": "application/json", "parquet": "application/vnd.apache.parquet", "md": "text/markdown",
    "svg": "image/svg+xml", "png": "image/png", "html": "text/html", "toml": "application/toml",
    "py": "text/x-python", "ipynb": "application/x-ipynb+json", "yaml": "application/yaml", "zip": "application/zip",
    "gguf": "application/octet-stream",
}  # fmt: skip
"""By a file's ending."""


def buttons(stem: str, files: Mapping[str, Any], key: str) -> None:
    """Show a button for each file.

    Args:
        stem: of the files' names.
        files: by kind: what is in it, or what makes it when it is asked for.
        key: what the buttons' keys begin with.
    """
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption("Save:", width="content")
        for kind, data in files.items():
            st.download_button(
                kind.upper(), data, f"{stem}.{kind}", MIMES[kind], key=f"{key}-{kind}", on_click="ignore"
            )


def rendered(chart: Any, kind: str, theme: dict[str, Any]) -> bytes:
    """Return a chart as a file, in the app's light colours."""
    chart = chart.properties(background="#ffffff").configure(**theme)
    chart = chart.configure_view(strokeWidth=0)
    if kind == "png":
        binary = BytesIO()
        with altair_lock:
            chart.save(binary, format="png", scale_factor=PNG_SCALE)
        return binary.getvalue()
    text = StringIO()
    with altair_lock:
        if kind == "html":
            spec = chart.to_dict()
            return chart_page(spec, _title_of(spec)).encode("utf-8")
        chart.save(text, format=kind)
    return text.getvalue().encode("utf-8")


def palette() -> dict[str, Any]:
    """Return the app's light colours and type as Vega-Lite's configuration."""
    colours = {
        name: list(st.get_option(f"theme.light.chart{name}Colors") or [])
        for name in ("Categorical", "Sequential", "Diverging")
    }
    return vega_config(colours=colours)


def _title_of(spec: dict[str, Any]) -> str:
    """Return what a chart's page is called: its title, where that is a plain one."""
    title = spec.get("title", "")
    title = title.get("text", "") if isinstance(title, dict) else title
    return title if isinstance(title, str) and title else "A chart"


def stem(name: str, otherwise: str = "sweep") -> str:
    """Return a name as the beginning of a file's: small letters, digits and hyphens."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower() or otherwise
