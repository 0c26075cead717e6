"""Plans side by side: keeping, renaming, using and removing them; links; figures against the library's own."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from surgery_core import bundled_texts, compare, load_model, operate
from surgery_core.measure.results import Comparison
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.parts import MOST_PLANS
from surgery_ui.session.tray import MAX_NAME, MOST, read
from surgery_ui.surgery_page import said
from surgery_ui.words.plans import side_by_side
from tests.ui.conftest import Open

TWO = "Without the second\t0,2,3\nBackwards\t3-0"


def figures(app: Any) -> Any:
    return next(frame.value for frame in app.dataframe if "kl" in frame.value)


def names(app: Any) -> list[str]:
    return list(next(frame.value for frame in app.dataframe if "picture" in frame.value)["name"])


def test_nothing_is_kept_at_first_and_the_page_says_what_to_do(open_app: Open) -> None:
    app = open_app("compare")
    assert not app.exception
    assert "Nothing stands here yet" in app.info[0].value
    assert app.button(key="tray-keep").disabled


def test_the_present_plan_is_kept_once_and_stands_in_the_link(open_app: Open) -> None:
    app = open_app("compare", plan="0,2,3")
    app.button(key="tray-keep").click().run()
    assert names(app) == ["Without L1"]
    assert app.query_params["tray"] == "Without L1\t0,2-3"
    assert app.button(key="tray-keep").disabled
    app.text_input(key="notation").set_value("0,1,1,2,3").run()
    app.button(key="tray-keep").click().run()
    assert names(app) == ["Without L1", "With L1 twice"]


def test_figures_are_those_of_the_library(open_app: Open, models_folder: Path) -> None:
    app = open_app("compare", tray=TWO)
    found = figures(app)
    loaded = load_model(str(models_folder / "fable"))
    for at, plan in enumerate(("0,2,3", "3-0"), 1):
        wanted = compare(loaded.model, operate(loaded.model, plan), loaded.tokenizer, bundled_texts())
        assert found["perplexity"][at] == pytest.approx(wanted.operated.perplexity, rel=1e-5)
        assert found["kl"][at] == pytest.approx(wanted.kl, rel=1e-4)
        assert found["top1"][at] == pytest.approx(100 * wanted.top1)
        assert found["verdict"][at] == wanted.verdict().word
    assert list(found["name"]) == ["Unchanged model", "Without the second", "Backwards"]
    assert found["perplexity"][0] == pytest.approx(wanted.base.perplexity, rel=1e-5)


def test_use_rename_and_remove(open_app: Open) -> None:
    app = open_app("compare", tray=TWO)
    app.selectbox(key="tray-chosen").set_value("Backwards").run()
    app.button(key="tray-use").click().run()
    assert app.query_params["plan"] == "3-0"
    app.text_input(key="tray-name").set_value("  Round   about ")
    next(button for button in app.button if button.label == "Rename it").click().run()
    assert names(app) == ["Without the second", "Round about"]
    assert app.selectbox(key="tray-chosen").value == "Round about"
    app.button(key="tray-remove").click().run()
    assert names(app) == ["Without the second"]
    app.button(key="tray-remove").click().run()
    assert "Nothing stands here yet" in app.info[0].value
    assert "tray" not in app.query_params


def test_a_seventh_plan_is_refused_and_the_others_stay(open_app: Open) -> None:
    six = "\n".join(f"p{at}\t0*0.{at + 1},1-3" for at in range(MOST))
    app = open_app("compare", tray=six, plan="0,2,3")
    assert len(names(app)) == MOST
    assert app.button(key="tray-keep").disabled


def test_a_damaged_link_is_named_and_the_rest_is_kept(open_app: Open) -> None:
    app = open_app("compare", tray=f"{TWO}\nToo deep\t0-99\nno tab")
    assert names(app) == ["Without the second", "Backwards"]
    assert any("Too deep” was left out" in str(one.value).replace("\\", "") for one in [*app.error, *app.warning])


def test_names_and_plans_of_a_link_are_made_unique_and_bounded() -> None:
    found, problems = read(f"a\t0,1\na\t1,0\nb\t0-1\n{'x' * 99}\t1\n\t0", 2)
    assert [one.name for one in found] == ["a", "a (2)", "x" * MAX_NAME, "Without L1"]
    assert problems == []
    assert len(read("\n".join(f"p{at}\t{','.join(['0'] * (at + 1))}" for at in range(20)), 2)[0]) == MOST


def test_what_is_no_line_of_a_link_and_what_is_one_too_many_are_said() -> None:
    lines = [f"Plan {at}\t{at}-11" for at in range(8)]
    found, problems = read("\n".join(["no tab", *lines, lines[0], ""]), 12)
    assert [one.name for one in found] == [f"Plan {at}" for at in range(6)]
    assert problems == [
        "Of the link's plans side by side, 'no tab' was left out: each line is a name, a tab and a plan.",
        "6 plans stand side by side at most; 2 more of the link's were left out.",
    ]


def test_a_plan_that_is_refused_has_a_reason_and_no_figures(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from surgery_core.errors import RefusedPlanError
    from surgery_ui.work import plan_jobs

    def refuse(model: Any, tokenizer: Any, plan: LayerPlan, **more: Any) -> None:
        if str(plan) == "3-0":
            raise RefusedPlanError("This is not right.", None)

    monkeypatch.setattr(plan_jobs, "prove", refuse)
    plan_jobs.WORK.forget(lambda key: key[0] == "proof")
    app = open_app("compare", tray=TWO)
    found = figures(app)
    assert found["verdict"][2] == "no figures"
    assert found["perplexity"].isna().tolist() == [False, False, True]
    assert any("This is not right" in str(one.value).replace("\\", "") for one in app.warning)
    plan_jobs.WORK.forget(lambda key: key[0] == "proof")


def test_a_sentence_says_which_costs_least(models_folder: Path) -> None:
    loaded = load_model(str(models_folder / "fable"))

    def of(plan: str) -> Comparison:
        return compare(loaded.model, operate(loaded.model, plan), loaded.tokenizer, bundled_texts())

    found = {"a": of("0,2,3"), "b": of("3-0"), "c": of("0-3")}
    least, most = (pick(found, key=lambda name: found[name].ratio) for pick in (min, max))
    said = side_by_side(found)
    assert said.startswith(f"Of 3 plans “{least}” costs least")
    assert f"and “{most}” most" in said
    assert "cannot be told from the unchanged model" in said
    assert side_by_side({"c": found["c"]}) == "“c” makes perplexity ×1.00 what it was."
    assert side_by_side({}) == ""


def test_as_many_stand_on_the_page_as_in_a_recipe() -> None:
    assert MOST == MOST_PLANS


def test_a_verdict_is_made_once_however_often_a_page_looks(
    monkeypatch: pytest.MonkeyPatch, models_folder: Path
) -> None:
    loaded = load_model(str(models_folder / "fable"))
    plan = LayerPlan.parse("0,2,3", loaded.info.n_layers)
    found = compare(loaded.model, operate(loaded.model, plan), loaded.tokenizer, bundled_texts())
    made: list[float] = []
    whole = Comparison.within
    monkeypatch.setattr(Comparison, "within", lambda self, margin: made.append(margin) or whole(self, margin))
    monkeypatch.setattr(said.looks, "note", lambda plan, figure: None)
    done = SimpleNamespace(done=True, error=None, result=found)
    writes = SimpleNamespace(done=False, error=None, result=None)
    now = SimpleNamespace(plan=plan, identity=LayerPlan.identity(loaded.info.n_layers), loaded=loaded)
    drawn: list[str] = []
    place = SimpleNamespace(markdown=lambda text, **more: drawn.append(text) or place)
    section = said.Said(now, place, done, {"before": writes, "after": writes})  # type: ignore[arg-type]
    for _ in range(5):
        section.show()
    assert len(made) == len(drawn) == 1
    assert drawn[0].startswith("Without L1 ")
