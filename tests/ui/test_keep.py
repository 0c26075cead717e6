"""What "Keep" hands out on each page, and what it takes back."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.recipe import Recipe
from surgery_ui.sidebar import keep as keep_popover

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[..., AppTest]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Open the popover on every page, and return the files that it offers by their names."""
    files: dict[str, Any] = {}
    real = st.delta_generator.DeltaGenerator.download_button

    def offer(self: Any, label: str, data: Any, file_name: str, *rest: Any, **more: Any) -> Any:
        files[file_name] = data
        return real(self, label, data, file_name, *rest, **more)

    class Opened:
        def __init__(self, place: Any) -> None:
            self.place, self.open = place, True

        def __enter__(self) -> Any:
            return self.place.__enter__()

        def __exit__(self, *error: Any) -> Any:
            return self.place.__exit__(*error)

    popover = st.popover
    monkeypatch.setattr(st.delta_generator.DeltaGenerator, "download_button", offer)
    monkeypatch.setattr(st, "download_button", lambda *args, **more: offer(st._main, *args, **more))
    monkeypatch.setattr(
        keep_popover.st, "popover", lambda label, **more: Opened(popover(label, **more)) if label == "Keep" else popover(label, **more)
    )  # fmt: skip
    return files


def run(folder: Path, source: str, models: Path) -> str:
    (folder / "kept.py").write_text(source, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT), "MODEL_SURGERY_MODELS": str(models), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "kept.py"], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_script_of_the_surgery_page_prints_what_the_page_shows(
    open_app: Open, kept: dict[str, Any], models_folder: Path, tmp_path: Path
) -> None:
    app = open_app(plan="0,2", seed="3", length="6")
    assert not app.exception
    printed = run(tmp_path, kept["fable-surgery.py"], models_folder)
    values = {one.label: one.value for one in app.metric}
    for figure in (values["Bits per byte"], values["Top-1 agreement"], values["Mean KL"]):
        assert figure in printed
    table = app.dataframe[0].value
    for row in table.itertuples():
        line = f"{row.title}: perplexity {row.perplexity_before:.2f} -> {row.perplexity_after:.2f}, ×{row.ratio:.2f}"
        assert line in printed


@pytest.mark.parametrize("page", ["surgery", "lens", "sweep", "skills", "models"])
def test_every_page_offers_its_script_and_recipe(open_app: Open, kept: dict[str, Any], page: str) -> None:
    app = open_app(None if page == "surgery" else page, plan="0,2")
    assert not app.exception
    assert {f"fable-{page}.py", f"fable-{page}.ipynb"} <= set(kept)
    recipes = [Recipe.loads(text) for name, text in kept.items() if name.endswith(".toml")]
    assert {recipe.plan for recipe in recipes} >= {"0,2"}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("surgery", {"perplexity.csv", "perplexity.parquet", "the-plan.svg", "the-plan.png", "the-plan.html"}),
        ("lens", {"every-layer-and-token.json", "probability.svg"}),
        ("skills", {"skills.csv", "accuracy-by-skill.png"}),
        ("models", {"facts.csv"}),
    ],
)
def test_tables_and_charts_are_made_when_asked_for(
    open_app: Open, kept: dict[str, Any], page: str, names: set[str]
) -> None:
    app = open_app(None if page == "surgery" else page, plan="0,2")
    assert not app.exception
    assert names <= set(kept)
    for name in names:
        data = kept[name]()
        assert data.startswith({"png": b"\x89PNG", "svg": b"<svg"}.get(name.rpartition(".")[2], data[:1]))


def test_a_recipe_comes_back_as_it_went(open_app: Open, kept: dict[str, Any]) -> None:
    first = open_app(plan="2,0*0.5", prompt="Deep in the wood", seed="7", temperature="0.5", length="4")
    (text,) = [text for name, text in kept.items() if name.endswith(".toml")]
    kept.clear()
    second = open_app()
    kept.clear()
    recipe = Recipe.loads(text)
    assert (recipe.plan, recipe.prompts, recipe.seed, recipe.temperature) == ("2,0*0.5", ("Deep in the wood",), 7, 0.5)
    assert not first.exception
    upload = next(one for one in second.sidebar.get("file_uploader"))
    upload.set_value([("kept.toml", text.encode(), "application/toml")]).run()
    assert not second.exception
    (again,) = [text for name, text in kept.items() if name.endswith(".toml")]
    assert Recipe.loads(again) == recipe


def test_a_file_that_is_no_recipe_is_said_beside_it(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app()
    upload = next(one for one in app.sidebar.get("file_uploader"))
    upload.set_value([("kept.toml", b"version = 1\nmodel = 'fable'\nplan = '0'\nlayers = 3", "application/toml")]).run()
    assert any("unknown field" in one.value for one in app.error)


def test_nothing_is_made_while_it_is_closed(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery_core.keeping.script.script", lambda shown: pytest.fail("made"))
    assert not open_app(plan="0,2").exception


def test_a_checkpoint_is_made_when_it_is_asked_for(open_app: Open, kept: dict[str, Any], tmp_path: Path) -> None:
    import io
    import zipfile

    from transformers import AutoModelForCausalLM

    app = open_app(plan="0,2.mlp")
    assert not any(name.endswith(".zip") for name in kept)
    app.button(key="keep-prepare").click().run()
    assert not app.exception
    with zipfile.ZipFile(io.BytesIO(kept["fable-operated.zip"])) as archive:
        archive.extractall(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "fable-operated").config.num_hidden_layers == 2


def test_what_a_checkpoint_cannot_hold_is_a_sentence(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app(plan="0,(1|2)")
    app.button(key="keep-prepare").click().run()
    assert any("cannot hold" in one.value.replace("\\", "") for one in app.error)


def test_a_size_limit_and_none_at_all(open_app: Open, kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_DOWNLOAD_MB", "0")
    app = open_app(plan="0,3")
    assert not [one for one in app.button if one.key == "keep-prepare"]


def test_the_unchanged_model_has_no_checkpoint_to_make(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app()
    assert not [one for one in app.button if one.key == "keep-prepare"]


def test_a_merge_goes_out_and_comes_in(open_app: Open, kept: dict[str, Any]) -> None:
    first = open_app(plan="0,2-3,1.attn")
    assert not first.exception
    text = kept["fable-mergekit.yaml"]
    second = open_app()
    (pasted,) = [one for one in second.text_area if one.key == "keep-pasted"]
    pasted.set_value(text).run()
    assert not second.exception
    assert second.query_params["plan"] == ["0,2-3,1.attn"] or second.query_params["plan"] == "0,2-3,1.attn"


def test_another_merge_is_refused_by_name(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app()
    (pasted,) = [one for one in app.text_area if one.key == "keep-pasted"]
    pasted.set_value("merge_method: slerp").run()
    assert any("slerp" in one.value for one in app.error)


def links(app: AppTest) -> list[str]:
    """Return what "Copy link" would copy, of all such buttons on the page."""
    return [
        found
        for one in app.get("bidi_component")
        for found in re.findall(r'"query": ?"([^"]*)', str(one.proto).replace("\\", ""))
    ]


def test_a_link_holds_the_text_the_comment_and_how_the_lens_reads(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app("lens", plan="0,2", comment="Look at the end", statistic="entropy", inside="True")
    assert not app.exception
    assert any("Look at the end" in one.value for one in app.info)
    assert app.session_state["lens-metric"] == "entropy"
    assert app.session_state["lens-sublayers"] is True
    (query,) = links(app)
    sent = {name: values[0] for name, values in parse_qs(query).items()}
    assert (sent["comment"], sent["statistic"], sent["inside"]) == ("Look at the end", "entropy", "True")
    assert len(sent["revision"]) == 12


def test_a_text_of_ones_own_goes_along_in_a_link(open_app: Open) -> None:
    app = open_app(plan="0,2", text="Mine\nThere was a fox. It ran.")
    assert not app.exception
    assert any("Mine" in list(one.value["title"]) for one in app.dataframe)
    (query,) = links(app)
    assert parse_qs(query)["text"] == ["Mine\nThere was a fox. It ran."]


def test_a_text_too_long_for_a_link_is_said(open_app: Open) -> None:
    import random

    letters = "".join(random.Random(1).choices("abcdefghijklmnopqrstuvwxyz ", k=4_000))
    app = open_app(plan="0,2")
    app.text_area(key="prompt").set_value(letters).run()
    assert any("Too long for a link: the prompt." in one.value for one in app.caption)


def test_a_link_of_another_revision_says_so(open_app: Open) -> None:
    app = open_app(plan="0,2", revision="feedface0000")
    assert any("made with revision feedface0000" in one.value for one in app.error)
    assert not any("revision" in one.value for one in open_app(plan="0,2").error)


def test_a_comment_is_typed_once_and_kept_in_the_recipe(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app(plan="0,2")
    kept.clear()
    app.text_input(key="keep-comment").set_value("Layer 1 hardly matters.").run()
    (text,) = [text for name, text in kept.items() if name.endswith(".toml")]
    assert Recipe.loads(text).note == "Layer 1 hardly matters."
    assert parse_qs(links(app)[0])["comment"] == ["Layer 1 hardly matters."]


def test_what_a_page_has_no_place_for_is_said(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app()
    (pasted,) = [one for one in app.text_area if one.key == "keep-pasted"]
    pasted.set_value('version = 1\nmodel = "fable"\nplan = "0"\nprompts = ["a", "b"]\ntexts = []').run()
    assert any("2 prompts and a choice of bundled texts" in one.value for one in app.error)


def test_another_set_of_texts_goes_into_the_recipe_and_comes_back(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app("models", plan="0,2", texts="stories")
    (text,) = [text for name, text in kept.items() if name.endswith(".toml")]
    assert Recipe.loads(text).text_set == ChosenSet("stories")
    assert not app.exception
    second = open_app("models")
    (pasted,) = [one for one in second.text_area if one.key == "keep-pasted"]
    pasted.set_value(text).run()
    assert second.session_state["text-set"] == "stories"
    assert not second.error


@pytest.mark.parametrize("page", ["surgery", "lens", "sweep", "skills", "models"])
def test_every_page_makes_a_report_that_holds(open_app: Open, kept: dict[str, Any], tmp_path: Path, page: str) -> None:
    from surgery_core.keeping.report.verify import verify

    app = open_app(None if page == "surgery" else page, plan="0,2", length="6")
    assert not any(name.endswith(".html") and name.startswith("mine") for name in kept)
    app.text_input(key="keep-report-title").set_value("Mine <b>").run()
    app.button(key=f"keep-report-{page}").click().run()
    assert not app.exception
    path = tmp_path / "report.html"
    path.write_bytes(kept["mine-b.html"]())
    assert '<h1 data-says="title">Mine &lt;b&gt;</h1>' in path.read_text(encoding="utf-8")
    result = verify(path, device="cpu")
    assert result.holds, [line for line in result.lines if not line.holds]
    names = {line.name.partition(" ")[0].rstrip(",:") for line in result.lines}
    assert {"perplexity", "verdict", "prompt"} <= names
    assert ("lens" in names, "skill" in names) == (page == "lens", page == "skills")


def test_a_report_of_something_else_is_asked_for_anew(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app(plan="0,2")
    app.text_input(key="keep-report-title").set_value("First").run()
    app.button(key="keep-report-surgery").click().run()
    assert "first.html" in kept
    app.text_input(key="keep-report-title").set_value("Second").run()
    assert "second.html" not in kept
    assert app.button(key="keep-report-surgery").label == "Make the report"


def test_a_report_takes_no_layers_from_a_model_that_is_not_open(models_folder: Path) -> None:
    from surgery_core.keeping.report.asked import Asked
    from surgery_core.models.opening import load_model
    from surgery_core.plans.plan import LayerPlan
    from surgery_ui.work.plan_jobs import report_job

    loaded = load_model(str(models_folder / "fable"), device="cpu")
    plan = LayerPlan.parse("0,absent:2", 4)
    job = report_job("somebody", loaded, plan, Recipe("fable", str(plan)), Asked())
    assert job.wait(30)
    assert "'absent', which is not open" in str(job.error)
