"""Text or search: what each search removes, by hand and by what else finds it, and how removed sets are compared."""

from __future__ import annotations

import math
import threading
from functools import cache

import numpy as np
import pytest

from surgery_core.errors import SettingsError, Stopped
from surgery_core.measure.importance import importance
from surgery_core.studies import layer_orders
from surgery_core.studies.calibration import _Compared
from surgery_core.studies.finding import Claim
from surgery_core.studies.layer_orders import SEARCHES, LossTable, Searches, shortened
from surgery_core.sweeps.removal import remove_greedily
from surgery_core.text import Text
from tests.core.studies.six import TEXTS, N, broken, losses_by_hand, run_study, six, tokenizer

EACH = np.arange(len(TEXTS))
SMALL = {"sets": ["given", "short"], "texts": 4, "tokens": 20, "remove": 2, "resamples": 12}


def mean_loss(gone: tuple[int, ...], texts: np.ndarray = EACH) -> float:
    nats, tokens = losses_by_hand("llama", gone)[:, texts].sum(1)
    return float(nats / tokens)


@cache
def searches() -> Searches:
    return Searches(six(), tokenizer(), TEXTS)


def greedy_by_hand(count: int, texts: np.ndarray) -> frozenset[int]:
    gone: tuple[int, ...] = ()
    for _ in range(count):
        candidates = [tuple(sorted((*gone, layer))) for layer in range(N) if layer not in gone]
        gone = min(candidates, key=lambda one: mean_loss(one, texts))
    return frozenset(gone)


@pytest.mark.parametrize("texts", [EACH, np.array([0, 0, 5]), np.array([3, 4, 7, 7, 7])])
def test_losses_and_greedy_removal_by_hand(texts: np.ndarray) -> None:
    costs = searches().costs("one-shot", texts)
    assert costs == pytest.approx([mean_loss((layer,), texts) for layer in range(N)], abs=1e-4)
    by_loss = sorted(range(N), key=lambda layer: mean_loss((layer,), texts))
    assert searches().removed("one-shot", 2, texts) == frozenset(by_loss[:2])
    assert searches().removed("greedy", 3, texts) == greedy_by_hand(3, texts)


def test_greedy_removal_is_that_of_the_sweep_page() -> None:
    steps = list(remove_greedily(six(), tokenizer(), TEXTS, least=N - 3))
    for step in steps[1:]:
        assert searches().removed("greedy", N - step.layers_left, EACH) == frozenset(step.plan.deleted)


def test_influence_and_angles_are_those_of_importance() -> None:
    found = importance(six(), tokenizer(), TEXTS)
    assert searches().costs("influence", EACH) == pytest.approx(found.block_influence, abs=1e-9)
    assert searches().costs("angular", EACH) == pytest.approx(found.angular[:, 0], abs=1e-9)
    lowest = np.argsort(found.block_influence)[:2].tolist()
    assert searches().removed("influence", 2, EACH) == frozenset(lowest)
    start = int(np.argmin(found.angular[: N - 1, 1]))
    assert searches().removed("angular", 2, EACH) == frozenset((start, start + 1))
    some = importance(six(), tokenizer(), TEXTS[2:4])
    assert searches().costs("influence", np.array([2, 3])) == pytest.approx(some.block_influence, abs=1e-9)


def test_every_plan_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    plain = layer_orders.Sweep

    def counted(model: object, tokenizer: object, texts: object, points: list, **more: object) -> object:
        asked.extend(str(point.plan) for point in points)
        return plain(model, tokenizer, texts, points, **more)

    monkeypatch.setattr(layer_orders, "Sweep", counted)
    table = LossTable(six(), tokenizer(), TEXTS[:2])
    first = table.nats([(0,), (1,), (0, 1)])
    again = table.nats([(1,), (0,), (0,), (2,)])
    assert sorted(asked) == ["0,2-5", "0-1,3-5", "1-5", "2-5"]
    assert table.tried == 4
    np.testing.assert_array_equal(again[[1, 0]], first[:2])


def compared(**removed: list[set[int]]) -> _Compared:
    """Return a comparison whose searches remove these layers, a set a search in their order."""

    class Fixed:
        n = N

        def __init__(self, gone: list[set[int]]) -> None:
            self.gone = gone

        def __len__(self) -> int:
            return 8

        def removed(self, search: str, count: int, texts: np.ndarray) -> frozenset[int]:
            return frozenset(self.gone[SEARCHES.index(search)])

    return _Compared(
        {name: Fixed(gone) for name, gone in removed.items()}, 2, SEARCHES[: len(next(iter(removed.values())))]
    )  # type: ignore[misc]


def test_what_agrees_by_hand() -> None:
    # searches agree, texts share one layer of three: 1 - 1/3
    assert compared(a=[{0, 1}, {0, 1}], b=[{1, 2}, {1, 2}]).difference(np.arange(16)) == pytest.approx(1 - 1 / 3)
    # texts agree, searches share nothing
    assert compared(a=[{0, 1}, {2, 3}], b=[{0, 1}, {2, 3}]).difference(np.arange(16)) == -1.0
    figure = compared(a=[{0, 1}, {2, 3}], b=[{0, 1}, {2, 3}]).figure("x", lambda units: -1.0, seed=0, times=20)
    assert (figure.value, figure.low, figure.high, figure.n_units) == (-1.0, -1.0, -1.0, 16)
    frame = compared(a=[{0, 1}, {0, 2}], b=[{1, 2}, {4, 5}]).frame()
    cells = frame.set_index(["one", "other"])["jaccard"]
    assert cells["a, one-shot", "a, greedy"] == pytest.approx(1 / 3)
    assert cells["a, one-shot", "b, greedy"] == 0.0
    assert cells["b, greedy", "b, greedy"] == 1.0


def test_the_study_compares_what_the_searches_remove() -> None:
    finding = run_study("calibration", six(), **SMALL)
    figure = finding.figure
    assert figure.low <= figure.high
    assert figure.n_units == 8
    own = finding.frame.set_index(["one", "other"])
    given = Searches(six(), tokenizer(), shortened(tokenizer(), TEXTS[::2], 20))
    for search in SEARCHES:
        line = own.loc[(f"given, {search}", f"given, {search}")]
        gone = sorted(given.removed(search, 2, np.arange(4)) or ())
        assert line["one_removed"] == ", ".join(f"L{layer}" for layer in gone)
    cells = own["jaccard"]
    names = [(a, b) for a in SEARCHES for b in SEARCHES if a < b]
    searched = np.mean([cells[f"{text}, {a}", f"{text}, {b}"] for text in ("given", "short") for a, b in names])
    texts = np.mean([cells[f"given, {search}", f"short, {search}"] for search in SEARCHES])
    assert figure.value == pytest.approx(searched - texts)
    assert finding.others[1].value == pytest.approx(searched)
    assert finding.others[2].value == pytest.approx(texts)


def test_texts_are_cut_where_a_token_ends() -> None:
    cut = shortened(tokenizer(), [Text("A", "abcdefghij"), Text("B", "abc")], 5)
    assert [text.text for text in cut] == ["abcde", "abc"]


def test_a_model_that_is_no_number_says_nothing() -> None:
    finding = run_study("calibration", broken(), **SMALL)
    assert Claim(0.0).outcome(finding.figure) == "too few texts to say"
    assert all(math.isnan(one.value) for one in finding.others)
    assert finding.frame.empty


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sets": ["short"]}, "with 1 set; give two or more of given, short, stories"),
        ({"sets": ["short", "poems"]}, "no set of texts 'poems'"),
        ({"sets": ["short", "stories/3"]}, "no set of texts 'stories/3'"),
        ({"remove": N}, "6 layers cannot be removed of 6 to compare searches; give 1 to 5"),
        ({"searches": ["greedy", "genetic"]}, "no search 'genetic'; there are: one-shot, greedy, influence, angular"),
        ({"searches": ["greedy"]}, "cannot be compared with 1"),
    ],
)
def test_what_cannot_be_compared_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        run_study("calibration", six(), **{**SMALL, **options})


def test_progress_reaches_its_end_and_a_stop_ends_it() -> None:
    seen: list[tuple[int, int]] = []
    run_study("calibration", six(), **SMALL, on_progress=lambda *at: seen.append(at))
    assert seen[-1] == (15, 15)
    stop = threading.Event()
    with pytest.raises(Stopped):
        run_study("calibration", six(), **SMALL, stop=stop, on_progress=lambda done, most: stop.set())
