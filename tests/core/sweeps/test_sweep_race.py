"""Sweeps that look for the best plans only: the same figures for those, honest ones for the others, and less work."""

from __future__ import annotations

import copy
import math
import threading
from typing import Any

import pytest
import torch

from surgery_core import SweepMeasures, sweep
from surgery_core.errors import SettingsError, Stopped
from surgery_core.plans.plan import LayerPlan
from surgery_core.statistics.race import in_rounds, looks_at
from surgery_core.sweeps.description import OpenSweep, SweepJob
from surgery_core.sweeps.file import SweepResult
from surgery_core.sweeps.findings import best_on_unseen, ordered
from surgery_core.sweeps.frames import sweep_frame
from surgery_core.sweeps.kinds import sweep_kind, sweep_points, usual_best
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.removal import removal_frame, remove_greedily
from surgery_core.sweeps.rows import SweepRow
from tests.tiny import build_model, build_tokenizer

WORDS = ("the wolf and the fox went out together ", "a kettle sang ", "nobody knew why the moon was late ")
TEXTS = [WORDS[at % 3] * (1 + at % 4) + WORDS[at % 2] for at in range(24)]
KIND = "scale"


@pytest.fixture(scope="module")
def model() -> Any:
    """Return a model whose layers matter very differently, so that some plans are surely behind."""
    found = build_model("llama")
    with torch.no_grad():
        for layer, factor in zip(found.model.layers, (8.0, 1.0, 0.2, 0.05), strict=False):
            layer.mlp.down_proj.weight *= factor
            layer.self_attn.o_proj.weight *= factor
    return found


@pytest.fixture(scope="module")
def whole(model: Any) -> list[SweepRow]:
    return list(sweep(model, build_tokenizer(), TEXTS, KIND))


@pytest.fixture(scope="module")
def raced(model: Any) -> list[SweepRow]:
    return list(sweep(model, build_tokenizer(), TEXTS, KIND, measures=SweepMeasures(best=2)))


def test_the_best_have_the_figures_of_a_whole_sweep(whole: list[SweepRow], raced: list[SweepRow]) -> None:
    assert raced[0].number == -1
    assert sorted(row.number for row in raced) == [row.number for row in whole]
    assert any(row.left for row in raced), "nothing was left, so nothing is tested"
    known = {row.number: row for row in whole}
    kept = [row for row in raced if not row.left]
    for row in kept:
        same = known[row.number]
        assert row.texts == pytest.approx(same.texts, abs=1e-5)
        for name in ("nats", "loss_change", "kl", "top1", "top5", "change_low", "change_high", "kl_high"):
            assert getattr(row, name) == pytest.approx(getattr(same, name), abs=1e-5, nan_ok=True)
        assert row.verdict == same.verdict
    assert [row.number for row in ordered(raced)[:2]] == [row.number for row in ordered(whole)[:2]]


def test_what_is_left_has_the_figures_of_the_texts_until_then(model: Any, raced: list[SweepRow]) -> None:
    looks = looks_at(len(TEXTS))
    rounds = in_rounds(len(TEXTS), looks)
    for row in [row for row in raced if row.left]:
        look = looks.index(len(row.texts))
        assert row.left == f"Left after {looks[look]} of 24 texts: surely not among the 2 best."
        numbers = sorted(number for part in rounds[: look + 1] for number in part.tolist())
        assert list(row.texts) == [f"Text {number + 1}" for number in numbers]
        point = sweep_points(KIND, LayerPlan.identity(4))[row.number]
        few = list(sweep(model, build_tokenizer(), [TEXTS[number] for number in numbers], KIND))
        same = next(one for one in few if one.plan == str(point.plan))
        for name in ("nats", "perplexity", "bits_per_byte", "loss_change", "change_low", "change_high", "kl", "top1"):
            assert getattr(row, name) == pytest.approx(getattr(same, name), rel=1e-4, abs=1e-5)


def test_with_eight_texts_or_few_plans_all_is_measured(model: Any) -> None:
    for texts, best in ((TEXTS[:8], 1), (TEXTS, 100)):
        rows = list(sweep(model, build_tokenizer(), texts, "delete", measures=SweepMeasures(best=best)))
        assert not any(row.left for row in rows)
        assert all(len(row.texts) == len(texts) for row in rows)


def test_a_row_that_was_left_goes_through_files_and_frames(model: Any, raced: list[SweepRow]) -> None:
    job = SweepJob("tiny", KIND, (), measures=SweepMeasures(best=2))
    assert job.measures.best == 2
    left = next(row for row in raced if row.left)
    assert SweepRow.of({name: str(value) for name, value in left.record().items()}).left == left.left
    points = sweep_points(KIND, LayerPlan.identity(4))
    drawn = sweep_frame(sweep_kind(KIND), ["L0", "L1", "L2", "L3"], points, raced, "loss_change")
    assert drawn.set_index("number")["left"].to_dict() == {
        row.number: bool(row.left) for row in raced if row.number >= 0
    }
    assert left.left in set(drawn["reason"])
    found = best_on_unseen(raced)
    assert found is None or not found.row.left


def test_progress_rises_to_the_number_of_plans_and_a_stop_stops(model: Any) -> None:
    told: list[tuple[int, int]] = []
    count = len(sweep_points(KIND, LayerPlan.identity(4)))
    options: dict[str, Any] = {"measures": SweepMeasures(best=2)}
    list(sweep(model, build_tokenizer(), TEXTS, KIND, on_progress=lambda *now: told.append(now), **options))
    assert told == sorted(told)
    assert told[-1] == (count, count)
    stop = threading.Event()
    rows = sweep(model, build_tokenizer(), TEXTS, KIND, stop=stop, **options)
    next(rows)
    stop.set()
    with pytest.raises(Stopped):
        list(rows)


def test_a_plan_without_numbers_is_left_and_the_others_go_on(model: Any) -> None:
    """A factor that overflows float32 makes infinite states; the sweep says so and ends with the best two."""
    loud, options = copy.deepcopy(model), SweepOptions(factors=(0.0, 0.9, 1.1, 3e38))
    with torch.no_grad():
        for layer in loud.model.layers:
            layer.mlp.down_proj.weight *= 1e4
    rows = list(sweep(loud, build_tokenizer(), TEXTS, KIND, options, measures=SweepMeasures(best=2)))
    broken = [row for row in rows if row.not_finite]
    assert broken
    assert all(row.plan.count("3e+38") for row in broken)
    assert sum(not row.left and math.isfinite(row.nats) for row in rows) >= 3


def test_greedy_removal_takes_the_same_steps_and_has_a_band(model: Any) -> None:
    """Against the plain search: every plan with one layer less compared over all texts."""
    tokenizer = build_tokenizer()
    steps = list(remove_greedily(model, tokenizer, TEXTS))
    plan = LayerPlan.identity(4)
    for step in steps[1:]:
        plans = [plan.delete(at) for at in range(len(plan))]
        losses = []
        for one in plans:
            row = next(iter(sweep(model, tokenizer, TEXTS, "delete", start=one))) if len(one) else None
            losses.append(math.inf if row is None else row.nats)
        plan = plans[losses.index(min(losses))]
        assert str(step.plan) == str(plan)
        if not len(plan) or len(plan) == 1:
            break
    frame = removal_frame(steps)
    assert frame["low"][0] == frame["high"][0] == pytest.approx(frame["perplexity"][0])
    inside = frame[1:]
    assert ((inside["low"] < inside["perplexity"]) & (inside["perplexity"] < inside["high"])).all()


def test_only_long_sweeps_over_one_axis_look_for_the_best_by_themselves() -> None:
    assert usual_best(sweep_kind("delete"), 100) is None
    assert usual_best(sweep_kind("delete"), 101) == 10
    assert usual_best(sweep_kind("swap-pairs"), 435) is None
    assert usual_best(sweep_kind("skip-block"), 7_000) is None


def test_a_job_shortens_a_long_sweep_unless_it_says_how_many(monkeypatch: pytest.MonkeyPatch, model: Any) -> None:
    import surgery_core.sweeps.kinds as kinds

    monkeypatch.setattr(kinds, "MANY", 3)
    monkeypatch.setattr(kinds, "BEST", 2)
    from surgery_core import load_model

    loaded = load_model("fable")
    short = OpenSweep(SweepJob("fable", "delete", shorten=True), loaded)
    assert short.sweep.setup.measures.best == 2
    told = OpenSweep(SweepJob("fable", "delete", measures=SweepMeasures(best=5), shorten=True), loaded)
    assert told.sweep.setup.measures.best == 5
    whole = OpenSweep(SweepJob("fable", "delete"), loaded)
    assert whole.sweep.setup.measures.best is None
    assert short.description.identity != whole.description.identity
    assert '"best"' not in whole.description.identity.measures, "files of before must still be gone on with"
    assert SweepResult(short.description.identity, ()).rows == ()


@pytest.mark.parametrize("best", [0, -3])
def test_fewer_than_one_cannot_be_looked_for(best: int) -> None:
    with pytest.raises(SettingsError, match=rf"The best {best} plans cannot be looked for; give 1 or more"):
        SweepMeasures(best=best)


@pytest.mark.parametrize(("dtype", "vocab"), [(torch.bfloat16, 8_009), (torch.float16, 260)])
def test_in_half_precision_and_with_a_large_vocabulary_the_best_are_those_of_a_whole_sweep(
    model: Any, dtype: torch.dtype, vocab: int
) -> None:
    """Batches hold other texts than in a whole sweep, which half precision shows in the third digit."""
    half = copy.deepcopy(model).to(dtype)
    half.resize_token_embeddings(vocab, mean_resizing=False)
    rows = {row.number: row for row in sweep(half, build_tokenizer(), TEXTS, KIND)}
    raced = list(sweep(half, build_tokenizer(), TEXTS, KIND, measures=SweepMeasures(best=2)))
    kept = [row for row in raced if not row.left]
    assert len(kept) < len(raced)
    for row in kept:
        assert row.nats == pytest.approx(rows[row.number].nats, abs=0.02)
    best = sorted(row.nats for row in rows.values() if row.number >= 0)[:2]
    assert [row.nats for row in ordered(raced)[:2]] == pytest.approx(best, abs=0.02)


def test_a_model_of_one_layer_and_one_of_many(model: Any) -> None:
    one = build_model("llama", num_hidden_layers=1)
    rows = list(sweep(one, build_tokenizer(), TEXTS, "delete", measures=SweepMeasures(best=1)))
    assert [row.left for row in rows] == ["", ""]
    many = build_model("llama", num_hidden_layers=30)
    raced = list(sweep(many, build_tokenizer(), TEXTS[:12], "delete", measures=SweepMeasures(best=3)))
    assert len(raced) == 31
    whole = {row.number: row for row in sweep(many, build_tokenizer(), TEXTS[:12], "delete")}
    for row in raced:
        if not row.left:
            assert row.texts == pytest.approx(whole[row.number].texts, abs=1e-5)
