"""Reports that are run again: figures held to plain transformers, every edit named, other runs agreed with."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from surgery_core.cli.options import main
from surgery_core.errors import ReportError
from surgery_core.keeping.checkpoint import export_checkpoint
from surgery_core.keeping.report import verify as verifying
from surgery_core.keeping.report.asked import PARTS, Asked, AskedSweep
from surgery_core.keeping.report.evidence import Evidence, read_page, recipe_with_figures
from surgery_core.keeping.report.findings import Findings, find
from surgery_core.keeping.report.firm import firm_beginning
from surgery_core.keeping.report.page import report_page
from surgery_core.keeping.report.stating import figures_of
from surgery_core.keeping.report.verify import verify
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.recipes.recipe import Recipe
from surgery_core.recipes.studied import run_study
from surgery_core.text import Text
from tests.core.support.recipes import HARD_AS_WRITTEN
from tests.core.support.studies import loss_of, small_studies

TEXTS = (Text("One", "The old woman had a cat, and the cat had nine lives."), Text("Two", "A b c d e f g. " * 3))
OPEN = '<script type="application/json" id="evidence">'
EVERYTHING = Asked(tuple(part for part in PARTS if part != "skills"), "logit", AskedSweep("delete"))


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path) -> LoadedModel:
    return load_model(str(tiny_folder), device="cpu")


@pytest.fixture(scope="module")
def recipe(tiny: LoadedModel) -> Recipe:
    return Recipe(
        tiny.info.name, "0,2-3", title="Without L1", note="One layer less.", texts=(), own_texts=TEXTS,
        prompts=("The old",), max_new_tokens=6, lens="The cat",
    )  # fmt: skip


@pytest.fixture(scope="module")
def found(recipe: Recipe, tiny: LoadedModel) -> Findings:
    return find(recipe, EVERYTHING, loaded=tiny)


@pytest.fixture(scope="module")
def page(found: Findings) -> str:
    return report_page(found)


@pytest.fixture
def same_run(monkeypatch: pytest.MonkeyPatch, found: Findings) -> None:
    """Let a verification measure nothing: it has what the report has."""
    monkeypatch.setattr(verifying, "find", lambda *given, **more: found)


@pytest.fixture
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def written(tmp_path: Path, text: str, name: str = "report.html") -> Path:
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8"))
    return path


def stated(page: str) -> dict[str, Any]:
    return {one.name: one for one in read_page(page)[0].figures}


def wrong(path: Path, tiny: LoadedModel) -> list[tuple[str, str]]:
    result = verify(path, loaded=tiny)
    assert result.holds == (not any(not line.holds for line in result.lines))
    return [(line.name, line.outcome) for line in result.lines if not line.holds]


def block(page: str) -> tuple[str, dict[str, Any], str]:
    """Return what stands before the block of figures, the block, and what stands behind it."""
    match = re.search(r'(?s)^(.*<script type="application/json" id="evidence">)(.*?)(</script>.*)$', page)
    assert match is not None
    return match[1], json.loads(match[2]), match[3]


def test_figures_are_those_of_plain_transformers(page: str, tiny_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float64).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    ids = [tokenizer(text.text, return_tensors="pt").input_ids for text in TEXTS]

    def losses() -> list[float]:
        with torch.no_grad():
            return [
                torch.nn.functional.cross_entropy(
                    model(one, use_cache=False).logits[0, :-1], one[0, 1:], reduction="sum"
                ).item()
                for one in ids
            ]

    n = [one.shape[1] - 1 for one in ids]
    before = losses()
    model.model.layers = torch.nn.ModuleList([model.model.layers[index] for index in (0, 2, 3)])
    model.config.num_hidden_layers = 3
    after = losses()
    known = stated(page)
    expected = {
        "perplexity before": torch.tensor(sum(before) / sum(n)).exp().item(),
        "perplexity after": torch.tensor(sum(after) / sum(n)).exp().item(),
        "text 1 (One): perplexity after": torch.tensor(after[0] / n[0]).exp().item(),
        "text 2 (Two): tokens": n[1],
        "text 2 (Two): ratio": torch.tensor((after[1] - before[1]) / n[1]).exp().item(),
    }
    for name, value in expected.items():
        assert known[name].value == pytest.approx(value, rel=1e-5), name


def test_the_text_is_the_one_that_plain_transformers_writes(page: str, tiny_folder: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_folder)
    ids = tokenizer("The old", return_tensors="pt").input_ids
    out = model.generate(ids, max_new_tokens=6, do_sample=False)
    whole, prompt = (tokenizer.decode(one, skip_special_tokens=True) for one in (out[0], ids[0]))
    assert stated(page)["prompt 1: text before"].value == whole[len(prompt) :]


def test_a_report_agrees_with_itself_run_again(page: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, page)
    assert main(("verify", str(path), "--csv")) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["outcome"] for row in rows} == {"agrees"}
    assert {row["name"] for row in rows} == {"model revision", *stated(page)}
    assert main(("verify", str(path))) == 0
    assert f"All {len(rows)} agree." in capsys.readouterr().out


@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_other_numbers_of_threads_agree(page: str, tmp_path: Path, tiny: LoadedModel, threads: int) -> None:
    torch.set_num_threads(threads)
    assert wrong(written(tmp_path, page), tiny) == []


def test_the_exact_arithmetic_agrees(found: Findings, recipe: Recipe, tiny: LoadedModel, tiny_folder: Path) -> None:
    """What any machine's float32 is a rounding of lies within every tolerance."""
    exact = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float64).eval()
    again = find(recipe, EVERYTHING, loaded=replace(tiny, model=exact))
    now = {one.name: one.value for one in figures_of(again)}
    assert [one.name for one in figures_of(found) if not one.agrees(now[one.name])] == []


@pytest.mark.usefixtures("same_run")
def test_a_changed_digit_of_a_stated_figure_is_named(page: str, tmp_path: Path, tiny: LoadedModel) -> None:
    head, held, tail = block(page)
    tried = 0
    for at, one in enumerate(held["stated"]):
        digits = [place for place, letter in enumerate(json.dumps(one["value"])) if letter.isdigit()]
        if not digits or one["unit"] == "text":
            continue
        # the last digit, which is far within the tolerance
        place = digits[-1] if "e" not in json.dumps(one["value"]) else digits[0]
        written_value = json.dumps(one["value"])
        other = written_value[:place] + str((int(written_value[place]) + 1) % 10) + written_value[place + 1 :]
        changed = json.loads(json.dumps(held))
        changed["stated"][at]["value"] = json.loads(other)
        found = wrong(written(tmp_path, head + json.dumps(changed) + tail), tiny)
        assert (one["name"], "edited") in found, one["name"]
        assert len(found) == 1
        tried += 1
    assert tried > 25


@pytest.mark.usefixtures("same_run")
def test_a_changed_digit_that_a_person_sees_is_named(page: str, tmp_path: Path, tiny: LoadedModel) -> None:
    head, held, tail = block(page)
    for one in held["stated"]:
        name = re.escape(one["name"])
        match = re.search(rf'data-says="{name}">((?:(?!</data|</p).)*)', head, re.DOTALL)
        assert match is not None, one["name"]
        shown = match[1]
        place = next((at for at, letter in enumerate(shown) if letter.isalnum()), None)
        if place is None:
            continue
        other = shown[:place] + ("7" if shown[place] != "7" else "8") + shown[place + 1 :]
        edited = head[: match.start(1)] + other + head[match.end(1) :]
        found = wrong(written(tmp_path, edited + json.dumps(held) + tail), tiny)
        assert (one["name"], "shown otherwise") in found, one["name"]
        assert set(found) - {("the page", "edited")} == {(one["name"], "shown otherwise")}


def test_a_figure_that_is_wrong_and_sealed_differs(page: str, tmp_path: Path, found: Findings, recipe: Recipe) -> None:
    """Who makes the seals anew is found out by the run."""
    evidence = Evidence.of(found)
    forged = tuple(
        replace(one, value=float(one.value) * 1.01) if one.name == "perplexity after" else one
        for one in evidence.figures
    )
    path = written(tmp_path, recipe_with_figures(replace(evidence, figures=forged)), "forged.toml")
    result = verify(path, device="cpu")
    assert [(line.name, line.outcome) for line in result.lines if not line.holds] == [("perplexity after", "differs")]


@pytest.mark.usefixtures("same_run")
@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("Without L1</h1>", "With L1</h1>", "title"),
        ("One layer less.</p>", "No layer less.</p>", "comment"),
        ("max_new_tokens = 6", "max_new_tokens = 7", "recipe"),
        ("that can be run again", "that cannot", "the page"),
        ('"dtype": "float32"', '"dtype": "float64"', "recipe, settings and versions"),
    ],
)
def test_what_else_is_edited_is_named(
    page: str, tmp_path: Path, tiny: LoadedModel, old: str, new: str, named: str
) -> None:
    assert old in page
    assert named in dict(wrong(written(tmp_path, page.replace(old, new, 1)), tiny))


def test_other_line_ends_are_no_edit(page: str, tmp_path: Path, tiny: LoadedModel) -> None:
    assert wrong(written(tmp_path, page.replace("\n", "\r\n")), tiny) == []


def test_another_revision_is_said(
    page: str, tmp_path: Path, tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_folder, other)
    model = AutoModelForCausalLM.from_pretrained(other)
    with torch.no_grad():
        model.lm_head.weight *= 1.3
    model.save_pretrained(other)
    head, held, tail = block(page)
    held["recipe"] = held["recipe"].replace(str(tiny_folder), str(other))
    path = written(tmp_path, head + json.dumps(held) + tail)
    assert main(("verify", str(path))) == 1
    said = capsys.readouterr().out
    assert re.search(r"stated of .* at revision \w+; here it is at \w+\. Open that revision", said)
    assert "perplexity before: DIFFERS" in said


def test_a_recipe_carries_its_figures(found: Findings, recipe: Recipe, tmp_path: Path, tiny: LoadedModel) -> None:
    text = recipe_with_figures(Evidence.of(found))
    path = written(tmp_path, text, "kept.toml")
    assert Recipe.load(path) == recipe
    assert wrong(path, tiny) == []
    value = stated(report_page(found))["KL"].value
    edited = written(tmp_path, text.replace(f"value = {value}", f"value = {float(value) * 2}", 1), "edited.toml")
    assert wrong(edited, tiny) == [("KL", "edited")]


def test_bare_numbers_are_held_to_their_digits(
    recipe: Recipe, found: Findings, tmp_path: Path, tiny: LoadedModel
) -> None:
    value = float(next(one.value for one in figures_of(found) if one.name == "perplexity after"))
    for number, expected in ((f"{value:.2f}", []), (f"{value * 1.001:.2f}", [("perplexity after", "differs")])):
        text = f'{recipe.dumps()}\n[figures.values]\n"perplexity after" = {number}\n'
        assert wrong(written(tmp_path, text, "bare.toml"), tiny) == expected
    text = f'{recipe.dumps()}\n[figures.values]\n"perplexity afterwards" = 1.0\n'
    with pytest.raises(ReportError, match="no figure 'perplexity afterwards'; there are: "):
        verify(written(tmp_path, text, "bare.toml"), loaded=tiny)


def test_a_card_is_run_again_with_its_weights(
    tiny: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = export_checkpoint(tiny, "0,2.mlp,3", tmp_path / "new")
    assert main(("verify", str(folder), "--csv")) == 0
    assert "perplexity of the saved weights" in capsys.readouterr().out
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8")
    row = next(line for line in text.splitlines() if line.startswith("| The lantern"))
    cells = row.split(" | ")
    digit = next(at for at, letter in enumerate(cells[2]) if letter.isdigit())
    cells[2] = cells[2][:digit] + str((int(cells[2][digit]) + 1) % 10) + cells[2][digit + 1 :]
    card.write_text(text.replace(row, " | ".join(cells)), encoding="utf-8")
    assert main(("verify", str(card))) == 1
    assert "text 1 (The lantern in the wood): perplexity before: SHOWN OTHERWISE" in capsys.readouterr().out


def test_weights_that_are_not_those_of_the_card_are_found(tiny: LoadedModel, tmp_path: Path) -> None:
    folder = export_checkpoint(tiny, "0,2", tmp_path / "new")
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.lm_head.weight *= 1.3
    model.save_pretrained(folder)
    result = verify(folder, loaded=tiny)
    assert [(line.name, line.outcome) for line in result.lines if not line.holds] == [
        ("perplexity of the saved weights", "differs")
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.html", None, "cannot be read: No such file"),
        ("plain.html", "<p>hello</p>", "no figures of Model Surgery"),
        ("broken.html", OPEN + '{"recipe": </script>', "cannot be read"),
        ("old.html", OPEN + '{"recipe": "version = 1\\nmodel = \\"a\\"\\nplan = \\"0\\"", "format": 9}</script>', "format 9"),
        ("plain.md", "# A card", "no figures that can be run again"),
        ("bare.toml", 'version = 1\nmodel = "fable"\nplan = "0"\n', "has no figures"),
        ("report.txt", "hello", "is no .html, .toml, .md or folder"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert main(("verify", str(tmp_path / name))) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_sampled_text_is_not_compared(recipe: Recipe, tiny: LoadedModel, tmp_path: Path) -> None:
    sampled = replace(recipe, temperature=0.8, lens="")
    evidence = Evidence.of(find(sampled, loaded=tiny))
    other = tuple(replace(one, value="x") if one.name == "prompt 1: text before" else one for one in evidence.figures)
    path = written(tmp_path, recipe_with_figures(replace(evidence, figures=other)), "sampled.toml")
    result = verify(path, loaded=tiny)
    lines = {line.name: line.outcome for line in result.lines}
    assert (lines["prompt 1: text before"], lines["prompt 1: text after"]) == ("not compared", "agrees")
    assert result.holds


def test_text_is_held_up_to_a_token_that_hardly_leads(recipe: Recipe, tiny: LoadedModel) -> None:
    """With random weights in a byte's vocabulary: each character is a token, and leads are read off plain logits."""
    written_text = find(recipe, loaded=tiny).report.continuations[0].before
    prompt = tiny.tokenizer("The old", return_tensors="pt").input_ids
    new = tiny.tokenizer(written_text.text, return_tensors="pt", add_special_tokens=False).input_ids
    with torch.no_grad():
        logits = tiny.model(torch.cat([prompt, new], 1), use_cache=False).logits[0, prompt.shape[1] - 1 : -1]
    best = logits.sort(-1, descending=True).values
    leads = (best[:, 0] - best[:, 1]).tolist()
    lead = sorted(leads)[len(leads) // 2] + 1e-6
    expected = next(at for at, one in enumerate(leads) if one <= lead)
    firm = firm_beginning(tiny.model, tiny.tokenizer, written_text, recipe.settings, lead)
    assert firm == len(tiny.tokenizer.decode(new[0, :expected]))


def test_an_experiment_stands_beside_its_paper_and_is_run_again(tiny: LoadedModel, tmp_path: Path) -> None:
    with small_studies():
        asked = replace(Recipe.loads(HARD_AS_WRITTEN), model=tiny.info.name)
        found = find(asked, Asked(("study",)), loaded=tiny)
        text = report_page(found)
        losses = [2 * loss_of(tiny.model, tiny.tokenizer, one.text) for one in asked.own_texts]
        stated = {one.name: one for one in figures_of(found)}
        assert stated["study, figure 1 (Nats a token)"].value == pytest.approx(sum(losses) / len(losses), rel=1e-6)
        assert stated["study, figure 2 (The hardest text)"].value == pytest.approx(max(losses), rel=1e-6)
        assert stated["study: outcome"].value == "seen here too"
        for shown in ("1 to 3 nats", "On hard texts, Somebody, 2024", "https://arxiv.org/abs/2406.19384, Table 2"):
            assert shown in text
        assert "seen here too</data></strong>. Texts are hard here too." in text
        assert "What it does" not in text, "the recipe has no plan"
        path = written(tmp_path, text)
        again = verify(path, loaded=tiny)
        assert again.holds
        assert len(again.lines) >= len(stated)
        figure = stated["study, figure 1 (Nats a token)"].shown
        path.write_text(text.replace(f">{figure}</data>", f">{figure}1</data>"), encoding="utf-8")
        assert not verify(path, loaded=tiny).holds


def test_a_plan_beside_a_study_is_measured_and_a_study_that_is_not_shown_is_not(
    tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    with small_studies():
        asked = replace(Recipe.loads(HARD_AS_WRITTEN), model=tiny.info.name, plan="0,2-3", sweep=None)
        monkeypatch.setattr("surgery_core.keeping.report.findings.run_study", lambda *given, **more: pytest.fail("run"))
        found = find(asked, Asked(("scores",)), loaded=tiny)
        assert found.study is None
        assert found.report.comparison is not None
        assert found.report.recipe == asked


def test_a_study_that_was_run_already_is_taken_over(tiny: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    with small_studies():
        asked = replace(Recipe.loads(HARD_AS_WRITTEN), model=tiny.info.name)
        ran = run_study(asked, tiny, asked.own_texts)
        monkeypatch.setattr("surgery_core.keeping.report.findings.run_study", lambda *given, **more: pytest.fail("run"))
        assert find(asked, Asked(("study",)), loaded=tiny, study=ran).study is ran


def test_the_command_line_shows_the_study_of_a_recipe(tiny_folder: Path, tmp_path: Path) -> None:
    with small_studies():
        (tmp_path / "hard.toml").write_text(
            HARD_AS_WRITTEN.replace('"fable"', json.dumps(str(tiny_folder)), 1), "utf-8"
        )
        assert main(["report", str(tmp_path / "hard.toml"), "--to", str(tmp_path / "hard.html")]) == 0
        evidence, _ = read_page((tmp_path / "hard.html").read_text(encoding="utf-8"))
        assert evidence.asked.parts == ("study",)
        assert "study: outcome" in {one.name for one in evidence.figures}
        assert main(["verify", str(tmp_path / "hard.html")]) == 0
