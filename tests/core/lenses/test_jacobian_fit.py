"""Fitting a Jacobian lens, against gradients taken one by one with plain torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from surgery_core import whole_files
from surgery_core.errors import LensError, SettingsError, Stopped, TextError
from surgery_core.lenses import jacobian_fit, jacobian_rows
from surgery_core.lenses.jacobian import Jacobians, merge_jacobians
from surgery_core.lenses.jacobian_fit import FitProgress, JacobianFit, fit_jacobian_lens, fit_jacobians
from surgery_core.models.opening import load_model
from surgery_core.surgery.view import operate
from surgery_core.text import Text, bundled_texts
from tests.core.measure.test_measure import byte_tokenizer
from tests.core.support.families import N_LAYERS, build
from tests.jacobian_reference import reference_jacobians

model_of = cache(build)
TEXTS = [Text("One", "The quick brown fox"), Text("Two", "A lazy dog sleeps,"), Text("Three", "Home is far, far.")]
SHORT = JacobianFit(tokens=8, skip=3, least=3)
"""Texts of 8 tokens, of which 4 positions are valid: 3 to 6."""
EIGHT = ("gpt2", "gpt_neox", "llama", "mistral", "qwen2", "gemma2", "opt", "bloom")


def tokens(text: Text, settings: JacobianFit = SHORT) -> list[int]:
    return byte_tokenizer()(text.text)["input_ids"][: settings.tokens]


@cache
def by_hand(family: str, notation: str = "0-3", target: int = 3, text: int = 0) -> torch.Tensor:
    """Return `[target, d, d]`: each component at each valid position differentiated alone, and summed up here."""
    model, ids = operate(model_of(family), notation), tokens(TEXTS[text])
    layers = next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) >= N_LAYERS - 1)
    states: list[torch.Tensor] = []

    def take(module: Any, args: Any, output: Any) -> None:
        state = output if isinstance(output, torch.Tensor) else output[0]
        if not states:
            state.requires_grad_()
        states.append(state)

    handles = [layer.register_forward_hook(take) for layer in layers]
    model(torch.tensor([ids]), use_cache=False)
    for handle in handles:
        handle.remove()
    last, below = states[target], states[:target]
    valid = range(SHORT.skip, len(ids) - 1)
    found = torch.zeros((target, last.shape[-1], last.shape[-1]), dtype=torch.float64)
    for row in range(last.shape[-1]):
        for later in valid:
            grads = torch.autograd.grad(last[0, later, row], below, retain_graph=True)
            for layer, grad in enumerate(grads):
                for earlier in valid:
                    found[layer, row] += grad[0, earlier].double() / len(valid)
    return found.float()


def close(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


def fit(model: Any, texts: Any = None, settings: JacobianFit = SHORT, **how: Any) -> Jacobians:
    return fit_jacobians(model, byte_tokenizer(), TEXTS if texts is None else texts, settings, **how)


@pytest.mark.parametrize("family", EIGHT)
def test_a_fitted_matrix_is_the_sum_of_gradients_taken_one_by_one(family: str) -> None:
    lens = fit_jacobian_lens(model_of(family), byte_tokenizer(), TEXTS[:1], SHORT)
    assert sorted(lens.jacobians) == list(range(N_LAYERS - 1))
    for layer, matrix in lens.jacobians.items():
        assert close(matrix, by_hand(family)[layer]) < 1e-5


@pytest.mark.parametrize("way", [jacobian_rows.PLAIN, *jacobian_rows.WAYS])
@pytest.mark.parametrize("family", ["llama", "gemma2", "bloom"])
def test_every_way_gives_the_same(family: str, way: jacobian_rows.Way) -> None:
    reader = jacobian_rows.TextJacobians(model_of(family), range(N_LAYERS - 1), N_LAYERS - 1, SHORT.skip)
    reader.way = way
    assert close(reader.read(tokens(TEXTS[0])), by_hand(family)) < 1e-5


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have torch use three threads, and passes of two components of these texts."""
    before = torch.get_num_threads()
    monkeypatch.setitem(jacobian_rows.ELEMENTS, "cpu", 2 * 5 * model_of("llama").config.hidden_size)
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_threads_have_passes_of_their_own_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    own, seen = jacobian_rows._backward, set()

    def watched(*args: Any, **how: Any) -> Any:
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        return own(*args, **how)

    monkeypatch.setattr(jacobian_rows, "_backward", watched)
    reader = jacobian_rows.TextJacobians(model_of("llama"), range(N_LAYERS - 1), N_LAYERS - 1, SHORT.skip)
    reader.way = jacobian_rows.WAYS[0]
    assert close(reader.read(tokens(TEXTS[0])), by_hand("llama")) < 1e-5
    assert {at for _, at in seen} == {1}
    assert torch.get_num_threads() == 3
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == 3


@pytest.mark.usefixtures("three_threads")
def test_what_one_thread_raises_is_raised() -> None:
    asked = threading.Event()

    def look() -> None:
        if asked.is_set():
            raise Stopped("enough")
        asked.set()

    reader = jacobian_rows.TextJacobians(model_of("llama"), [0], N_LAYERS - 1, SHORT.skip, look)
    reader.way = jacobian_rows.WAYS[0]
    with pytest.raises(Stopped, match="enough"):
        reader.read(tokens(TEXTS[0]))
    assert torch.get_num_threads() == 3


def test_a_faster_way_is_taken_only_where_it_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that differs (here: an eager attention that forgets its scale) leaves the model's own code."""
    reader = jacobian_rows.TextJacobians(model_of("llama"), [0], 3, SHORT.skip)
    reader.read(tokens(TEXTS[0]))
    assert reader.way == jacobian_rows.WAYS[0]
    own = jacobian_rows._backward
    monkeypatch.setattr(
        jacobian_rows,
        "_backward",
        lambda *args, shared: [(2 if shared else 1) * rows for rows in own(*args, shared=shared)],
    )
    wrong = jacobian_rows.TextJacobians(model_of("llama"), [0], 3, SHORT.skip)
    assert close(wrong.read(tokens(TEXTS[0]))[0], by_hand("llama")[0]) < 1e-5
    assert wrong.way == jacobian_rows.PLAIN


def test_the_lens_is_the_mean_over_texts_and_parts_of_it_merge_into_the_whole() -> None:
    model = model_of("llama")
    whole, parts = fit(model), [fit(model, TEXTS[:1]), fit(model, TEXTS[1:])]
    alone = torch.stack([torch.stack(list(fit(model, [text]).matrices.values())) for text in TEXTS])
    merged = merge_jacobians(parts)
    assert (whole.n_texts, merged.n_texts) == (3, 3)
    for layer in whole.layers:
        assert close(whole.matrices[layer], alone[:, layer].mean(0)) < 1e-6
        assert close(merged.matrices[layer], whole.matrices[layer]) < 1e-6


def test_parts_that_do_not_belong_together_are_refused_with_what_differs() -> None:
    one = fit(model_of("llama"), TEXTS[:1])
    with pytest.raises(LensError, match="Part 2 has another layers than part 1"):
        merge_jacobians([one, fit(model_of("llama"), TEXTS[1:], replace(SHORT, layers=(1,)))])
    with pytest.raises(LensError, match="another unembed_hash"):
        merge_jacobians([one, fit(model_of("gpt2"), TEXTS[1:])])
    with pytest.raises(LensError, match="nothing to merge"):
        merge_jacobians([])


def test_layers_and_the_target_can_be_chosen() -> None:
    found = fit(model_of("llama"), TEXTS[:1], replace(SHORT, layers=(-3, 0), target=-2))
    assert (found.layers, found.target, found.n_layers) == ((0, 1), 2, N_LAYERS)
    for layer in (0, 1):
        assert close(found.matrices[layer], by_hand("llama", target=2)[layer]) < 1e-5


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"target": 4}, "The target is layer 4; it must be from 1 to 3"),
        ({"target": -4}, "The target is layer -4"),
        ({"layers": (3,)}, "from 0 to 2, below the target 3"),
        ({"layers": ()}, "from 0 to 2"),
        ({"layers": (-5,)}, "from 0 to 2"),
    ],
)
def test_layers_that_are_not_there_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        fit(model_of("llama"), TEXTS[:1], replace(SHORT, **settings))


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingsError, match="Texts of 18 tokens of which 16 are skipped"):
        JacobianFit(tokens=18)
    with pytest.raises(SettingsError, match="after 0 texts"):
        JacobianFit(least=0)
    with pytest.raises(SettingsError, match="a change of 1.5"):
        JacobianFit(tolerance=1.5)


def test_an_operated_model_has_matrices_for_its_slots() -> None:
    view = operate(model_of("llama"), "0,2,3")
    found = fit(view, TEXTS[:1])
    assert (found.plan, found.n_layers, found.layers) == ("0,2-3", 3, (0, 1))
    for slot in found.layers:
        assert close(found.matrices[slot], by_hand("llama", "0,2,3", target=2)[slot]) < 1e-5


def test_the_shared_model_stays_as_it_was_also_where_its_weights_ask_for_gradients() -> None:
    model = build("llama").requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    found = fit(model, TEXTS[:1])
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert model.config._attn_implementation == "eager"
    assert close(found.matrices[0], by_hand("llama")[0]) < 1e-5


def test_no_graph_is_made_below_the_first_layer_nor_through_the_vocabulary() -> None:
    saved: list[int] = []
    reader = jacobian_rows.TextJacobians(model_of("llama"), [2], 3, SHORT.skip)
    with torch.autograd.graph.saved_tensors_hooks(lambda kept: saved.append(kept.numel()) or kept, lambda kept: kept):
        graph = reader._graph(torch.tensor([tokens(TEXTS[0])]), jacobian_rows.PLAIN)
        alone = len(saved)
        every = jacobian_rows.TextJacobians(model_of("llama"), [0], 3, SHORT.skip)
        every._graph(torch.tensor([tokens(TEXTS[0])]), jacobian_rows.PLAIN)
    assert graph.target.requires_grad
    # one layer's tensors are kept for layer 2, three layers' for layer 0
    assert 2.5 * alone < len(saved) - alone < 3.5 * alone
    assert max(saved) < 96 * 32


def test_progress_tells_the_change_of_the_mean_and_the_rule_ends_the_fit() -> None:
    model, seen = model_of("llama"), []
    texts = [Text(str(n), f"{n} foxes over {n * 7} dogs") for n in range(12)]
    fitted = fit(model, texts, replace(SHORT, least=4, tolerance=0.2), on_progress=seen.append)
    alone = [torch.stack(list(fit(model, [text]).matrices.values())) for text in texts[: len(seen)]]
    means = [torch.stack(alone[: n + 1]).mean(0) for n in range(len(alone))]
    changes = [
        float(((new - old).flatten(1).norm(dim=1) / new.flatten(1).norm(dim=1)).mean()) for old, new in pairwise(means)
    ]
    assert seen[0].change != seen[0].change
    for number, progress in enumerate(seen[1:], 1):
        assert progress.text == number + 1
        assert progress.change == pytest.approx(sum(changes[:number][-10:]) / min(number, 10), rel=1e-3)
    assert seen[-1].change == fitted.change < 0.2
    assert 4 <= fitted.n_texts < 12
    assert len(seen) == 4 or seen[-2].change >= 0.2


def test_a_stop_keeps_what_is_there() -> None:
    stop, seen = threading.Event(), []

    def report(progress: FitProgress) -> None:
        seen.append(progress)
        stop.set()

    found = fit(model_of("llama"), on_progress=report, stop=stop)
    assert (found.n_texts, len(seen)) == (1, 1)
    assert close(found.matrices[0], by_hand("llama")[0]) < 1e-5
    with pytest.raises(Stopped, match="before the first text was done"):
        fit(model_of("llama"), stop=stop)


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it, and nothing is tidied up."""


@pytest.mark.parametrize("at", ["read", "write"])
def test_a_fit_that_is_killed_loses_one_text_at_most(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, state, whole = model_of("llama"), tmp_path / "state", fit(model_of("llama"))
    read: list[int] = []
    own_read, own_finish = jacobian_rows.TextJacobians.read, whole_files.finish

    def reading(self: Any, ids: Any) -> torch.Tensor:
        read.append(1)
        if at == "read" and len(read) == 3:
            raise Killed
        return own_read(self, ids)

    def finishing(part: Path, target: Path, content: bytes) -> Path:
        if at == "write" and len(read) == 3:
            part.write_bytes(content[: len(content) // 2])
            raise Killed
        return own_finish(part, target, content)

    monkeypatch.setattr(jacobian_rows.TextJacobians, "read", reading)
    monkeypatch.setattr(whole_files, "finish", finishing)
    with pytest.raises(Killed):
        fit(model, state=state)
    assert len(read) == 3
    again = fit(model, state=state)
    # only the third text was read once more
    assert len(read) == 4
    assert again.n_texts == 3
    for layer in whole.layers:
        assert torch.equal(again.matrices[layer], whole.matrices[layer])
    fit(model, state=state)
    assert len(read) == 4


def test_a_state_of_another_fit_is_refused(tmp_path: Path) -> None:
    state = tmp_path / "state"
    fit(model_of("llama"), TEXTS[:1], state=state)
    for texts, settings, model, what in (
        (TEXTS[1:], SHORT, "llama", "texts"),
        (TEXTS[:1], replace(SHORT, layers=(1,)), "llama", "layers"),
        (TEXTS[:1], SHORT, "gpt2", "model"),
    ):
        with pytest.raises(SettingsError, match=f"of a fit with another {what}"):
            fit(model_of(model), texts, settings, state=state)
    state.write_bytes(b"nothing")
    with pytest.raises(LensError, match="is no kept fit"):
        fit(model_of("llama"), TEXTS[:1], state=state)


def test_texts_that_are_too_short_are_named() -> None:
    seen: list[FitProgress] = []
    found = fit(model_of("llama"), [Text("Tiny", "abc"), *TEXTS[:1]], on_progress=seen.append)
    assert found.n_texts == 1
    assert seen[-1].short == ("Tiny",)
    with pytest.raises(TextError, match="No text has 5 tokens, which a fit needs at least .'Tiny'"):
        fit(model_of("llama"), [Text("Tiny", "abcd")])


def test_a_long_text_is_read_at_its_beginning_or_cut_into_pieces() -> None:
    """19 tokens: its first 8; or two pieces of 8, and 3 that are too few."""
    model, long = model_of("llama"), Text("Long", TEXTS[0].text + TEXTS[1].text[:0])
    assert len(byte_tokenizer()(long.text)["input_ids"]) == 19
    assert fit(model, [long]).n_texts == 1
    pieces = fit(model, [long], replace(SHORT, cut=True))
    apart = fit(model, [Text("a", long.text[:8]), Text("b", long.text[8:16])])
    assert pieces.n_texts == 2
    assert all(torch.equal(pieces.matrices[layer], apart.matrices[layer]) for layer in pieces.layers)


def test_models_that_cannot_be_fitted_are_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = build("llama")
    broken.model.layers[2].mlp.up_proj.weight.data[0, 0] = torch.nan
    with pytest.raises(LensError, match=r"no numbers. .*L2"):
        fit(broken)
    with pytest.raises(LensError, match="The model has 1 layers; a Jacobian lens needs one before the last"):
        fit(operate(model_of("llama"), "2"))
    with pytest.raises(LensError, match="cannot be differentiated: what leaves layer 3 has no gradient"):
        fit(without_gradients())
    monkeypatch.setattr(jacobian_fit, "is_quantised", lambda model: True)
    with pytest.raises(LensError, match="quantised, and packed weights hand on no gradients"):
        fit(model_of("llama"))


def without_gradients() -> Any:
    """Return a model one of whose layers runs without gradients, as kernels for inference alone do."""
    model = build("llama")
    inner = model.model.layers[3]
    inner.forward = torch.no_grad()(inner.forward)
    return model


def test_fables_lens_is_that_of_the_reference_estimator() -> None:
    """Two texts of 24 tokens, of which 7 positions are valid, through all twelve layers of a trained model."""
    loaded = load_model("fable")
    texts = bundled_texts()[:2]
    found = fit_jacobians(loaded.model, loaded.tokenizer, texts, JacobianFit(tokens=24))
    plain = loaded.model.model.layers
    ids = [loaded.tokenizer(text.text)["input_ids"][:24] for text in texts]
    expected = torch.stack([reference_jacobians(loaded.model, plain, one) for one in ids]).mean(0)
    assert found.layers == tuple(range(11))
    for layer in found.layers:
        assert close(found.matrices[layer], expected[layer]) < 1e-4


def test_no_more_gradients_are_held_at_once_than_the_bound_has_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece has up to 8 positions of 32 values, so a bound of 700 has room for two components or more, and not for all."""
    held: list[int] = []
    own = jacobian_rows._backward

    def counted(graph: Any, start: int, stop: int, *, shared: bool) -> list[torch.Tensor]:
        held.append((stop - start) * graph.target[0].numel())
        return own(graph, start, stop, shared=shared)

    monkeypatch.setattr(jacobian_rows, "_backward", counted)
    monkeypatch.setitem(jacobian_rows.ELEMENTS, "cpu", 700)
    reader = jacobian_rows.TextJacobians(model_of("llama"), range(3), 3, SHORT.skip)
    for way in (*jacobian_rows.WAYS, jacobian_rows.PLAIN):
        reader.way = way
        held.clear()
        assert close(reader.read(tokens(TEXTS[0])), by_hand("llama")) < 1e-5
        assert 350 < max(held) <= 700


def test_one_graph_keeps_what_a_single_text_needs() -> None:
    """In copies a text's graph is kept once for each component of a pass; shared, once."""
    kept = {}
    for way, copies in ((jacobian_rows.PLAIN, 8), (jacobian_rows.WAYS[1], 1)):
        reader, seen = jacobian_rows.TextJacobians(model_of("llama"), [0, 1, 2], 3, SHORT.skip), {}

        def count(tensor: torch.Tensor, seen: dict[int, int] = seen) -> torch.Tensor:
            storage = tensor.untyped_storage()
            seen[storage.data_ptr()] = storage.nbytes()
            return tensor

        with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            graph = reader._graph(torch.tensor([tokens(TEXTS[0])]).expand(copies, -1), way)
        own = {parameter.untyped_storage().data_ptr() for parameter in model_of("llama").parameters()}
        kept[copies] = sum(size for place, size in seen.items() if place not in own)
        assert graph.target.shape == (copies, 8, 32)
    assert 6 * kept[1] < kept[8] < 10 * kept[1]
