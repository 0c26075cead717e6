"""The plan's picture on the Surgery page."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from streamlit.testing.v1 import AppTest

from surgery_ui.components.picture import show_plan

Open = Callable[..., AppTest]


def pictures(app: AppTest) -> list[str]:
    """Return the drawings that the page hands to the browser."""
    protos = [json.dumps(str(one.proto)) for one in app.get("bidi_component")]
    return [proto for proto in protos if "The plan " in proto]


def test_an_operated_model_has_one_and_the_unchanged_has_none(open_app: Open) -> None:
    assert not pictures(open_app())
    (shown,) = pictures(open_app(plan="0,2"))
    assert "The plan 0,2" in shown


def test_both_drawings_are_given(monkeypatch: Any) -> None:
    from surgery_core.plans.plan import LayerPlan
    from surgery_ui.components import picture

    sent: dict[str, Any] = {}
    monkeypatch.setattr(picture, "_mount", lambda **given: sent.update(given))
    show_plan(LayerPlan.parse("1,0", 2), dark=True)
    assert {name: f'width="{width}"' in sent["data"][name] for name, width in (("wide", 780), ("narrow", 340))} == {
        "wide": True, "narrow": True,
    }  # fmt: skip
