"""A report's page: small, offline, whole, and deaf to what a person typed."""

from __future__ import annotations

import json
import shutil
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from surgery_core.charts.offline import chart_page, inside_script
from surgery_core.charts.theme import COLOURS
from surgery_core.cli.options import COMMANDS, main
from surgery_core.errors import ReportError, SettingsError
from surgery_core.keeping.report import page as paging
from surgery_core.keeping.report.asked import PARTS, Asked, AskedSweep
from surgery_core.keeping.report.differences import differing
from surgery_core.keeping.report.evidence import read_page
from surgery_core.keeping.report.figures import Stated, Tolerance, number, read_figure
from surgery_core.keeping.report.findings import find
from surgery_core.keeping.report.markup import marked
from surgery_core.keeping.report.page import report_page
from surgery_core.keeping.report.verify import read_file, verify
from surgery_core.lenses.jacobian import JacobianLens
from surgery_core.lenses.jacobian_files import save_jacobians
from surgery_core.lenses.reading import read_lens
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.recipes.parts import NamedPlan, SweepChoice
from surgery_core.recipes.recipe import Recipe
from surgery_core.surgery.view import operate
from surgery_core.sweeps.options import SweepOptions
from surgery_core.text import Text
from tests.core.lenses.test_jacobian_lens import drawn

ROOT = Path(__file__).resolve().parents[4]
HOSTILE = '</script></title><script>hacked=1</script><img src=x onerror="hacked=1">--><!-- \' " & {x}'


class Page(HTMLParser):
    """Counts the elements of a page, and keeps its scripts and texts."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: dict[str, int] = {}
        self.handlers: list[str] = []
        self.said: dict[str, str] = {}
        self.names: set[str] = set()
        self._name = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] = self.tags.get(tag, 0) + 1
        self.handlers += [name for name, _ in attrs if name.startswith("on") or name in ("src", "href", "srcset")]
        self._name = dict(attrs).get("data-says") or ""
        self.names |= {self._name}

    def handle_endtag(self, tag: str) -> None:
        self._name = ""

    def handle_data(self, data: str) -> None:
        if self._name:
            self.said[self._name] = self.said.get(self._name, "") + data


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder), device="cpu")


def test_a_report_reads_through_the_jacobian_lens_that_came_with_the_model(tiny_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_folder, tmp_path / "with-lens"))
    save_jacobians(drawn(), folder / "jacobian-lens", dtype=torch.float32)
    loaded = load_model(str(folder), device="cpu")
    own = (Text("T", "a b c d e"),)
    recipe = Recipe(loaded.info.name, "0,2", "T", "N", None, (), own, ("P",), lens="The fox", max_new_tokens=3)
    found = find(recipe, Asked(("lens",), "jacobian"), loaded=loaded)
    for read, model in zip(found.lens, (loaded.model, operate(loaded.model, "0,2")), strict=True):
        mine = read_lens(JacobianLens(model, drawn()), model, loaded.tokenizer, "The fox")
        assert (mine.statistics["kl"] == read.statistics["kl"]).all()
    assert "Read through the Jacobian lens that came with the model" in report_page(found)


def test_what_a_person_typed_is_text(tiny: LoadedModel) -> None:
    own = (Text(HOSTILE, f"{HOSTILE} and so on."),)
    plain = Recipe(
        tiny.info.name, "0,2", "T", "N", None, (), (Text("T", "a b c d e"),), ("P",), lens="L", max_new_tokens=3
    )
    hostile = Recipe(tiny.info.name, "0,2", HOSTILE, HOSTILE, None, (), own, (HOSTILE,), lens=HOSTILE, max_new_tokens=3)
    asked = Asked(("plan", "writing", "scores", "lens"))
    usual, found = (Page(report_page(find(recipe, asked, loaded=tiny))) for recipe in (plain, hostile))
    assert found.tags["script"] == usual.tags["script"] == 4
    assert "img" not in found.tags
    assert found.handlers == []
    assert (found.said["title"], found.said["comment"]) == (HOSTILE, HOSTILE)
    assert Recipe.loads(found.said["recipe"]) == hostile


def test_a_hostile_report_is_read_again(tiny: LoadedModel, tmp_path: Path) -> None:
    recipe = Recipe(
        tiny.info.name,
        "0,2",
        HOSTILE,
        texts=(),
        own_texts=(Text(HOSTILE, "a b c d"),),
        prompts=(HOSTILE,),
        max_new_tokens=3,
    )
    path = tmp_path / "report.html"
    path.write_bytes(report_page(find(recipe, loaded=tiny)).encode())
    read = read_file(path)
    assert read.edits == ()
    assert read.evidence.recipe == recipe


def test_only_its_own_scripts_may_run(tiny: LoadedModel) -> None:
    page = report_page(find(Recipe(tiny.info.name, "0,2", texts=(), own_texts=(Text("T", "a b c d"),)), loaded=tiny))
    policy = page[page.index("default-src 'none'") :].split('"')[0]
    script = next(part for part in policy.split("; ") if part.startswith("script-src "))
    assert "unsafe" not in script
    assert script.count("'sha256-") == 2


def test_everything_of_the_bundled_model_is_below_three_megabytes() -> None:
    recipe = Recipe("fable", "0-4,7,6,8.attn*0.5,9-11", prompts=("Once upon a time", "The old king"), lens="The " * 60)
    found = find(recipe, Asked(tuple(PARTS), "tuned", AskedSweep("delete")))
    page = report_page(found)
    assert len(page.encode()) < 3_000_000
    names = Page(page).names
    assert [one.name for one in read_page(page)[0].figures if one.name not in names] == []


def test_a_report_that_gets_too_large_is_refused(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "MOST_BYTES", 1000)
    with pytest.raises(ReportError, match="would have .* MB, and at most .*plan, writing, scores: leave one out"):
        report_page(find(Recipe(tiny.info.name, "0,2", texts=(), own_texts=(Text("T", "a b c d"),)), loaded=tiny))


def test_a_plan_without_layers_and_a_recipe_without_texts(tiny: LoadedModel) -> None:
    page = report_page(find(Recipe(tiny.info.name, "", texts=(), prompts=("A",), max_new_tokens=2), loaded=tiny))
    assert Page(page).said["plan"] == "(no layers)"
    assert [one.name for one in read_page(page)[0].figures] == ["prompt 1: text before", "prompt 1: text after"]


def test_parts_are_checked() -> None:
    with pytest.raises(SettingsError, match="no part 'charts'; there are plan, writing"):
        Asked(("charts",))
    with pytest.raises(SettingsError, match="The part sweep needs a kind"):
        Asked(("sweep",))


def test_what_was_asked_comes_back() -> None:
    swept = AskedSweep("scale", SweepOptions(layer=2, factors=(0.5, 2)), "0-3", skills=True, prompt="A", best=3)
    asked = Asked(tuple(PARTS), "tuned", swept, unproved=True)
    assert Asked.of(json.loads(json.dumps(asked.plain()))) == asked
    # as reports of older versions have it
    assert Asked.of({"parts": ["sweep"], "lens": "logit", "unproved": False, "sweep": {"kind": "delete", "options": {"times": 2,
        "factors": [0.5], "seed": 0}, "start": "0-2"}}).sweep == AskedSweep("delete", SweepOptions(factors=(0.5,)), "0-2")  # fmt: skip
    with pytest.raises(ReportError, match="cannot be read"):
        Asked.of({"parts": ["plan"]})


def test_plans_side_by_side_have_the_figures_that_they_have_alone(tiny: LoadedModel) -> None:
    own, plans = (
        (Text("T", "a b c d e f"), Text("U", "f e d c b a")),
        (NamedPlan("O<b>", "0,2"), NamedPlan("Two", "3-0")),
    )
    recipe = Recipe(tiny.info.name, "0,2", texts=(), own_texts=own, plans=plans)
    page = report_page(find(recipe, Asked(("scores", "plans")), loaded=tiny))
    stated = {one.name: one.value for one in read_page(page)[0].figures}
    of = {"perplexity": "perplexity after", "low end": "ratio, low end", "high end": "ratio, high end"}
    for name in ("perplexity", "ratio", "low end", "high end", "KL", "top-1 kept", "verdict"):
        assert stated[f"plan 1 (O<b>): {name}"] == stated[of.get(name, name)]
    alone = report_page(find(replace(recipe, plan="3-0", plans=()), Asked(("scores",)), loaded=tiny))
    assert stated["plan 2 (Two): KL"] == {one.name: one.value for one in read_page(alone)[0].figures}["KL"]
    assert "<td>O&lt;b&gt;</td>" in page.replace(' class="wide"', "")
    assert not find(recipe, Asked(("scores",)), loaded=tiny).report.plans


def test_a_sweep_has_all_that_it_was_asked_for(tiny: LoadedModel, tmp_path: Path) -> None:
    recipe = Recipe(tiny.info.name, "0,2-3", texts=(), own_texts=(Text("T", "a b c d e f"),))
    swept = AskedSweep("delete", start="0-1", skills=True, prompt="A", new_tokens=4)
    found = find(recipe, Asked(("sweep",), "logit", swept), loaded=tiny)
    page = report_page(found)
    assert "<th>Skills right</th><th>Different pairs in its text</th>" in page.replace(' scope="col"', "").replace(
        ' class="number"', ""
    )
    stated = {one.name: one for one in read_page(page)[0].figures}
    row = next(row for row in found.swept.rows if row.number == 1) if found.swept else None
    assert row is not None
    assert stated["sweep, plan 2: skills right"].value == pytest.approx(row.skill_accuracy)
    assert stated["sweep, plan 2: distinct pairs"].tolerance.kind == "free"
    (tmp_path / "report.html").write_text(page, encoding="utf-8")
    assert verify(tmp_path / "report.html", loaded=tiny).holds


def test_a_sweep_that_is_there_is_taken_over_and_no_other(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe(tiny.info.name, "0,2-3", texts=(), own_texts=(Text("T", "a b c d e f"),))
    asked = Asked(("sweep",), "logit", AskedSweep("delete"))
    first = find(recipe, asked, loaded=tiny).swept
    assert first is not None
    monkeypatch.setattr("surgery_core.keeping.report.findings.sweep", lambda *given, **more: iter(()))
    assert find(recipe, asked, loaded=tiny, swept=first).swept is first
    for other in (replace(recipe, own_texts=(Text("T", "b b c d e f"),)), recipe):
        swept = asked if other is not recipe else Asked(("sweep",), "logit", AskedSweep("delete", start="0-2"))
        found = find(other, swept, loaded=tiny, swept=first).swept
        assert found is not None
        assert found.rows == ()


@pytest.mark.parametrize(
    ("more", "parts", "sweep"),
    [
        (("--with", "all"), tuple(PARTS), AskedSweep("delete")),
        (("--with", "scores,sweep", "--sweep-best", "2"), ("scores", "sweep"), AskedSweep("delete", best=2)),
        (
            ("--sweep", "scale", "--sweep-layer", "1", "--sweep-factors", "0.5,2", "--sweep-skills", "--sweep-start", "0-2"),
            ("plan", "writing", "scores", "sweep"),
            AskedSweep("scale", SweepOptions(layer=1, factors=(0.5, 2)), "0-2", skills=True),
        ),
    ],
)  # fmt: skip
def test_what_the_command_line_asks_a_report_for(
    more: tuple[str, ...], parts: tuple[str, ...], sweep: AskedSweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asked_of(Recipe("fable", "0-3", texts=()), more, tmp_path, monkeypatch)
    assert (asked.parts, asked.sweep) == (parts, sweep)


def test_a_recipes_own_sweep_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe("fable", "0-3", texts=(), sweep=SweepChoice("repeat", SweepOptions(times=3), 2))
    asked = asked_of(recipe, ("--sweep-times", "4"), tmp_path, monkeypatch)
    assert asked.parts == ("plan", "writing", "scores", "sweep")
    assert asked.sweep == AskedSweep("repeat", SweepOptions(times=4), "0-3", best=2)


def asked_of(recipe: Recipe, more: tuple[str, ...], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    """Return what the command asks for, without measuring it."""
    seen: list[Asked] = []

    def write(recipe: Recipe, to: str, asked: Asked, **how: Any) -> None:
        seen.append(asked)
        raise SettingsError("Enough.")

    monkeypatch.setattr("surgery_core.keeping.report.written.write_report", write)
    recipe.dump(folder / "a.toml")
    assert main(("report", str(folder / "a.toml"), "--to", str(folder / "new.html"), *more)) == 2
    return seen[0]


@given(st.text(), st.text())
def test_both_texts_are_whole_again(before: str, after: str) -> None:
    left, right = differing(before, after)
    assert ("".join(text for text, _ in left), "".join(text for text, _ in right)) == (before, after)
    assert [text for text, same in left if same] == [text for text, same in right if same]


def test_differing_words_are_marked() -> None:
    left, right = differing("The old king was sad.", "The young king was sad.")
    assert left == [("The", True), (" old", False), (" king was sad.", True)]
    assert marked(right, "ins") == "The <ins>young</ins> king was sad."


@given(st.floats(), st.sampled_from(["relative", "absolute"]), st.floats(0, 1))
def test_a_figure_comes_back(value: float, kind: Any, by: float) -> None:
    one = number("n", value, Tolerance(kind, by))
    back, seal = read_figure(json.loads(json.dumps(one.plain())))
    assert seal == back.seal == one.seal
    assert one.agrees(back.value)


@pytest.mark.parametrize(
    ("tolerance", "value", "now", "agrees"),
    [
        (Tolerance("relative", 0.01), 100.0, 100.9, True),
        (Tolerance("relative", 0.01), 100.0, 101.1, False),
        (Tolerance("absolute", 0.5), 1.0, 1.4, True),
        (Tolerance("absolute", 0.5), 1.0, 1.6, False),
        (Tolerance("relative", 0.01), float("nan"), float("nan"), True),
        (Tolerance("relative", 0.01), float("inf"), 5.0, False),
        (Tolerance("exact"), "one", "two", False),
        (Tolerance("beginning", 3), "once", "oncf", True),
        (Tolerance("beginning", 4), "once", "oncf", False),
    ],
)
def test_tolerances(tolerance: Tolerance, value: Any, now: Any, agrees: bool) -> None:
    assert Stated("n", value, tolerance).agrees(now) is agrees


def test_the_colours_are_those_of_the_app() -> None:
    themes = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["theme"]
    for dark, name in ((False, "light"), (True, "dark")):
        for kind, colours in COLOURS[dark].items():
            assert list(colours) == themes[name][f"chart{kind}Colors"]


def test_a_chart_by_itself_has_the_same_libraries() -> None:
    page = chart_page({"mark": "bar", "data": {"values": [{"a": "</script>"}]}}, "<b>")
    assert "<title>&lt;b&gt;</title>" in page
    assert page.count("</script>") == 3
    assert inside_script("a</script>b") == "a\\x3c/script>b"


def test_the_command_writes_both_kinds(tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a b c d e f", encoding="utf-8")
    assert {"report", "verify"} <= set(COMMANDS)
    recipe = tmp_path / "recipe.toml"
    Recipe(str(tiny_folder), "0,2", texts=(), own_texts=(Text("T", "a b c d"),), prompts=("A",)).dump(recipe)
    page = tmp_path / "report.html"
    assert (
        main(("report", str(recipe), "--to", str(page), "--title", "Mine", "--comment", "So.", "--sweep", "delete"))
        == 0
    )
    evidence, _ = read_page(page.read_text(encoding="utf-8"))
    assert (evidence.recipe.title, evidence.recipe.note) == ("Mine", "So.")
    assert evidence.asked.parts == ("plan", "writing", "scores", "sweep")
    assert main(("report", str(recipe), "--to", str(tmp_path / "kept.toml"), "--with", "scores", "--json")) == 0
    assert json.loads(capsys.readouterr().out.partition("\n")[2])["figures"][0]["name"] == "perplexity before"
    assert Recipe.load(tmp_path / "kept.toml") == Recipe.load(recipe)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--to", "there.html"), "is there already"),
        (("--to", "report.pdf"), "does not end in .html or .toml"),
        (("--to", "no/report.html"), "no folder"),
        (("--to", "new.html", "--with", "charts"), "no part 'charts'"),
        (("--to", "new.html", "--sweep-best", "2"), "--sweep-best is of a sweep, and none is asked for"),
        (("--to", "new.html", "--sweep", "nothing"), "nothing"),
        (("--to", "new.html", "--with", "plan", "--recipe", "b.toml"), "Give the recipe once"),
    ],
)
def test_what_a_report_cannot_be(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    more: tuple[str, ...], said: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("there.html").write_text("mine", encoding="utf-8")
    Recipe(str(tiny_folder), "0,2", texts=(), prompts=("A",)).dump("a.toml")
    assert main(("report", "a.toml", *more)) == 2
    assert said in capsys.readouterr().err
    assert Path("there.html").read_text(encoding="utf-8") == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.toml", "there.html"]
