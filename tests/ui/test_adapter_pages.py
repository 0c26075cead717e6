"""A model with an adapter in the app: one model in the picker, its facts, its switch in the strip, and its sweeps."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from surgery_core.models.opening import load_model
from surgery_ui.components import strip
from surgery_ui.sidebar.sidebar import model_labels
from surgery_ui.words import present
from surgery_ui.words import sweeps as sweep_words
from tests.core.support.adapters import save_adapter
from tests.ui.conftest import Open
from tests.ui.support.reading import errors, plan, said, wait
from tests.ui.support.sweeping import entries, run_sweep, sweep_page

KINDS = ("adapter-off", "adapter-only")


@pytest.fixture(scope="module")
def models_folder(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the default model and an adapter for it that is in two of its layers."""
    folder = tmp_path_factory.mktemp("offered")
    shutil.copytree(tiny_folder, folder / "fable")
    save_adapter(folder / "fable", folder / "tuned", layers_to_transform=[1, 2], modules_to_save=["lm_head"])
    return folder


def sent(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the list of what the strip is given from now on."""
    given: list[dict[str, Any]] = []
    monkeypatch.setattr(strip, "_mount", lambda data, **rest: given.append(data))
    return given


def test_the_picker_calls_it_an_adapter_on_its_base(open_app: Open) -> None:
    open_app("models")
    labels = model_labels()
    assert labels["tuned"] == "tuned (adapter on fable)"
    assert labels["fable"] == "fable"


def test_the_models_page_shows_the_facts_of_the_adapter(open_app: Open) -> None:
    app = open_app("models", model="tuned")
    assert not app.exception
    shown = {key: value for table in app.table for key, value in table.value.iloc[:, 0].to_dict().items()}
    assert shown["Adapter"].startswith("tuned, LoRA of rank 4, ")
    assert shown["Adapter is on"].endswith(" in L1 and L2, lm_head")
    assert "q_proj" in shown["Adapter is on"]
    assert shown["Base model"].endswith("fable")
    plain = open_app("models", model="fable")
    assert not any("Adapter" in table.value.index for table in plain.table)


def test_facts_in_words(tiny_folder: Path, tmp_path: Path) -> None:
    folder = save_adapter(tiny_folder, tmp_path / "a", rank_pattern={"q_proj": 2}, target_modules=["q_proj", "v_proj"])
    info = load_model(str(folder)).info
    rows = present.fact_rows(info, paths=True)
    # 32 + 32 and 32 + 16 rows and columns; ranks 2 and 4; four layers
    assert rows["Adapter"] == "a, LoRA of rank 2 to 4, 1.28k parameters"
    assert rows["Adapter is on"] in ("q_proj, v_proj in L0 to L3", "v_proj, q_proj in L0 to L3")
    assert (rows["Base model"], rows["From"]) == (str(tiny_folder), str(folder))
    rows = present.fact_rows(info)
    assert (rows["Base model"], rows["From"]) == (tiny_folder.name, "a")


def test_the_strip_may_switch_only_layers_that_have_an_adapter(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    given = sent(monkeypatch)
    open_app("models", model="tuned", plan="0,1.bare,2-3")
    assert given[-1]["adapted"] == [1, 2]
    assert given[-1]["slots"] == ["0", "1.bare", "2", "3"]
    open_app("models", model="fable")
    assert given[-1]["adapted"] == []


def test_a_switched_slot_of_the_strip_is_read_back() -> None:
    read, _ = strip.read_edit({"slots": ["0", "1.bare", "2.bare.attn*0.5", "(0.bare|3)"], "edit": 1}, 4)
    assert str(read) == "0,(1,2.attn*0.5).bare,(0.bare|3)"
    assert [str(slot) for slot in read] == ["0", "1.bare", "2.bare.attn*0.5", "(0.bare|3)"]


def test_a_link_with_a_switched_layer_opens_and_says_so(open_app: Open) -> None:
    app = open_app(model="tuned", plan="0,1.bare,2-3")
    wait(app, lambda: "The adapter is off in L1." in said(app))
    assert not app.exception
    assert not errors(app)


def test_a_model_without_an_adapter_says_that_it_has_none(open_app: Open) -> None:
    app = open_app("models", model="fable", plan="0,1.bare,2-3")
    assert "this model has none" in errors(app)


def test_the_tool_switches_some_layers_or_all(open_app: Open) -> None:
    app = open_app("models", model="tuned")
    app.multiselect(key="adapter-which").set_value([1, 3])
    app.button(key="FormSubmitter:adapter-Switch off").click().run()
    assert plan(app) == "0,1.bare,2,3.bare"
    app.button(key="FormSubmitter:adapter-Switch off").click().run()
    assert plan(app) == "(0-3).bare"
    app.button(key="FormSubmitter:adapter-Switch on").click().run()
    assert plan(app) == "0-3"
    assert not [box for box in open_app("models", model="fable").multiselect if box.key == "adapter-which"]


def test_only_a_model_with_an_adapter_offers_its_sweeps(open_app: Open) -> None:
    def families(model: str) -> list[str]:
        app = open_app("sweep", model=model)
        return list(app.button_group(key="sweep-family").options)

    assert "Adapter" in str(families("tuned"))
    assert "Adapter" not in str(families("fable"))


@pytest.mark.parametrize("kind", KINDS)
def test_its_sweeps_run_to_their_end_and_say_where_it_lives(open_app: Open, kind: str) -> None:
    app = run_sweep(open_app, kind, model="tuned")
    entry = entries(app)[-1]
    assert not app.exception
    assert not errors(app)
    assert [row.plan for row in entry.rows if row.number == 1] == [
        "0,1.bare,2-3" if kind == "adapter-off" else "0.bare,1,(2-3).bare"
    ]
    shown = said(app)
    assert "All 4 plans measured." in shown
    assert "Here perplexity is highest with" in shown


def test_a_choice_of_adapter_sweeps_gives_way_on_a_model_without_one(open_app: Open) -> None:
    app = sweep_page(open_app, "adapter-off", model="tuned")
    app.selectbox(key="picker").set_value("fable").run()
    assert not app.exception
    assert app.session_state["sweep-family"] == next(iter(sweep_words.FAMILIES))
