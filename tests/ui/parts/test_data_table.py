"""Every table of the app is shown in one way, so that none says "None" where there is no figure."""

from __future__ import annotations

import ast
from pathlib import Path

from streamlit.testing.v1 import AppTest

UI = Path(__file__).resolve().parents[3] / "surgery_ui"
WARMING = "components/early/__init__.py"
"""Shows a table that nobody sees, so that the browser has loaded what draws one."""


def test_no_page_shows_one_by_itself() -> None:
    found = [
        path.relative_to(UI).as_posix()
        for path in UI.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr == "dataframe"
    ]
    assert sorted(found) == [WARMING, "parts/tables.py"]


def test_where_there_is_no_figure_stands_a_dash() -> None:
    def script() -> None:
        from surgery_ui.parts.tables import data_table

        data_table([{"plan": "0-3", "ratio": None}, {"plan": "0,2-3", "ratio": 1.5}], alt="Plans")

    element = AppTest.from_function(script).run().dataframe[0].proto
    assert element.placeholder == "–"
    assert element.alt == "Plans"
