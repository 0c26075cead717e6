"""The command line, run as a person runs it, in this process unless the process itself is the matter."""

from __future__ import annotations

import csv
import importlib
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from surgery_core.cli.options import main
from surgery_core.cli.output import table, write_json
from surgery_core.lenses.reading import LogitLens, read_lens
from surgery_core.models.opening import load_model
from surgery_core.recipes.recipe import Recipe
from surgery_core.surgery.view import operate

ROOT = Path(__file__).resolve().parents[3]
COMMANDS = ("info", "run", "lens", "train-lens", "fit-lens", "skills", "preflight", "export")


@pytest.fixture(autouse=True)
def _only_the_tiny_model(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_SURGERY_MODELS", str(tiny_folder))


@pytest.fixture
def story(tmp_path: Path) -> str:
    path = tmp_path / "story.txt"
    path.write_text("The old woman had a cat.", encoding="utf-8")
    return str(path)


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command wrote, after checking that it went well and kept standard error clean."""
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one sentence that a command failed with."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith(".\n")
    assert err.count("\n") == 1
    return err


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_info(capsys: pytest.CaptureFixture[str]) -> None:
    facts = json.loads(output(capsys, "info", "--model", "tiny", "--json"))
    assert (facts["name"], facts["n_layers"], facts["d_model"]) == ("tiny", 4, 32)
    assert "53,792" in output(capsys, "info", "--model", "tiny")
    assert {"fact": "n_layers", "value": "4"} in rows(output(capsys, "info", "--model", "tiny", "--csv"))


def test_info_lists_models(capsys: pytest.CaptureFixture[str]) -> None:
    listed = {choice["name"]: choice for choice in json.loads(output(capsys, "info", "--list", "--json"))}
    assert listed["tiny"]["n_parameters"] == 53792
    assert "tiny" in output(capsys, "info", "--list")


def test_run_shows_text_and_scores_before_and_after(capsys: pytest.CaptureFixture[str], story: str) -> None:
    arguments = (
        "run",
        "--model",
        "tiny",
        "--plan",
        "0,2,1,3",
        "--text",
        story,
        "--prompt",
        "Once",
        "--max-new-tokens",
        "5",
    )
    shown = output(capsys, *arguments)
    assert [line for line in ("prompt", "before", "after") if line in shown.splitlines()] == [
        "prompt",
        "before",
        "after",
    ]
    content = json.loads(output(capsys, *arguments, "--json"))
    assert content["prompts"][0]["before"]["n_tokens"] == 5
    (row,) = rows(output(capsys, *arguments, "--csv"))
    assert row["title"] == "story.txt"
    assert float(row["perplexity_after"]) == content["texts"][0]["perplexity_after"]
    assert f"{content['texts'][0]['perplexity_after']:.4g}" in shown


def test_run_of_a_recipe_gives_what_its_options_give(
    capsys: pytest.CaptureFixture[str], story: str, tmp_path: Path
) -> None:
    file = str(tmp_path / "recipe.toml")
    options = (
        "--model",
        "tiny",
        "--plan",
        "0-2",
        "--text",
        story,
        "--prompt",
        "A",
        "--temperature",
        "1",
        "--seed",
        "7",
    )
    first = json.loads(output(capsys, "run", *options, "--max-new-tokens", "4", "--save-recipe", file, "--json"))
    assert Recipe.load(file).seed == 7
    second = json.loads(output(capsys, "run", "--recipe", file, "--json"))
    assert second["texts"] == first["texts"]
    assert second["prompts"][0]["after"]["text"] == first["prompts"][0]["after"]["text"]


def test_lens_shows_a_line_a_layer_of_the_plan(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("lens", "--model", "tiny", "--plan", "0,3", "--prompt", "A cat sat.")
    shown = output(capsys, *arguments, "--positions", "3").splitlines()
    assert [line.split()[0] for line in shown] == ["layer", "input", "L0", "L3"]
    cells = rows(output(capsys, *arguments, "--csv"))
    assert len(cells) == 3 * 8
    assert {cell["position"] for cell in cells} == set("23456789")
    assert json.loads(output(capsys, *arguments, "--json"))[0]["token"] == "c"


def test_lens_reads_both_sides_inside_layers_and_from_a_token_on(capsys: pytest.CaptureFixture[str]) -> None:
    read = ("lens", "--model", "tiny", "--plan", "0,3", "--prompt", "A cat sat.", "--start", "4", "--positions", "99")
    cells = rows(output(capsys, *read, "--before", "--inside", "--csv"))
    assert [(side, len([c for c in cells if c["side"] == side])) for side in ("before", "after")] == [
        ("before", 9 * 6), ("after", 5 * 6),
    ]  # fmt: skip
    model = load_model("tiny", device="cpu")
    view = operate(model.model, "0,3")
    frame = read_lens(LogitLens(view), view, model.tokenizer, "A cat sat.", sublayers=True, start=4).frame()
    assert [cell["top"] for cell in cells if cell["side"] == "after"] == list(frame["top"])


def test_lens_says_how_far_cells_moved_and_what_a_picked_token_does(capsys: pytest.CaptureFixture[str]) -> None:
    read = ("lens", "--model", "tiny", "--plan", "0,3", "--prompt", "A cat sat.", "--positions", "99", "--before")
    cells = [cell for cell in rows(output(capsys, *read, "--pick", "t", "--csv")) if cell["layer"] == "L3"]
    sides = {side: [cell for cell in cells if cell["side"] == side] for side in ("before", "after")}
    model = load_model("tiny", device="cpu")
    ids = torch.tensor([model.tokenizer("A cat sat.").input_ids])
    (picked,) = model.tokenizer("t", add_special_tokens=False).input_ids
    with torch.inference_mode():
        p, q = (one(ids).logits[0].double().softmax(-1) for one in (model.model, operate(model.model, "0,3")))
    middle = (p + q) / 2
    js = ((p * (p / middle).log()).sum(-1) + (q * (q / middle).log()).sum(-1)) / 2
    assert [float(cell["js"]) for cell in sides["after"]] == pytest.approx(js.tolist(), abs=1e-5)
    assert [float(cell["tv"]) for cell in sides["after"]] == pytest.approx(
        ((p - q).abs().sum(-1) / 2).tolist(), abs=1e-5
    )
    assert {cell["js"] for cell in sides["before"]} == {"nan"}
    assert [float(cell["picked"]) for cell in sides["after"]] == pytest.approx(q[:, picked].log().tolist(), rel=1e-4)
    shown = output(capsys, *read).split("\n\n")
    assert len(shown) == 4
    assert "Jensen-Shannon" in shown[3]


def test_how_near_lenses_are_to_the_output(capsys: pytest.CaptureFixture[str], tmp_path: Path, story: str) -> None:
    folder = str(tmp_path / "lens")
    output(capsys, "train-lens", "--model", "tiny", "--to", folder, "--steps", "2")
    asked = ("lens", "--model", "tiny", "--quality", "--texts", story)
    found = json.loads(output(capsys, *asked, "--tuned", folder, "--json"))
    model = load_model("tiny", device="cpu")
    ids = torch.tensor([model.tokenizer(Path(story).read_text(encoding="utf-8").strip()).input_ids])
    with torch.inference_mode():
        out = model.model(ids, output_hidden_states=True)
        final, norm, head = out.logits[0].log_softmax(-1), model.model.model.norm, model.model.lm_head
        for row, hidden in zip(found, out.hidden_states, strict=False):
            lens = head(norm(hidden))[0].log_softmax(-1)
            assert row["logit_lens"] == pytest.approx(float((final.exp() * (final - lens)).sum(-1).mean()), abs=1e-5)
    assert len(found) == 4
    assert "Over all layers: logit lens" in output(capsys, *asked, "--tuned", folder)


def test_averages_of_the_lens_are_means_over_all_tokens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, story: str
) -> None:
    (tmp_path / "b.txt").write_text("A dog and a cat and a cow.", encoding="utf-8")
    asked = ("lens", "--model", "tiny", "--plan", "0,3", "--averages", "--texts", story, str(tmp_path / "b.txt"))
    found = json.loads(output(capsys, *asked, "--json"))
    assert [row["layer"] for row in found] == ["input", "L0", "L3"]
    model = load_model("tiny", device="cpu")
    view, entropies = operate(model.model, "0,3"), []
    for path in (story, str(tmp_path / "b.txt")):
        frame = read_lens(
            LogitLens(view), view, model.tokenizer, Path(path).read_text(encoding="utf-8").strip()
        ).frame()
        entropies += list(frame[frame["row"] == 1]["entropy"])
    assert found[1]["entropy"] == pytest.approx(sum(entropies) / len(entropies), rel=1e-4)
    assert found[1]["entropy_low"] <= found[1]["entropy"] <= found[1]["entropy_high"]


def test_scripts_of_pages_are_asked_for_with_all_that_pages_have(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    made = tmp_path / "made.py"
    keep = ("keep", "--model", "tiny", "--plan", "0,3", "--to", str(made), "--force")
    output(
        capsys,
        *keep,
        "--page",
        "lens",
        "--prompt",
        "A",
        "--lens",
        "tuned",
        "--follow",
        "position",
        "--inside",
        "--start",
        "2",
    )
    assert "follow='position', sublayers=True, start=2" in made.read_text(encoding="utf-8")
    assert "sc.TunedLens(model" in made.read_text(encoding="utf-8")
    output(
        capsys, *keep, "--page", "sweep", "--sweep", "scale", "--sweep-factors", "0.5,2", "--sweep-start", "0-2", "--sweep-skills",
        "--sweep-prompt", "A",
    )  # fmt: skip
    code = made.read_text(encoding="utf-8")
    assert "'scale'" in code
    assert "factors=(0.5, 2.0)" in code
    assert "start='0-2'" in code
    assert "skills=sc.load_skills(), prompt='A', new_tokens=64" in code


def test_a_jacobian_lens_is_fitted_in_parts_merged_and_read_through(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pieces = {"one": "The old woman had a cat and a dog", "two": "A fox ran home, and the king slept"}
    for name, text in pieces.items():
        (tmp_path / f"{name}.txt").write_text(text, encoding="utf-8")
    how, places = ("--tokens", "20", "--skip", "4"), {name: str(tmp_path / name) for name in ("one", "two", "both")}
    fit = ("fit-lens", "--model", "tiny", *how)
    for name in pieces:
        said = output(capsys, *fit, "--text", str(tmp_path / f"{name}.txt"), "--to", places[name])
        assert "3 matrices, the mean of 2 texts" in said
    merged = output(capsys, "fit-lens", "--merge", places["one"], places["two"], "--to", places["both"], "--json")
    assert json.loads(merged)[0]["texts"] == 4
    whole = str(tmp_path / "whole.pt")
    files = [word for name in pieces for word in ("--text", str(tmp_path / f"{name}.txt"))]
    output(capsys, *fit, *files, "--to", whole)
    read = ("lens", "--model", "tiny", "--prompt", "A cat.", "--csv")
    cells = [rows(output(capsys, *read, "--jacobian", place)) for place in (places["both"], whole)]
    logit = rows(output(capsys, *read))
    for one, other, plain in zip(*cells, logit, strict=True):
        assert float(one["kl"]) == pytest.approx(float(other["kl"]), rel=0.05, abs=0.01)
        assert (one["kl"] == plain["kl"]) == (one["layer"] in ("input", "L3"))


def test_a_jacobian_lens_of_a_plan_reads_that_plan(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, story: str
) -> None:
    (tmp_path / "text.txt").write_text("The old woman had a cat", encoding="utf-8")
    text, to = str(tmp_path / "text.txt"), str(tmp_path / "lens")
    fit = ("fit-lens", "--model", "tiny", "--tokens", "20", "--skip", "4", "--text", text, "--to", to)
    output(capsys, *fit, "--plan", "0,2,3")
    read = ("lens", "--model", "tiny", "--prompt", "A cat.", "--jacobian", to)
    found = json.loads(output(capsys, *read, "--plan", "0,2,3", "--json"))
    assert {cell["layer"] for cell in found} == {"input", "L0", "L2", "L3"}
    assert main([*read, "--plan", "0,1,3"]) == 2
    assert "fitted on the plan 0,2-3 and reads that one only" in capsys.readouterr().err


def test_a_lens_is_trained_saved_and_read_through(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, story: str
) -> None:
    folder = str(tmp_path / "lens")
    (tmp_path / "long.txt").write_text("The old woman had a cat and a dog. " * 20, encoding="utf-8")
    texts = ("--text", story, "--text", str(tmp_path / "long.txt"))
    quality = json.loads(
        output(capsys, "train-lens", "--model", "tiny", "--to", folder, *texts, "--steps", "3", "--json")
    )
    assert [row["layer"] for row in quality] == [0, 1, 2, 3]
    assert any(row["tuned_lens"] != row["logit_lens"] for row in quality)
    read = ("lens", "--model", "tiny", "--plan", "0,3", "--prompt", "A cat.", "--csv")
    tuned, logit = rows(output(capsys, *read, "--tuned", folder)), rows(output(capsys, *read))
    assert [cell["kl"] for cell in tuned] != [cell["kl"] for cell in logit]
    # the last row is the model's own output, which no translator touches
    assert [cell["top"] for cell in tuned[-6:]] == [cell["top"] for cell in logit[-6:]]


def test_skills_shows_both_sides_of_every_skill(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(output(capsys, "skills", "--model", "tiny", "--plan", "0-3", "--json"))
    assert len(found) >= 6
    assert all(skill["accuracy_before"] == skill["accuracy_after"] for skill in found)
    changed = rows(output(capsys, "skills", "--model", "tiny", "--plan", "3", "--csv"))
    assert [row["skill"] for row in changed] == [skill["skill"] for skill in found]
    assert any(row["margin_before"] != row["margin_after"] for row in changed)


def test_preflight_says_what_holds_and_fails_when_something_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = output(capsys, "preflight", "--model", "tiny")
    assert "NO" not in shown.split()
    assert "untouched" in output(capsys, "preflight", "--model", "tiny", "--plan", "0,3", "--csv")
    marks = iter(("before", "after"))
    monkeypatch.setattr(
        importlib.import_module("surgery_core.proof.preflight"), "fingerprint", lambda model: next(marks)
    )
    assert main(["preflight", "--model", "tiny", "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert not content["passed"]
    assert [check["key"] for check in content["checks"] if not check["passed"]] == ["untouched"]


def test_standard_input_is_a_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("Ein König.".encode())))
    content = json.loads(
        output(
            capsys,
            "run",
            "--model",
            "tiny",
            "--plan",
            "0",
            "--text",
            "-",
            "--max-new-tokens",
            "1",
            "--prompt",
            "a",
            "--json",
        )
    )
    assert content["texts"][0]["title"] == "standard input"
    assert content["texts"][0]["tokens"] == len("Ein König.".encode()) - 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("info", "--model", "no such"), "There is no model 'no such'"),
        (("info", "--model", "tiny", "--device", "gpu"), "'gpu' is not a device"),
        (("info", "--model", "tiny", "--dtype", "int8"), "'int8' is not a number format"),
        (("run", "--model", "tiny"), "needs --plan"),
        (("run", "--model", "tiny", "--plan", "0-9"), "no layer 9"),
        (("run", "--model", "tiny", "--plan", "0,,1"), "character 3"),
        (("run", "--model", "tiny", "--plan", "0", "--prompt", "a", "--text", "/nowhere/x.txt"), "cannot be read"),
        (("run", "--model", "tiny", "--plan", "0", "--prompt", "a", "--max-new-tokens", "0"), "length is 0"),
        (("run", "--recipe", "x.toml", "--seed", "3"), "leave out --seed"),
        (("run", "--recipe", "/nowhere/x.toml"), "cannot be read"),
        (("lens", "--model", "tiny", "--prompt", ""), "at least 1"),
        (("lens", "--model", "tiny", "--prompt", "a", "--positions", "0"), "--positions is 0"),
        (("lens", "--model", "tiny", "--averages", "--inside"), "leave out --inside and --start"),
        (("lens", "--model", "tiny", "--averages", "--pick", "t"), "--pick is about the cells of one text"),
        (("lens", "--model", "tiny", "--prompt", "a", "--pick", "two words"), "two words"),
        (("lens", "--model", "tiny", "--quality"), "--quality is about a lens that was fitted"),
        (("keep", "--plan", "0", "--to", "x.py", "--inside"), "--inside is of the Lens page; say --page lens"),
        (("keep", "--plan", "0", "--to", "x.py", "--sweep", "delete"), "--sweep is of a sweep, and none is asked for"),
        (("lens", "--model", "tiny", "--prompt", "a", "--tuned", "/nowhere"), "/nowhere"),
        (("train-lens", "--model", "tiny", "--to", "x", "--steps", "0"), "0 steps"),
        (("skills", "--model", "tiny", "--plan", "4"), "no layer 4"),
    ],
)
def test_an_error_is_one_sentence_and_code_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    assert expected in error(capsys, *arguments)


@pytest.mark.parametrize("content", [b"", b"\xff\xfe", b"a\0b", b"x" * 1_000_001])
def test_a_text_that_cannot_be_scored_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    assert "bad.txt" in error(capsys, "run", "--model", "tiny", "--plan", "0", "--prompt", "a", "--text", str(path))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_json_and_csv(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    text = capsys.readouterr().out
    assert "--json" in text
    assert "--csv" in text


def test_an_interruption_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("surgery_core.cli.commands.load", interrupt)
    assert main(["info"]) == 130


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = "import surgery_core.cli.output as t\nfrom surgery_core.cli import commands, options\n"
    code += (
        "commands.info = lambda a: t.Output('x\\n' * 1_000_000, [], {})\nimport sys\nsys.exit(options.main(['info']))"
    )
    writer = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    writer.stdout.close()
    assert writer.wait(60) == 0
    assert writer.stderr is not None
    assert writer.stderr.read() == b""
    writer.stderr.close()


def test_python_dash_m_runs_it_and_an_ascii_terminal_shows_escapes(tiny_folder: Path) -> None:
    environment = {"PYTHONIOENCODING": "ascii", "HF_HUB_OFFLINE": "1", "PATH": ""}
    command = [sys.executable, "-m", "surgery_core", "info", "--model", "nö"]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert r"There is no model 'n\xf6'" in result.stderr
    assert "Traceback" not in result.stderr


def test_tables_align_numbers_right_and_text_left() -> None:
    found = table(
        [
            {"title": "a", "n_tokens": 5, "perplexity": 12.34567},
            {"title": "long one", "n_tokens": 1234, "perplexity": 123456.7},
            {"title": "", "n_tokens": 0, "perplexity": float("nan")},
        ]
    )
    assert found.splitlines() == [
        "title     n tokens  perplexity",
        "a                5       12.35",
        "long one      1234     123,457",
        "                 0           -",
    ]


def test_json_stays_valid_when_a_number_is_not_finite(capsys: pytest.CaptureFixture[str]) -> None:
    write_json({"a": [float("inf"), float("nan"), 1.5, True], 3: ("é",)})
    assert json.loads(capsys.readouterr().out) == {"a": [None, None, 1.5, True], "3": ["é"]}


def test_a_set_of_texts_is_named_on_the_command_line() -> None:
    from surgery_core.cli.texts import text_set
    from surgery_core.errors import SettingsError

    assert len(text_set("stories").texts) == 60
    assert len(text_set(None).texts) == 12
    with pytest.raises(SettingsError, match="--text-set is 'poems'; there are short, stories"):
        text_set("poems")
