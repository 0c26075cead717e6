"""What "Keep" hands out on each page, and what it takes back."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import hypothesis
import pytest
import streamlit
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from surgery_core.keeping.script import PAGES
from surgery_core.models.opening import load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.recipe import Recipe
from surgery_core.suture.stitch import _Work, stitch
from surgery_core.text import read_text
from surgery_ui.parts.asked_sweep import OWN, PICK
from surgery_ui.parts.files import stem
from surgery_ui.sidebar import keep as keep_popover
from surgery_ui.work.limits import Limits
from tests.core.support.gguf_files import write_llama
from tests.ui.support.reading import wait
from tests.ui.support.sweeping import entries, finished, open_tab, run_sweep, sweep_page

ROOT = Path(__file__).resolve().parents[2]
Open = Callable[..., AppTest]
PLAN_PAGES = tuple(page for page in PAGES if page != "gallery")
"""Pages that show the session's plan; the gallery's experiments are in tests/ui/gallery_page."""


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Open the popover on every page, and return the files that it offers by their names."""
    files: dict[str, Any] = {}
    real = streamlit.delta_generator.DeltaGenerator.download_button

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

    popover = streamlit.popover
    monkeypatch.setattr(streamlit.delta_generator.DeltaGenerator, "download_button", offer)
    monkeypatch.setattr(streamlit, "download_button", lambda *args, **more: offer(streamlit._main, *args, **more))
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


@pytest.mark.parametrize("page", PLAN_PAGES)
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


@pytest.mark.parametrize(
    ("tab", "start", "charts"),
    [
        ("Sweep", "sweep-start", ("perplexity", "top-1-kept")),
        ("Removal", "search-start", ("greedy-removal",)),
        ("Importance", "importance-start", ("block-influence", "angular-distance-of-blocks")),
    ],
)
def test_the_sweep_page_hands_out_its_charts_and_its_table(
    open_app: Open, kept: dict[str, Any], tab: str, start: str, charts: tuple[str, ...]
) -> None:
    app = open_tab(open_app, tab, plan="0-3")
    app.button(key=start).click().run()
    app = wait(app, lambda: finished(app)).run()
    assert not app.exception
    offered = {str(one) for box in app.selectbox if box.key == "keep-chart" for one in box.options}
    for chart in charts:
        title = next(one for one in offered if chart == stem(one))
        next(box for box in app.selectbox if box.key == "keep-chart").set_value(title).run()
        for kind, begins in (("svg", b"<svg"), ("png", b"\x89PNG"), ("html", b"<!doctype html>")):
            assert kept[f"{chart}.{kind}"]().lower().startswith(begins.lower())
    (table,) = [name for name in kept if name.endswith(".csv") and name.startswith(("delete", "greedy", "importance"))]
    assert len(kept[table]().splitlines()) >= 4


def test_a_recipe_of_the_sweep_page_has_its_sweep_and_fills_the_page_in_again(
    open_app: Open, kept: dict[str, Any]
) -> None:
    app = sweep_page(open_app, "scale", plan="3,0-2")
    app.session_state["sweep-factors"], app.session_state["sweep-from"] = "0.5, 2", "The unchanged model"
    app.session_state["sweep-writes"] = True
    app.run().button(key="sweep-start").click().run()
    app = wait(app, lambda: finished(app)).run()
    assert not app.exception
    (text,) = [text for name, text in kept.items() if name.endswith(".toml")]
    found = Recipe.loads(text).sweep
    assert found is not None
    assert (found.kind, found.options.factors, found.start) == ("scale", (0.5, 2.0), "0-3")
    assert found.prompt
    second = open_app("sweep")
    (pasted,) = [one for one in second.text_area if one.key == "keep-pasted"]
    pasted.set_value(text).run()
    assert not second.exception
    assert not second.error
    asked = [second.session_state[key] for key in ("sweep-factors", "sweep-from", "sweep-writes", "sweep-skills")]
    assert asked == ["0.5, 2", "The unchanged model", True, False]
    second.button(key="sweep-start").click().run()
    second = wait(second, lambda: finished(second)).run()
    assert entries(second)[0].request == entries(app)[0].request


@pytest.mark.parametrize("which", [PICK, OWN])
@pytest.mark.parametrize("cut", ["each", "papers"])
def test_a_recipe_of_the_sweep_page_has_the_texts_that_were_chosen_for_it(
    open_app: Open, kept: dict[str, Any], which: str, cut: str
) -> None:
    app = sweep_page(open_app, "delete", plan="0-3", cut=cut)
    app.segmented_control(key="sweep-texts").set_value(which).run()
    if which == PICK:
        titles = app.multiselect(key="sweep-picked").options
        app.multiselect(key="sweep-picked").set_value([titles[1], titles[3]]).run()
    else:
        app.text_area(key="own-typed").set_value("There was a fox, and it had nothing to eat. " * 8).run()
        app.button(key="own-score").click().run()
    app.button(key="sweep-start").click().run()
    app = wait(app, lambda: finished(app)).run()
    assert not app.exception
    (text,) = [text for name, text in kept.items() if name.endswith(".toml")]
    second = open_app("sweep")
    second.segmented_control(key="sweep-texts").set_value(OWN if which == PICK else PICK).run()
    (pasted,) = [one for one in second.text_area if one.key == "keep-pasted"]
    pasted.set_value(text).run()
    assert not second.exception
    assert second.segmented_control(key="sweep-texts").value == which
    second.button(key="sweep-start").click().run()
    second = wait(second, lambda: finished(second)).run()
    assert entries(second)[0].request == entries(app)[0].request
    assert len(entries(second)[0].request.texts) == (2 if which == PICK and cut == "each" else 1)


def test_a_report_takes_over_the_sweep_that_is_shown(
    open_app: Open, kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    app = run_sweep(open_app, plan="0-3")
    monkeypatch.setattr(
        "surgery_core.keeping.report.findings.sweep", lambda *given, **more: pytest.fail("run once more")
    )
    app.session_state["keep-report-parts-sweep"] = ["scores", "sweep"]
    app.run().button(key="keep-report-sweep").click().run()
    assert not app.exception
    (report,) = [data for name, data in kept.items() if name.endswith(".html") and name.startswith("fable")]
    assert b"sweep, plan 4: perplexity" in report()


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


words = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=30).map(str.strip)
experiments = st.fixed_dictionaries(
    {
        "page": st.sampled_from(["surgery", "compare", "lens", "sweep", "skills", "models", "gallery"]),
        "plan": st.sampled_from(["", "2,0*0.5", "(0|2),3.attn", "1x3,mean(2)"]),
        "prompt": words.filter(bool),
        "lens": words.filter(bool),
        "comment": words,
        "text": st.tuples(words.filter(bool), words.filter(bool)).map("\n".join),
        "tray": st.sampled_from(["", "One\t0,2", "One\t0,2\nTwo\t3-0"]),
        "texts": st.sampled_from(["short", "stories"]),
        "cut": st.sampled_from(["each", "papers"]),
        "same": st.sampled_from(["2", "7.5"]),
        "seed": st.integers(0, 99).map(str),
        "temperature": st.sampled_from(["0", "0.7"]),
        "top_k": st.sampled_from(["0", "5"]),
        "top_p": st.sampled_from(["1", "0.9"]),
        "length": st.integers(1, 4).map(str),
    }
)


@hypothesis.settings(max_examples=3, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@given(experiments)
def test_every_pages_recipe_opens_again_without_loss(
    open_app: Open, kept: dict[str, Any], asked: dict[str, str]
) -> None:
    page = None if (name := asked.pop("page")) == "surgery" else name
    recipes = []
    for given_address in (asked, {}):
        kept.clear()
        app = open_app(page, **given_address)
        if recipes:
            kept.clear()
            (pasted,) = [one for one in app.text_area if one.key == "keep-pasted"]
            pasted.set_value(recipes[0]).run()
        assert not app.exception
        assert not [one.value for one in app.error if "Opened" in one.value]
        (text,) = [text for name, text in kept.items() if name.endswith(".toml")]
        recipes.append(text)
    assert recipes[0] == recipes[1]
    first = Recipe.loads(recipes[0])
    assert (first.plan, first.seed) == (str(LayerPlan.parse(asked["plan"], 4)), int(asked["seed"]))
    assert len(first.plans) == len(asked["tray"].splitlines())


def test_a_file_that_is_no_recipe_is_said_beside_it(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app()
    upload = next(one for one in app.sidebar.get("file_uploader"))
    upload.set_value([("kept.toml", b"version = 1\nmodel = 'fable'\nplan = '0'\nlayers = 3", "application/toml")]).run()
    assert any("unknown field" in one.value for one in app.error)


@pytest.mark.parametrize(
    "pasted", ['{"cells": [], "nbformat": 3, "nbformat_minor": 0}', "\0", "merge_method: &a [*a]", "x" * 2_000_000]
)
def test_what_is_pasted_and_is_no_recipe_is_one_sentence(open_app: Open, kept: dict[str, Any], pasted: str) -> None:
    app = open_app("models")
    (field,) = [one for one in app.text_area if one.key == "keep-pasted"]
    field.set_value(pasted).run()
    assert not app.exception
    (said,) = [one.value for one in app.error]
    assert said.endswith(".")
    assert len(said) < 300


def test_a_name_cannot_lead_to_another_folder() -> None:
    assert stem("../../etc/pass wd") == "etc-pass-wd"
    assert stem("..\\C:\\x") == "c-x"
    assert stem("/", "sweep") == "sweep"


def test_nothing_is_made_while_it_is_closed(open_app: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery_core.keeping.script.script", lambda shown: pytest.fail("made"))
    assert not open_app(plan="0,2").exception


def test_a_checkpoint_is_made_when_it_is_asked_for(open_app: Open, kept: dict[str, Any], tmp_path: Path) -> None:
    import io
    import zipfile

    from transformers import AutoModelForCausalLM

    app = open_app(plan="0,2.mlp")
    assert not any(name.endswith(".zip") for name in kept)
    app.button(key="keep-prepare-zip").click().run()
    assert not app.exception
    with zipfile.ZipFile(io.BytesIO(kept["fable-operated.zip"])) as archive:
        archive.extractall(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "fable-operated").config.num_hidden_layers == 2


def test_what_a_checkpoint_cannot_hold_is_a_sentence(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app(plan="0,(1|2)")
    app.button(key="keep-prepare-zip").click().run()
    assert any("cannot hold" in one.value.replace("\\", "") for one in app.error)


def test_a_model_from_a_gguf_file_goes_into_one_and_others_say_why_not(
    open_app: Open, kept: dict[str, Any], models_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_llama(tmp_path / "packed.gguf", "Q8_0")
    monkeypatch.setenv("MODEL_SURGERY_MODELS", f"{models_folder}{os.pathsep}{tmp_path}")
    app = open_app(model="packed", plan="2,0")
    app.button(key="keep-prepare-gguf").click().run()
    assert not app.exception
    (tmp_path / "new.gguf").write_bytes(kept["packed-operated.gguf"])
    assert load_model(str(tmp_path / "new.gguf")).info.n_layers == 2
    for model, plan, said in (("packed", "0,1*2", "cannot hold 1"), ("fable", "0,2", "not opened from a GGUF file")):
        other = open_app(model=model, plan=plan)
        assert not [one for one in other.button if one.key == "keep-prepare-gguf"]
        assert any(one.value.startswith("No GGUF file: ") and said in one.value for one in other.caption)


def test_a_size_limit_and_none_at_all(open_app: Open, kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("surgery_ui.work.keep_jobs.limits", lambda: Limits(download_mb=0))
    app = open_app(plan="0,3")
    assert not [one for one in app.button if one.key == "keep-prepare-zip"]


def test_the_unchanged_model_has_no_checkpoint_to_make(open_app: Open, kept: dict[str, Any]) -> None:
    app = open_app()
    assert not [one for one in app.button if one.key == "keep-prepare-zip"]


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


@pytest.mark.parametrize("page", PLAN_PAGES)
def test_every_page_makes_a_report_that_holds(open_app: Open, kept: dict[str, Any], tmp_path: Path, page: str) -> None:
    from surgery_core.keeping.report.verify import verify

    app = open_app(None if page == "surgery" else page, plan="0,2", length="6", tray="One\t0,2\nTwo\t3,0-2")
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
    found = ("lens" in names, "skill" in names, "plan" in names)
    assert found == (page == "lens", page == "skills", page == "compare")


def test_the_report_of_a_stitched_plan_has_the_plain_cut_and_the_stitch_beside_each_other(
    open_app: Open, kept: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random model predicts no text, so every stitch counts as better here; each is fitted once for all of the report."""
    from surgery_core.keeping.report.verify import verify

    fitted, falling = list[int](), itertools.count(0, -1)
    few = tuple(read_text(f"{one} ran to the sea, and {one} slept.", one) for one in ("fox", "hen", "ox"))
    monkeypatch.setattr(_Work, "nats", lambda work, view, told: float(next(falling)))
    for place in ("surgery_core.recipes.run", "surgery_ui.work.plan_jobs"):
        monkeypatch.setattr(f"{place}.calibration_texts", lambda: few)
    monkeypatch.setattr(
        "surgery_core.recipes.run.stitch", lambda *given, **more: fitted.append(1) or stitch(*given, **more)
    )
    app = open_app(plan="0,~,3", length="6", tray="Same\t0,3\nOther\t0-2")
    app.button(key="keep-report-surgery").click().run()
    assert not app.exception
    (page,) = [data() for name, data in kept.items() if name.endswith(".html") and name.startswith("fable")]
    path = tmp_path / "report.html"
    path.write_bytes(page)
    assert len(fitted) == 1
    result = verify(path, device="cpu")
    assert result.holds, [line for line in result.lines if not line.holds]
    figures = {line.name: line.stated for line in result.lines}
    names = [name.removesuffix(": perplexity") for name in figures if re.fullmatch(r"plan \d .*: perplexity", name)]
    assert names == ["plan 1 (Cut)", "plan 2 (Stitched)", "plan 3 (Other)"]
    assert figures["plan 2 (Stitched): perplexity"] == figures["perplexity after"]
    assert figures["plan 1 (Cut): perplexity"] != figures["perplexity after"]


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
    from surgery_ui.work.keep_jobs import report_job

    loaded = load_model(str(models_folder / "fable"), device="cpu")
    plan = LayerPlan.parse("0,absent:2", 4)
    job = report_job("somebody", loaded, plan, Recipe("fable", str(plan)), Asked())
    assert job.wait(30)
    assert "'absent', which is not open" in str(job.error)
