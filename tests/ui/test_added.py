"""Presets and sweeps of another package are on the pages like those that come with the app."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from surgery_core import all_kinds, all_presets, load_skills
from surgery_core.measure.skills import items
from tests.core.support.packages import declare
from tests.ui.conftest import ROOT, Open
from tests.ui.support.reading import errors, plan
from tests.ui.support.sweeping import entries, run_sweep

PLUGIN = ROOT / "examples" / "plugin" / "model_surgery_example"
POINTS = {
    "presets": "example = model_surgery_example.presets:PRESETS",
    "sweeps": "example = model_surgery_example.sweeps:DELETE_TWO",
    "skills": "example = model_surgery_example.skills",
}


@pytest.fixture(autouse=True)
def _installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Lay the example package where it is found, as if it were installed."""
    declare(tmp_path, "anything", POINTS, "")
    shutil.copytree(PLUGIN, tmp_path / PLUGIN.name)
    monkeypatch.syspath_prepend(tmp_path)
    for found in (all_presets, all_kinds, items.all_skills):
        found.cache_clear()
    yield
    for found in (all_presets, all_kinds, items.all_skills):
        found.cache_clear()


def test_its_preset_is_applied(open_app: Open) -> None:
    app = open_app()
    app.selectbox(key="preset").select("every-second").run()
    app.button(key="preset-apply").click().run()
    assert not app.exception, errors(app)
    assert plan(app) == "0,2"


def test_its_sweep_runs_and_is_drawn(open_app: Open) -> None:
    app = run_sweep(open_app, "delete-two")
    assert not app.exception
    assert [row.plan for row in entries(app)[0].rows][-6:] == ["2-3", "1,3", "1-2", "0,3", "0,2", "0-1"]
    assert len(app.get("vega_lite_chart")) == 1


def test_its_skill_is_loaded_with_the_others() -> None:
    assert "days" in [skill.name for skill in load_skills()]
