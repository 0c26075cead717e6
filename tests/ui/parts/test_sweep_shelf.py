"""A session's sweeps without a browser: compared, renamed, saved, reopened."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from surgery_core.sweeps.file import SweepResult
from surgery_core.sweeps.rows import SweepRow
from surgery_ui.sweep_page import saving as sweep_save
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, said, wait
from tests.ui.support.sweeping import click, entries, finished, run_sweep


def test_two_sweeps_stand_side_by_side(open_app: Open) -> None:
    app = run_sweep(open_app)
    app.session_state["sweep-kind-Delete"] = "delete-mlp"
    app.run()
    app.button(key="sweep-start").click().run()
    wait(app, lambda: finished(app)).run()
    first, second = entries(app)
    assert app.selectbox(key="sweep-list").value == second.number
    app.multiselect(key="sweep-others").set_value([first.number]).run()
    assert len(app.get("vega_lite_chart")) == 2
    assert not app.exception
    domains = [
        json.loads(chart.proto.spec)["layer"][0]["encoding"]["y"]["scale"]["domain"]
        for chart in app.get("vega_lite_chart")
    ]
    assert domains[0] == domains[1]


def test_a_sweep_is_renamed_and_removed(open_app: Open) -> None:
    app = run_sweep(open_app)
    app.text_input(key="sweep-name-1").set_value("My first").run()
    assert entries(app)[0].name == "My first"
    app.button(key="sweep-remove").click().run()
    assert not entries(app)
    assert "Press Start" in said(app)


def test_a_sweep_survives_other_pages(open_app: Open) -> None:
    app = run_sweep(open_app)
    app.switch_page("../pages/models.py").run()
    app.switch_page("../pages/sweep.py").run()
    assert "All 4 plans measured." in said(app)


@pytest.fixture
def uploaded() -> Callable[[AppTest, str, bytes], AppTest]:
    """Return the function that gives the page a file, as its upload field does."""

    def give(app: AppTest, name: str, data: bytes) -> AppTest:
        number = app.session_state["sweep-uploads"] if "sweep-uploads" in app.session_state else 0  # noqa: SIM401
        return app.file_uploader(key=f"sweep-file-{number}").upload(name, data).run()

    return give


def test_refused_plans_are_listed_with_their_reason(open_app: Open, uploaded: Any) -> None:
    app = run_sweep(open_app)
    result = entries(app)[0].result
    refused = SweepRow(0, 0, None, "1-3", refused="layer 0 owns the embedding norm")
    rows = tuple(refused if row.number == 0 else row for row in result.rows)
    uploaded(app, "refused.json", SweepResult(result.identity, rows).to_json().encode())
    assert not app.error
    listed = next(frame.value for frame in app.dataframe if "Why" in frame.value)
    assert listed.to_dict("records") == [{"Plan": "1-3", "Why": "layer 0 owns the embedding norm"}]
    drawn = json.loads(app.get("vega_lite_chart")[0].proto.spec)
    assert any(layer["encoding"].get("text", {}).get("field") == "mark" for layer in drawn["layer"])


def test_a_saved_sweep_is_reopened_as_it_was(open_app: Open, uploaded: Any) -> None:
    app = run_sweep(open_app)
    result = entries(app)[0].result
    for name, data in (("a.csv", result.to_csv()), ("b.json", result.to_json())):
        uploaded(app, name, data.encode())
        assert not app.exception
        assert not app.error
        again = entries(app)[-1]
        assert again.state == "opened"
        assert [row.perplexity for row in again.rows] == [row.perplexity for row in result.rows]
        assert "read only" not in said(app)
    assert len(entries(app)) == 3


def test_a_file_of_another_model_or_other_texts_is_labelled_with_what_differs(open_app: Open, uploaded: Any) -> None:
    app = run_sweep(open_app)
    result = entries(app)[0].result
    uploaded(app, "other.csv", result.to_csv().replace(result.identity.model, "gpt2 abc float32").encode())
    wait(app, lambda: "Opened to read only" in said(app))
    assert "“gpt2 abc float32”" in said(app)
    uploaded(app, "texts.csv", result.to_csv().replace(result.identity.texts, "3 texts, 0123456789abcdef").encode())
    wait(app, lambda: "other texts (3 texts, 0123456789abcdef" in said(app))
    assert len(entries(app)) == 3


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.csv", b"", "no rows"),
        ("a.csv", b"x,y\n1,2\n", "no column"),
        ("a.json", b"{}", "no sweep"),
        ("a.csv", b"\xff\xfe\x00", "not text"),
        ("a.json", b'{"sweep": {"model": 1}, "rows": [{}]}', ""),
    ],
)
def test_a_wrong_file_is_refused_and_nothing_is_lost(
    open_app: Open, uploaded: Any, name: str, data: bytes, reason: str
) -> None:
    app = run_sweep(open_app)
    uploaded(app, name, data)
    assert not app.exception
    assert len(app.error) == 1
    assert reason in errors(app)
    assert len(entries(app)) == 1
    assert "All 4 plans measured." in said(app)


@pytest.mark.usefixtures("clickable")
def test_a_file_with_a_plan_that_does_not_fit_opens_but_does_not_change_the_strip(
    open_app: Open, uploaded: Any
) -> None:
    app = run_sweep(open_app)
    text = entries(app)[0].result.to_csv().replace('"0,2-3"', '"0,2-99"')
    uploaded(app, "odd.csv", text.encode())
    assert entries(app)[-1].planned[1].plan == "0,2-99"
    click(app, 1)
    assert "no layer 99" in errors(app)
    assert app.query_params["plan"] == "0-3"


@pytest.mark.parametrize("kind", ["svg", "png", "html"])
def test_a_chart_is_saved_with_everything_inside(open_app: Open, kind: str) -> None:
    app = run_sweep(open_app)
    entry = entries(app)[0]
    theme = {"range": {"category": ["#123456"]}, "mark": {"color": "#123456"}}
    data = sweep_save.chart_file(entry, "perplexity", kind, theme)
    if kind == "png":
        assert data.startswith(b"\x89PNG")
        return
    text = data.decode("utf-8")
    assert "Delete each layer" in text
    assert "123456" in text
    assert not re.search(r'<(script|link)[^>]+(src|href)="?https?:', text)


def test_the_saved_colours_are_the_apps(open_app: Open) -> None:
    from streamlit import config

    palette = sweep_save.palette()
    assert palette["range"]["category"] == list(config.get_option("theme.light.chartCategoricalColors"))
