"""Driving the Sweep page without a browser."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from streamlit.testing.v1 import AppTest

from surgery_ui import sweep_words
from surgery_ui.sweep_shelf import Entry

Open = Callable[..., AppTest]


def errors(app: AppTest) -> str:
    return " ".join(re.sub(r"\\(.)", r"\1", error.value) for error in app.error)


def said(app: AppTest) -> str:
    """Return everything that the page says in small print, boxes and paragraphs."""
    kinds = (app.caption, app.info, app.warning, app.markdown, app.error)
    return " ".join(re.sub(r"\\(.)", r"\1", element.value) for kind in kinds for element in kind)


def entries(app: AppTest) -> list[Entry]:
    found: list[Entry] = app.session_state["sweeps"]
    return found


def wait(app: AppTest, condition: Callable[[], object], seconds: float = 60.0) -> AppTest:
    """Run the page again and again, as its fragment does, until something holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert not app.exception
        assert time.monotonic() < end, f"waited too long; the page says {said(app)}"
        time.sleep(0.05)
        app.run()
    return app


def finished(app: AppTest) -> bool:
    return bool(entries(app)) and all(entry.state == "finished" for entry in entries(app))


def sweep_page(open_app: Open, kind: str = "delete", **address: str) -> AppTest:
    app = open_app("sweep", **address)
    family = next(name for name, kinds in sweep_words.FAMILIES.items() if kind in kinds)
    app.session_state["sweep-family"] = family
    app.session_state[f"sweep-kind-{family}"] = kind
    return app.run()


def run_sweep(open_app: Open, kind: str = "delete", **address: str) -> AppTest:
    app = sweep_page(open_app, kind, **address)
    app.button(key="sweep-start").click().run()
    return wait(app, lambda: finished(app)).run()


def click(app: AppTest, number: int) -> AppTest:
    """Do what a click on a bar does: AppTest cannot send chart selections."""
    entry = entries(app)[-1]
    plan = str(entry.planned[number].plan)
    return app.text_input(key="notation").set_value(plan).run()
