"""Healing: its steps against peft and autograd by hand, what it is judged by, how it goes on, and what it refuses."""

from __future__ import annotations

import copy
import itertools
import math
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM

import surgery_core as sc
from surgery_core.errors import InputError, PlanError, RefusedPlanError, SettingsError, Stopped, TextError
from surgery_core.measure.readout import Readout
from surgery_core.models.card import HEALING
from surgery_core.proof.preflight import fingerprint
from surgery_core.suture import heal as heal_module
from surgery_core.suture import heal_file
from surgery_core.suture.healing import Healing, HeldOut, Span, best_of
from surgery_core.suture.lessons import divided, steps_of
from surgery_core.suture.low_rank import LowRank
from surgery_core.suture.teaching import divergence
from surgery_core.suture.trainer import Trainer
from tests.tiny import build_model, build_tokenizer

tokenizer = build_tokenizer()
TEXTS = [f"{word} and the {other} went over the hill, {word}; {other * 3}." for word in
         ("fox", "wolf", "a cat", "old dog", "mouse") for other in ("hen", "stork", "crow", "ass", "frog")]  # fmt: skip
ALL = Healing(rank=4, tokens_per_step=2**16, window=128, learning_rate=1e-2, stitch=False)
"""One step goes over all texts, so their order does not matter."""
FEW = Healing(rank=4, tokens_per_step=128, window=32, learning_rate=1e-2, checks=3, stitch=False)


@pytest.fixture
def _last_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every reading count as better: a random model predicts no text, so its loss says nothing."""
    falling = itertools.count(0, -1)
    monkeypatch.setattr(Trainer, "_reading", lambda trainer, look: HeldOut(trainer.now.step, float(next(falling)), 0.0))


last_kept = pytest.mark.usefixtures("_last_kept")


def healed(model: nn.Module, plan: str = "0,3", steps: int = 3, settings: Healing = FEW, **how: Any) -> Any:
    return sc.heal(model, plan, tokenizer, TEXTS, steps=steps, settings=settings, **how)


def own_weights(view: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in view.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def mean_loss(model: Any, texts: Any) -> float:
    losses, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([tokenizer(text.text)["input_ids"]])
        with torch.inference_mode():
            logits = model(ids, use_cache=False).logits[0, :-1].double()
        losses += float(nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        count += ids.shape[1] - 1
    return losses / count


@last_kept
def test_two_steps_are_those_of_peft_and_autograd_by_hand() -> None:
    from peft import LoraConfig, get_peft_model

    base = build_model("llama")
    view = healed(base, steps=2, settings=ALL)
    # the same by hand: the layers taken out of a copy, peft's own way of putting adapters on it, whole logits, one text a run
    student = copy.deepcopy(base)
    first = LowRank(sc.operate(base, "0,3"), sc.LayerPlan.parse("0,3", 4), [0, 1], 4, 0).state()
    student.model.layers = nn.ModuleList([student.model.layers[0], student.model.layers[3]])
    student.model.layers[1].self_attn.layer_idx, student.config.num_hidden_layers = 1, 2
    kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted: Any = get_peft_model(student, LoraConfig(r=4, lora_alpha=4, lora_dropout=0.0, target_modules=kinds))
    trained = {name: one for name, one in adapted.named_parameters() if one.requires_grad}
    with torch.no_grad():
        for name, one in trained.items():
            path = (
                name.split("layers.")[1].replace(".lora_A.default.weight", ".A").replace(".lora_B.default.weight", ".B")
            )
            one.copy_(first[path])
    adam = torch.optim.Adam(trained.values(), lr=1.0, betas=(0.9, 0.98))
    texts = divided(TEXTS).trained
    rows = [torch.tensor([tokenizer(text.text)["input_ids"]]) for text in texts]
    count = sum(row.shape[1] - 1 for row in rows)
    for step in range(2):
        share = step / 2
        adam.param_groups[0]["lr"] = 1e-2 * min(1.0, (share + 0.003) / 0.03) * (1 - share)
        adam.zero_grad()
        for row in rows:
            with torch.no_grad():
                logp = base(row).logits[:, :-1].log_softmax(-1)
            logq = adapted(row).logits[:, :-1].log_softmax(-1)
            ((logp.exp() * (logp - logq)).sum() / count).backward()
        adam.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = adapted.merge_and_unload().state_dict()
    found = view.state_dict()
    moved = 0.0
    for name, tensor in expected.items():
        # Adam divides by the size of the gradient: where that is all rounding, so is the step
        torch.testing.assert_close(found[name], tensor, atol=2e-4, rtol=0)
        plain = name.replace("layers.1.", "layers.3.")
        moved = max(moved, float((tensor - base.state_dict()[plain]).abs().max()))
    assert moved > 2e-3


def test_the_gradient_of_the_divergence_is_that_of_whole_logits() -> None:
    base = build_model("llama")
    readout, generator = Readout(base), torch.Generator().manual_seed(0)
    ours, theirs = (torch.randn(9, 32, generator=generator) for _ in range(2))
    kl, gradient = divergence(readout, ours, theirs)
    leaf = ours.double().requires_grad_()
    weight = base.lm_head.weight.double()
    logp, logq = (theirs.double() @ weight.T).log_softmax(-1), (leaf @ weight.T).log_softmax(-1)
    expected = nn.functional.kl_div(logq, logp, log_target=True, reduction="sum")
    expected.backward()
    assert kl == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(gradient.double(), leaf.grad, atol=1e-5, rtol=1e-4)


@last_kept
def test_the_base_stays_the_same_to_the_bit_and_wants_no_gradients() -> None:
    base = build_model("llama").requires_grad_()
    before = fingerprint(base)
    view = healed(base)
    assert fingerprint(base) == before
    assert all(one.grad is None and one.requires_grad for one in base.parameters())
    changed = {
        name for name, one in view.named_parameters() if one.data_ptr() not in {p.data_ptr() for p in base.parameters()}
    }
    assert {name.split(".")[2] for name in changed} == {"0", "1"}
    assert not any("lora" in name for name, _ in view.named_modules())


def test_figures_are_of_texts_that_were_never_trained_on() -> None:
    base = build_model("llama")
    view = healed(base)
    report = sc.heal_report(view)
    trained, held = report.lessons.trained, report.lessons.held
    assert [text.text for text in held] == TEXTS[7::8]
    assert not {text.text for text in trained} & {text.text for text in held}
    assert len(trained) + len(held) == len(TEXTS)
    nats = {side.name: side.nats for side in report.sides}
    assert list(nats) == ["base", "cut", "healed"]
    for name, model in (("base", base), ("cut", sc.operate(base, "0,3")), ("healed", view)):
        assert nats[name] == pytest.approx(mean_loss(model, held), rel=1e-5)
    assert report.kept.nats == pytest.approx(nats["healed"], rel=1e-5)
    assert report.held[0].nats == pytest.approx(nats["cut"], rel=1e-5)
    assert report.sides[2].to_base is not None
    assert report.sides[2].to_before is not None


def test_it_gives_back_a_part_of_the_divergence() -> None:
    base = build_model("llama")
    report = sc.heal_report(healed(base, steps=24))
    assert report.held[-1].kl < 0.8 * report.held[0].kl
    assert report.sides[-1].kl == pytest.approx(report.kept.kl, rel=1e-4)


def test_the_same_seed_gives_the_same_result_and_another_one_another() -> None:
    base = build_model("llama")
    first = own_weights(healed(base))
    torch.manual_seed(99)  # what others have drawn does not count
    assert same(first, own_weights(healed(base)))
    other = Healing(**{**vars(FEW), "seed": 1})
    assert not same(first, own_weights(healed(base, settings=other)))


def test_a_heal_that_was_stopped_goes_on_to_the_same_end(tmp_path: Path) -> None:
    base = build_model("llama")
    whole = healed(base, steps=6)
    stop = threading.Event()

    def told(now: Any) -> None:
        if now.step == 4:
            stop.set()

    half = sc.heal_report(healed(base, steps=6, folder=tmp_path, stop=stop, on_progress=told))
    assert (half.step, half.stopped) == (4, True)
    view = healed(base, steps=6, folder=tmp_path)
    assert same(own_weights(whole), own_weights(view))
    report = sc.heal_report(view)
    assert (report.step, report.stopped) == (6, False)
    # the stop made one reading more
    assert {one.step for one in report.held} == {one.step for one in sc.heal_report(whole).held} | {4}
    # what is done is not done again
    assert same(own_weights(view), own_weights(healed(base, steps=6, folder=tmp_path)))


def test_a_stop_keeps_the_best_state_and_before_any_training_it_is_an_error() -> None:
    base, stop = build_model("llama"), threading.Event()
    # far too fast: training goes astray, and what it began with is the best
    fast = Healing(rank=4, tokens_per_step=128, window=32, learning_rate=0.9, checks=100, stitch=False)
    view = healed(
        base, steps=100, settings=fast, stop=stop, on_progress=lambda now: stop.set() if now.step == 5 else None
    )
    report = sc.heal_report(view)
    assert report.step == 5
    assert report.kept.nats == min(one.nats for one in report.held)
    assert report.sides[-1].nats == pytest.approx(report.kept.nats, rel=1e-5)
    assert report.sides[-1].nats <= report.sides[1].nats + 1e-6
    with pytest.raises(Stopped):
        healed(base, stop=stop)


def test_another_heal_in_the_folder_is_refused_and_so_is_a_broken_file(tmp_path: Path) -> None:
    base = build_model("llama")
    healed(base, folder=tmp_path)
    with pytest.raises(SettingsError, match="was begun with plan 0,3, and 0,2-3 is asked for"):
        healed(base, plan="0,2-3", folder=tmp_path)
    with pytest.raises(SettingsError, match="begun with steps 3, and 9"):
        healed(base, steps=9, folder=tmp_path)
    path = tmp_path / heal_file.FILE
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(InputError, match="is no whole record of a heal"):
        healed(base, folder=tmp_path)


def test_a_full_disk_is_said_and_the_heal_goes_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    report = sc.heal_report(healed(build_model("llama"), folder=tmp_path / "file" / "below"))
    assert report.step == 3
    assert "could not be written" in report.notes[0]
    assert "make room" in report.sentence


FAMILIES = ("llama", "gpt2", "gpt_neox", "opt", "bloom", "phi", "qwen3", "gemma2", "olmo2", "cohere")


@last_kept
@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_opens_the_healed_model(family: str, tmp_path: Path) -> None:
    build_model(family).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    loaded = sc.load_model(str(tmp_path / "base"), device="cpu")
    before = fingerprint(loaded.model)
    view = healed(loaded.model, steps=4)
    folder = sc.export_healed(loaded, view, tmp_path / "new")
    saved = AutoModelForCausalLM.from_pretrained(folder)
    ids = torch.tensor([tokenizer("The old woman had a cat.").input_ids])
    with torch.inference_mode():
        expected, cut = view(ids).logits, sc.operate(loaded.model, "0,3")(ids).logits
        torch.testing.assert_close(saved(ids).logits, expected, atol=1e-4, rtol=1e-3)
    assert not torch.allclose(cut, expected, atol=1e-3)
    assert fingerprint(loaded.model) == before
    again = sc.load_model(str(folder), device="cpu")
    assert again.info.n_layers == 2
    assert again.info.healed == sc.heal_report(view).made
    assert (folder / HEALING).is_file()
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "Nothing was trained" not in card
    assert again.info.healed in card
    assert "healed" in again.info.title


@last_kept
def test_halves_factors_and_repeats_stay_what_the_plan_says(tmp_path: Path) -> None:
    build_model("llama").save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    loaded = sc.load_model(str(tmp_path / "base"), device="cpu")
    view = healed(loaded.model, plan="0x2,2.mlp*0.5,3")
    # the attention that does not run is not trained back
    assert not view.model.layers[2].self_attn.o_proj.weight.any()
    first, second = (view.model.layers[at].mlp.up_proj.weight for at in (0, 1))
    assert not torch.equal(first, second)
    folder = sc.export_healed(loaded, view, tmp_path / "new")
    ids = torch.tensor([tokenizer("The old woman had a cat.").input_ids])
    with torch.inference_mode():
        torch.testing.assert_close(
            AutoModelForCausalLM.from_pretrained(folder)(ids).logits, view(ids).logits, atol=1e-4, rtol=1e-3
        )


def test_a_healed_model_is_operated_and_compared_like_any_other() -> None:
    base = build_model("llama")
    view = healed(base, plan="0,2-3")
    assert str(sc.operate(view, "0,2").config.num_hidden_layers) == "2"
    compared = sc.compare(base, view, tokenizer, TEXTS[:3])
    ids = torch.tensor([tokenizer(TEXTS[0])["input_ids"]])
    with torch.inference_mode():
        logp, logq = (model(ids).logits[0, :-1].double().log_softmax(-1) for model in (base, view))
    assert compared.rows[0].kl == pytest.approx(float((logp.exp() * (logp - logq)).sum(-1).mean()), rel=1e-3)


def test_two_heals_at_once_are_each_what_they_are_alone() -> None:
    base = build_model("llama")
    alone = [own_weights(healed(base, plan=plan)) for plan in ("0,3", "0-1,3")]
    found: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda at=at, plan=plan: found.update({at: own_weights(healed(base, plan=plan))}))
        for at, plan in enumerate(("0,3", "0-1,3"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(alone[at], found[at]) for at in range(2))


@pytest.mark.parametrize(
    ("plan", "error", "why"),
    [
        ("", RefusedPlanError, "Every layer is deleted"),
        ("0-3", PlanError, "nothing to heal"),
        ("0,(1|2),3", RefusedPlanError, "cannot be healed"),
        ("0*0.5,2-3", RefusedPlanError, "cannot hold 0.0.5"),
    ],
)
def test_plans_that_cannot_be_healed_say_why(plan: str, error: type[Exception], why: str) -> None:
    with pytest.raises(error, match=why):
        healed(build_model("llama"), plan=plan)


def test_too_little_text_bad_settings_and_weights_that_are_no_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    base = build_model("llama")
    with pytest.raises(
        TextError, match="17 tokens to train on and 6 to be judged by; healing needs at least 256 and 32"
    ):
        sc.heal(base, "0,3", tokenizer, ["The fox and a hen", "A hen."], steps=1)
    with pytest.raises(TextError, match="too short to hold its end out"):
        sc.heal(base, "0,3", tokenizer, "word", steps=1)
    for given, why in (
        ({"steps": 0}, "0 steps"),
        ({"minutes": -1.0}, "-1 minutes"),
        ({"minutes": math.nan}, "nan minutes"),
    ):
        with pytest.raises(SettingsError, match=why):
            sc.heal(base, "0,3", tokenizer, TEXTS, **given)
    with pytest.raises(SettingsError, match="rank of 0"):
        Healing(rank=0)
    monkeypatch.setattr(heal_module, "free_memory", lambda: 1000)
    with pytest.raises(RefusedPlanError, match="GB of memory, and 0.0 GB are free"):
        healed(base)
    broken = build_model("llama")
    with torch.no_grad():
        broken.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(RefusedPlanError, match="no numbers.*L1"):
        healed(broken)
    broken.config.quantization_config = {"quant_method": "x"}
    with pytest.raises(RefusedPlanError, match="quantised"):
        healed(broken)


def test_texts_are_divided_without_any_on_both_sides() -> None:
    found = divided(
        [sc.read_text(text, f"{number}") for number, text in enumerate(["one a", "two b", "one a", "three c"])]
    )
    assert [text.text for text in found.trained] == ["one a", "two b"]
    assert [text.text for text in found.held] == ["three c"]
    long = " ".join(f"w{number}" for number in range(80))
    single = divided(long)
    assert f"{single.trained[0].text} {single.held[0].text}" == long
    assert len(single.held[0].text) < len(long) / 7
    many = divided([f"text {number}" for number in range(400)])
    assert len(many.held) == 16


def test_every_round_has_every_piece_once_and_can_be_begun_anywhere() -> None:
    from surgery_core.states.windows import Window

    windows = [Window(number, 0, tuple(range(number + 2)), 1) for number in range(7)]
    order = steps_of(windows, 8, seed=3)
    steps = [next(order) for _ in range(12)]
    seen = [one.text for step in steps for one in step]
    assert sorted(seen[:7]) == sorted(seen[7:14]) == list(range(7))
    assert seen[:7] != seen[7:14]
    later = steps_of(windows, 8, seed=3, skip=5)
    assert [next(later) for _ in range(7)] == steps[5:]


def test_a_span_and_the_best_reading() -> None:
    assert Span.of(2.0, None).share(5, 30.0) == 0.25
    assert Span.of(2.0, 10).share(5, 1e9) == 0.5
    readings = tuple(HeldOut(at, nats, 0.0) for at, nats in enumerate((3.0, math.nan, 2.0, 2.0)))
    assert best_of(readings).step == 2
