"""Driving the Sweep page without a browser."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest

from surgery_ui.session.sweep_entry import Entry
from surgery_ui.words import sweeps as sweep_words
from tests.ui.conftest import Open
from tests.ui.support.reading import wait


def entries(app: AppTest) -> list[Entry]:
    found: list[Entry] = app.session_state["sweeps"]
    return found


def finished(app: AppTest) -> bool:
    return bool(entries(app)) and all(entry.state == "finished" for entry in entries(app))


def sweep_page(open_app: Open, kind: str = "delete", **address: str) -> AppTest:
    app = open_app("sweep", **address)
    family = next(name for name, kinds in sweep_words.families().items() if kind in kinds)
    app.session_state["sweep-family"] = family
    app.session_state[f"sweep-kind-{family}"] = kind
    return app.run()


def open_tab(open_app: Open, tab: str, **address: str) -> AppTest:
    app = open_app("sweep", **address)
    app.session_state["sweep-tab"] = tab
    return app.run()


def run_sweep(open_app: Open, kind: str = "delete", **address: str) -> AppTest:
    app = sweep_page(open_app, kind, **address)
    app.button(key="sweep-start").click().run()
    return wait(app, lambda: finished(app)).run()


def click(app: AppTest, number: int) -> AppTest:
    """Click on a bar. Only where `clickable` stands in for charts."""
    box = next(box for box in app.selectbox if str(box.key).startswith("sweep-chart-"))
    return box.select_index(1 + number).run()
