"""Sweeps of damped repeats against layers that are called by hand, one after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from surgery_core import Text, sweep
from surgery_core.errors import SettingsError
from surgery_core.measure.encoding import encode_texts
from surgery_core.plans.plan import LayerPlan
from surgery_core.states.shared_beginnings import SharedRuns
from surgery_core.sweeps.estimate import point_runs
from surgery_core.sweeps.kinds import sweep_points
from surgery_core.sweeps.options import SweepOptions
from surgery_core.sweeps.rows import SweepRow
from tests.tiny import build_model, build_tokenizer

TEXTS = (Text("one", "The old woman went to the well."), Text("two", "A fox ran."))
ENDS = {"llama": ("model.norm", "model.layers"), "gpt2": ("transformer.ln_f", "transformer.h")}


class ByHand:
    """The loss of a plan of (layers, times, part), by calling a model's layers as it calls them itself."""

    def __init__(self, family: str) -> None:
        self.model = build_model(family)
        norm, layers = ENDS[family]
        self.norm, self.layers = self.model.get_submodule(norm), self.model.get_submodule(layers)

    def loss(self, blocks: list[tuple[list[int], int, float]]) -> float:
        """Return nats a token over the texts."""
        nats, count = 0.0, 0
        for text in TEXTS:
            ids = build_tokenizer()(text.text, return_tensors="pt").input_ids
            logits = self.logits(ids, blocks)[0, :-1].double()
            nats += torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum").item()
            count += ids.shape[1] - 1
        return nats / count

    def logits(self, ids: torch.Tensor, blocks: list[tuple[list[int], int, float]]) -> torch.Tensor:
        seen: dict[str, Any] = {}
        hook = self.layers[0].register_forward_pre_hook(  # type: ignore[index,union-attr]
            lambda module, args, kwargs: seen.update(args=args, kwargs=kwargs), with_kwargs=True
        )
        with torch.inference_mode():
            self.model(ids, use_cache=False)
            hook.remove()
            state = seen["args"][0].clone()
            for layers, times, part in blocks:
                for _ in range(times):
                    after = state
                    for index in layers:
                        out = self.layers[index](after, *seen["args"][1:], **seen["kwargs"])  # type: ignore[index,operator]
                        after = out if isinstance(out, torch.Tensor) else out[0]
                    state = state + part * (after - state)
            logits: torch.Tensor = self.model.lm_head(self.norm(state))  # type: ignore[operator]
        return logits


def rows_of(family: str, kind: str, options: SweepOptions) -> list[SweepRow]:
    found = sweep(build_model(family), build_tokenizer(), TEXTS, kind, options)
    return [row for row in found if row.number >= 0]


def around(begin: int, end: int, times: int, part: float) -> list[tuple[list[int], int, float]]:
    before, after = [([i], 1, 1.0) for i in range(begin)], [([i], 1, 1.0) for i in range(end, 4)]
    return [*before, (list(range(begin, end)), times, part), *after]


@pytest.mark.parametrize("family", list(ENDS))
def test_every_block_in_smaller_steps_equals_its_layers_called_by_hand(family: str) -> None:
    by_hand = ByHand(family)
    rows = rows_of(family, "damped-block", SweepOptions(times=3, max_length=3))
    assert len(rows) == 4 + 3 + 2
    for row in rows:
        expected = by_hand.loss(around(row.x, row.x + row.y, 3, 1 / 3))
        assert row.nats == pytest.approx(expected, abs=1e-5), row.plan
        assert (row.unproved, row.refused) == ("", "")


@pytest.mark.parametrize("family", list(ENDS))
def test_a_block_looped_more_and_less_equals_its_layers_called_by_hand(family: str) -> None:
    by_hand = ByHand(family)
    rows = rows_of(family, "loop-block", SweepOptions(layer=1, length=2, times=3, factors=(-0.5, 0.5, 1.0)))
    assert [(row.x, row.y) for row in rows] == [(part, times) for times in (2, 3) for part in (-0.5, 0.5, 1.0)]
    for row in rows:
        assert row.nats == pytest.approx(by_hand.loss(around(1, 3, row.y, row.x)), abs=1e-5), row.plan


@pytest.mark.parametrize("family", list(ENDS))
def test_the_atlas_equals_layers_called_by_hand_in_all_of_its_maps(family: str) -> None:
    by_hand = ByHand(family)
    rows = rows_of(family, "atlas", SweepOptions(times=3, max_length=2))
    assert len(rows) == 3 * (4 + 3)
    for row in rows:
        name, size = str(row.y).split()
        times, part = {"skip": (0, 1.0), "repeat": (3, 1.0), "damped": (3, 1 / 3)}[name]
        begin, end = int(row.x), int(row.x) + int(size)
        if name == "repeat":
            blocks = [([*range(begin)], 1, 1.0), ([*range(begin, end)] * 3, 1, 1.0), ([*range(end, 4)], 1, 1.0)]
        else:
            blocks = around(begin, end, times, part)
        assert row.nats == pytest.approx(by_hand.loss(blocks), abs=1e-5), row.plan
        assert (row.unproved, row.refused) == ("", "")


def test_the_atlas_has_no_cell_for_what_cannot_be_damped() -> None:
    start = LayerPlan.parse("0,(1|2),3", 4)
    cells = [(p.x, p.y) for p in sweep_points("atlas", start, SweepOptions(max_length=1))]
    assert cells == [
        *((n, "skip 1") for n in range(3)),
        *((n, "repeat 1") for n in range(3)),
        (0, "damped 1"),
        (2, "damped 1"),
    ]


def test_what_cannot_be_one_slot_is_left_out_of_blocks_and_refused_as_one() -> None:
    start = LayerPlan.parse("0,(1|2),3", 4)
    assert [(p.x, p.y) for p in sweep_points("damped-block", start)] == [(0, 1), (2, 1)]
    assert [p.x for p in sweep_points("damped-repeat", start)] == [0, 2]
    with pytest.raises(SettingsError, match="Layers 1 to 1 are not all single"):
        sweep_points("loop-block", start)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layer": 3, "length": 2}, "A block of 2 layers from layer 3 on does not fit a model of 4; allowed: 1 to 1"),
        ({"length": 0}, "A block of 0 layers"),
        ({"layer": 9}, "no layer 9"),
    ],
)
def test_a_block_that_does_not_fit_is_named(options: dict[str, int], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        sweep_points("loop-block", LayerPlan.identity(4), SweepOptions(**options))  # type: ignore[arg-type]


def test_a_damping_that_is_no_number_is_refused() -> None:
    with pytest.raises(SettingsError, match="damped by nan"):
        SweepOptions(damping=float("nan"))


@pytest.mark.parametrize(
    ("kind", "options", "runs"),
    [
        # the base, then of each block its layers twice and all behind it: a block of l from s is 2l + (4 - s - l)
        ("damped-block", SweepOptions(times=2), 4 + sum(el + 4 - s for s in range(4) for el in range(1, 4) if s + el <= 4)),
        ("damped-repeat", SweepOptions(times=3), 4 + sum(3 + (3 - s) for s in range(4))),
        # of each part the block three times, since twice is how thrice begins, and the last layer behind twice and thrice
        ("loop-block", SweepOptions(layer=1, length=2, times=3, factors=(0.25, 0.5)), 4 + 2 * (3 * 2 + 2)),
    ],
)  # fmt: skip
def test_only_what_lies_behind_the_first_change_runs(
    kind: str, options: SweepOptions, runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The floor of a sweep, by hand and as estimates count it, against the calls of layers: none runs what another has run."""
    identity, model, calls = LayerPlan.identity(4), build_model("llama"), list[int]()
    plans = [point.plan for point in sweep_points(kind, identity, options)]
    layer = type(model.model.layers[0])
    forward = layer.forward

    def counted(*given: Any, **more: Any) -> Any:
        calls.append(1)
        return forward(*given, **more)

    batches = encode_texts(model, build_tokenizer(), TEXTS[:1]).batches
    monkeypatch.setattr(layer, "forward", counted)
    shared = SharedRuns(model, batches, plans)
    for plan in plans:
        shared.hidden([plan], 0)
        shared.finish(plan)
    assert len(calls) == runs == 4 + sum(point_runs(identity, plans))
