"""Scripts and notebooks run as they are, in an empty folder, by a Python that knows nothing of the page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import surgery_core
from surgery_core import (
    LayerPlan,
    Recipe,
    SweepMeasures,
    SweepOptions,
    Text,
    as_papers,
    bundled_texts,
    load_skills,
    text_sets,
)
from surgery_core.keeping.script import PAGES, LensView, Page, Shown, cells, notebook, script
from surgery_core.recipes.chosen_set import ChosenSet
from surgery_core.recipes.parts import NamedPlan, SweepChoice
from surgery_core.recipes.swap_choice import SwapChoice
from surgery_core.sweeps.request import SweepRequest
from tests.core.support.recipes import HARD_AS_WRITTEN
from tests.core.support.studies import loss_of, small_studies

ROOT = Path(__file__).resolve().parents[3]
OWN = Text("Quotes ' and \"", 'He said "it\\is" — and\nleft the house early.')


def run_in(folder: Path, source: str, models: Path) -> str:
    """Return what a script prints."""
    path = folder / "made.py"
    path.write_text(source, encoding="utf-8")
    env = os.environ | {"PYTHONPATH": str(ROOT), "MODEL_SURGERY_MODELS": str(models), "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, path.name], cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def models(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder in which the tiny model lies under the name `tiny`."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "tiny").symlink_to(tiny_folder)
    return folder


def shown(page: Page, plan: str = "0,2*0.5", **more: object) -> Shown:
    recipe = Recipe("tiny", plan, prompts=("Once upon",), max_new_tokens=5, own_texts=(OWN,))
    return Shown(page, recipe, 4, "cpu", "float32", **more)  # type: ignore[arg-type]


def test_a_swap_of_the_lens_page_is_written_as_by_a_model_built_by_hand(
    tmp_path: Path, models: Path, tiny_folder: Path
) -> None:
    """The matrices are diagonal, so float16 keeps them; the strength is what changes the tiny model's text."""
    import torch

    from surgery_core.lenses.jacobian import Jacobians
    from surgery_core.lenses.jacobian_files import save_jacobians
    from tests.core.recipes.test_swap_recipe import LENS_TEXT, NEW, by_hand

    matrices = {at: torch.diag(torch.arange(1.0, 33.0) / 16 + at) for at in range(3)}
    save_jacobians(Jacobians(matrices, 1, target=3, n_layers=4), tmp_path / "my-lens")
    choice = SwapChoice(1, "c", "t", strength=8.0, lens="my-lens")
    recipe = Recipe("tiny", "0,2-3", lens=LENS_TEXT, max_new_tokens=NEW, swap=choice)
    view = LensView(LENS_TEXT, "my-lens", kind="jacobian")
    printed = run_in(tmp_path, script(Shown("lens", recipe, 4, "cpu", "float32", lens=view)), models)
    for side, order, strength in (
        ("before", [0, 1, 2, 3], 0.0),
        ("after", [0, 2, 3], 0.0),
        ("swapped", [0, 2, 3], 8.0),
    ):
        slot = 1
        expected = by_hand(tiny_folder, order, slot, matrices[order[slot] if strength else 0], ("c", "t"), strength)
        assert f"{side}: {expected}" in printed


def test_a_comparison_is_printed_as_a_person_would_compute_it(tmp_path: Path, models: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    printed = run_in(tmp_path, script(shown("surgery", "0,2")), models)
    tokenizer = AutoTokenizer.from_pretrained(models / "tiny")
    perplexities = []
    for layers in ([0, 1, 2, 3], [0, 2]):
        model = AutoModelForCausalLM.from_pretrained(models / "tiny", dtype=torch.float32).eval()
        model.model.layers = torch.nn.ModuleList([model.model.layers[at] for at in layers])
        model.config.num_hidden_layers = len(layers)
        ids = torch.tensor([tokenizer(OWN.text).input_ids])
        with torch.no_grad():
            logits = model(ids, use_cache=False).logits[0, :-1].double()
        perplexities.append(torch.nn.functional.cross_entropy(logits, ids[0, 1:]).exp().item())
    line = next(line for line in printed.splitlines() if line.startswith(OWN.title))
    assert f"perplexity {perplexities[0]:.2f} -> {perplexities[1]:.2f}," in line
    assert len([line for line in printed.splitlines() if ": perplexity " in line]) == len(bundled_texts()) + 2


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("plan", ["0-3", "2,(0|1),mean(1)"])
def test_every_page_has_a_script_of_steps_that_compile(page: Page, plan: str) -> None:
    made = script(shown(page, plan))
    compile(made, "made.py", "exec")
    for cell in cells(shown(page, plan)):
        assert cell.code in made
        assert "\n" not in cell.words


def test_a_notebook_does_what_the_script_does(tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = shown("lens")
    printed = run_in(tmp_path, script(asked), models)
    for name, value in (("PYTHONPATH", str(ROOT)), ("MODEL_SURGERY_MODELS", str(models))):
        monkeypatch.setenv(name, value)
    book = nbformat.reads(notebook(asked), as_version=4)
    nbformat.validate(book)
    NotebookClient(book, resources={"metadata": {"path": str(tmp_path)}}, kernel_name="python3").execute()
    texts = [
        one["text"]
        for cell in book.cells
        if cell.cell_type == "code"
        for one in cell.outputs
        if one.get("name") == "stdout"
    ]
    assert "".join(texts) == printed


def test_a_sweep_is_asked_for_with_everything_that_its_rows_depend_on(tmp_path: Path, models: Path) -> None:
    skill = load_skills()[0]
    view = SweepRequest(
        "scale", SweepOptions(layer=1, factors=(0.5, 2.0)), LayerPlan.parse("0-1,1", 4), (bundled_texts()[1], OWN),
        SweepMeasures(skills=(skill,), prompt="Once", new_tokens=3),
    )  # fmt: skip
    code = cells(shown("sweep", sweep=view))[1].code
    for part in (
        repr(bundled_texts()[1].title),
        repr(OWN.text),
        "layer=1",
        "factors=(0.5, 2.0)",
        "'0-1,1'",
        repr([skill.name]),
    ):
        assert part in code
    printed = run_in(tmp_path, script(shown("sweep", sweep=view)), models)
    assert [line.partition(":")[0] for line in printed.splitlines()] == ["0-1,1", "0,1*0.5,1", "0,1*2,1"]


def test_a_lens_is_read_as_on_the_page(tmp_path: Path, models: Path) -> None:
    from surgery_core import LogitLens, load_model, read_lens

    view = LensView("Once upon a time", sublayers=True, start=1)
    printed = run_in(tmp_path, script(shown("lens", "0-3", lens=view)), models)
    loaded = load_model(str(models / "tiny"), device="cpu", dtype="float32", allow_paths=True)
    frame = read_lens(
        LogitLens(loaded.model), loaded.model, loaded.tokenizer, view.text, sublayers=True, start=1
    ).frame()
    for value in frame["probability"].round(4):
        assert re.search(rf"(?<!\d){re.escape(f'{value:g}')}", printed)


def test_a_lens_of_ones_own_is_a_folder_and_a_chat_goes_through_its_template() -> None:
    asked = shown("lens", lens=LensView("Hi", "tiny-lens"))
    assert "sc.load_lens('tiny-lens')" in script(asked)
    told = Shown("lens", Recipe("tiny", "0", chat=True, system="Be kind", prompts=("Hi",)), 4, lens=LensView("Hi"))
    assert "chat_text(loaded.tokenizer, 'Hi', 'Be kind')" in script(told)
    assert 'sc.load_lens(located(loaded.info.source) / "lens")' in script(shown("lens", lens=LensView("Hi", "tuned")))
    came = script(shown("lens", lens=LensView("Hi", "jacobian")))
    assert 'sc.JacobianLens(model, sc.load_jacobians(located(loaded.info.source) / "jacobian-lens"))' in came
    own = script(shown("lens", lens=LensView("Hi", "my-lens", kind="jacobian")))
    assert "sc.JacobianLens(model, sc.load_jacobians('my-lens'))" in own


def test_texts_are_named_where_the_package_has_them() -> None:
    stories = text_sets()["stories"].texts
    titles = tuple(text.title for text in stories)
    recipe = Recipe("tiny", "0,2", texts=titles, own_texts=(OWN,))
    code = script(Shown("surgery", recipe, 4))
    assert "sc.text_sets()['stories'].texts" in code
    made = re.search(r"^texts = (.*)$", code, re.MULTILINE)
    assert made is not None
    assert eval(made[1], {"sc": surgery_core}) == (*stories, OWN)
    some = Recipe("tiny", "0,2", texts=(titles[3], bundled_texts()[0].title), own_texts=(OWN,))
    made = re.search(r"^texts = (.*)$", script(Shown("surgery", some, 4)), re.MULTILINE)
    assert made is not None
    assert eval(made[1], {"sc": surgery_core}) == (stories[3], bundled_texts()[0], OWN)


def test_windows_as_papers_cut_them_are_named_too() -> None:
    for name, chosen in text_sets().items():
        recipe = Recipe("tiny", "0,2", text_set=ChosenSet(name), cut="papers", own_texts=(OWN,))
        code = script(Shown("surgery", recipe, 4))
        assert "print(compared.cut.sentence)" in code
        made = re.search(r"^texts = (.*)$", code, re.MULTILINE)
        assert made is not None
        assert f"sc.as_papers(sc.text_sets()[{name!r}].texts)" in made[1]
        assert eval(made[1], {"sc": surgery_core}) == (as_papers(chosen.texts), OWN)
    mine = as_papers([Text("One", "A cat."), Text("Two", "A dog.")], 64)
    made = re.search(r"^texts = (.*)$", script(Shown("surgery", recipe, 4, texts=(mine,))), re.MULTILINE)
    assert made is not None
    assert eval(made[1], {"sc": surgery_core}) == (mine,)


def test_what_was_not_proved_says_so() -> None:
    assert "unproved=True" in script(shown("surgery", unproved=True))
    assert "unproved" not in script(shown("surgery"))


def test_a_name_cannot_break_out_of_its_string() -> None:
    recipe = Recipe('x"""\nimport os', "0", prompts=("a",))
    made = script(Shown("surgery", recipe, 1))
    compile(made, "made.py", "exec")
    assert "\nimport os" not in made
    assert json.loads(notebook(Shown("surgery", recipe, 1)))["nbformat"] == 4


def test_an_experiment_of_the_gallery_comes_to_what_its_study_does(
    tiny_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with small_studies():
        asked = replace(Recipe.loads(HARD_AS_WRITTEN), model=str(tiny_folder))
        exec(compile(script(Shown("gallery", asked, 4, "cpu", "float32")), "made.py", "exec"), {})
        said = capsys.readouterr().out
    loaded = surgery_core.load_model(str(tiny_folder), device="cpu")
    losses = [2 * loss_of(loaded.model, loaded.tokenizer, one.text) for one in asked.own_texts]
    assert f"Nats a token: {sum(losses) / len(losses):.3g} (95 % interval " in said
    assert f"The hardest text: {max(losses):.3g}\n" in said
    assert said.endswith("seen here too\n")


def test_a_recipe_without_a_study_prints_all_that_it_has(tmp_path: Path, models: Path) -> None:
    asked = Recipe(
        "tiny", "0,2", texts=(), own_texts=(OWN,), plans=(NamedPlan("Two layers", "0,3"),), sweep=SweepChoice("delete"),
        prompts=("Once",), max_new_tokens=3,
    )  # fmt: skip
    said = run_in(tmp_path, script(Shown("gallery", asked, 4, "cpu", "float32")), models)
    expected = surgery_core.run_recipe(asked, loaded=surgery_core.load_model(str(models / "tiny"), device="cpu"))
    assert expected.sweep is not None
    assert f"Two layers: perplexity {expected.plans[0].comparison.operated.perplexity:.2f}, " in said
    for row in expected.sweep.rows:
        assert f"{row.plan}: perplexity {row.perplexity:.4g}, KL {row.kl:.3f} nats, top-1 {row.top1:.1%}" in said
    assert f"{expected.continuations[0].after.text}\n" in said
