"""Where an adapter lives: rows against comparisons, and against models merged by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery_core.cli.options import main
from surgery_core.errors import SettingsError
from surgery_core.measure.compare import compare, reference, score
from surgery_core.models.opening import LoadedModel, load_model
from surgery_core.plans.plan import LayerPlan
from surgery_core.surgery.view import operate
from surgery_core.sweeps.kinds import sweep_kind, sweep_points
from surgery_core.sweeps.sweep import Sweep, sweep
from surgery_core.text import Text
from tests.core.support.adapters import base_model, merged_by_hand, save_adapter

N = 4
TEXTS = (Text("Fox", "The fox said: how do you do?"), Text("Long", "It was a dark night, and the wolf came. " * 3))
KINDS = ("adapter-off", "adapter-only")
CASES: dict[str, dict[str, Any]] = {
    "all": {},
    "some layers": {"layers_to_transform": [1, 3]},
    "around too": {"modules_to_save": ["lm_head", "embed_tokens", "norm"]},
}


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def loaded(case: str, tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> LoadedModel:
    return load_model(str(save_adapter(tiny_folder, tmp_path_factory.mktemp("adapter") / "tuned", **CASES[case])))


def loss_by_hand(model: Any, tokenizer: Any, texts: tuple[Text, ...]) -> float:
    """Return the mean loss of all tokens behind the texts' first ones, by plain transformers in float64."""
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text.text)["input_ids"]])
        with torch.inference_mode():
            logp = model(ids).logits[0, :-1].double().log_softmax(-1)
        total -= float(logp.gather(-1, ids[0, 1:, None]).sum())
        count += ids.shape[1] - 1
    return total / count


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [None, "0,2,1x2,3*0.5"])
def test_rows_are_what_comparisons_give(kind: str, start: str | None, loaded: LoadedModel) -> None:
    rows = list(sweep(loaded.model, loaded.tokenizer, TEXTS, kind, start=start))
    assert len(rows) == 1 + (N if start is None else 5)
    for row in rows:
        whole = compare(loaded.model, operate(loaded.model, row.plan), loaded.tokenizer, TEXTS)
        assert not row.refused
        assert not row.unproved
        assert row.nats == pytest.approx(whole.operated.nats / whole.operated.n_tokens, abs=1e-5)
        assert (row.kl, row.top1, row.top5) == pytest.approx((whole.kl, whole.top1, whole.top5), abs=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_models_merged_by_hand(kind: str, tiny_folder: Path, tmp_path: Path) -> None:
    folder = save_adapter(tiny_folder, tmp_path / "tuned")
    loaded = load_model(str(folder))
    rows = list(sweep(loaded.model, loaded.tokenizer, TEXTS, kind))[1:]
    for layer, row in enumerate(rows):
        kept = [layer] if kind == "adapter-only" else [at for at in range(N) if at != layer]
        merged = merged_by_hand(tiny_folder, folder, kept, lambda rank: 8 / rank)
        assert row.nats == pytest.approx(loss_by_hand(merged, loaded.tokenizer, TEXTS), abs=1e-4)
        assert row.x == layer


def test_without_every_layers_adapter_figures_are_those_of_the_base(loaded: LoadedModel, tiny_folder: Path) -> None:
    none = LayerPlan.identity(N).switch_adapter(range(N), on=False)
    base = base_model(tiny_folder)
    result = compare(loaded.model, operate(loaded.model, none), loaded.tokenizer, TEXTS)
    plain = score(base, loaded.tokenizer, TEXTS)
    assert [row.nats for row in result.operated.rows] == pytest.approx([row.nats for row in plain.rows], rel=1e-6)
    # the base's own predictions are the other side of the same KL, whichever way they were made
    against = compare(reference(loaded.model, loaded.tokenizer, TEXTS), base, loaded.tokenizer, TEXTS)
    assert (result.kl, result.top1, result.top5) == pytest.approx((against.kl, against.top1, against.top5), abs=1e-5)
    assert result.kl > 1e-3


def test_a_plan_without_the_adapters_part_around_the_layers_is_run_whole(case: str, loaded: LoadedModel) -> None:
    points = sweep_points("delete", LayerPlan.parse("(0-2).bare,3", N))
    run = Sweep(loaded.model, loaded.tokenizer, TEXTS, points, start="(0-2).bare,3")
    rows = list(run.rows())
    assert ("around" in case) == ("outside of the layers are run whole" in run.note), run.note
    for row in rows:
        whole = compare(loaded.model, operate(loaded.model, row.plan), loaded.tokenizer, TEXTS)
        assert row.nats == pytest.approx(whole.operated.nats / whole.operated.n_tokens, abs=1e-5)


def test_plans_of_the_two_kinds() -> None:
    start = LayerPlan.parse("0,1x2", 2)
    assert [str(point.plan) for point in sweep_points("adapter-off", start)] == [
        "0.bare,1x2",
        "0,1.bare,1",
        "0-1,1.bare",
    ]
    only = [str(point.plan) for point in sweep_points("adapter-only", start)]
    assert only == ["0,1.barex2", "0.bare,1,1.bare", "(0-1).bare,1"]
    assert all(sweep_kind(kind).adapter for kind in KINDS)


def test_a_model_without_an_adapter_is_told_so_before_anything_runs(tiny_llama: Any, tiny_tokenizer: Any) -> None:
    for kind in KINDS:
        with pytest.raises(
            SettingsError, match="opened without an adapter, so there is none to switch; choose another"
        ):
            sweep(tiny_llama, tiny_tokenizer, TEXTS, kind)


def test_the_command_line_runs_and_lists_them(
    tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, text = save_adapter(tiny_folder, tmp_path / "tuned"), tmp_path / "text.txt"
    text.write_text(TEXTS[0].text)
    assert main(["sweep", "--model", str(folder), "--kind", "adapter-off", "--text", str(text), "--csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 1 + N
    assert any("0.bare,1-3" in line for line in lines)
    assert main(["sweep", "--kinds"]) == 0
    assert "adapter-only" in capsys.readouterr().out
    assert main(["sweep", "--model", str(tiny_folder), "--kind", "adapter-off", "--text", str(text)]) == 2
    assert "opened without an adapter" in capsys.readouterr().err


def test_a_repeated_layer_counts_its_figures_once_a_slot(loaded: LoadedModel) -> None:
    rows = list(sweep(loaded.model, loaded.tokenizer, TEXTS[0], "adapter-off", start="0x2,1-3"))
    assert [row.plan for row in rows[1:3]] == ["0.bare,0-3", "0,0.bare,1-3"]
    assert not any(math.isnan(row.nats) for row in rows)
