"""A prompt read once for all plans that begin alike.

What stands before the first slot that a plan changes reads a prompt as the base does: the state behind each of those layers
and their cache entries are the base's own. Whichever model comes to such a layer first runs it and keeps both; every later
one, also one that runs beside it, takes them over and goes on from the first layer that differs. So the tokens that follow
are exactly those of a model that read the prompt by itself.

Whether a model allows that is not known from its class: each kind of change is tried once on a few tokens, both ways.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from copy import copy as shallow
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, ref

import torch
from torch import nn
from transformers import Cache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from surgery_core.failures import FAILURES
from surgery_core.states.base_run import can_be_kept
from surgery_core.states.beginnings_check import TOLERANCE
from surgery_core.states.beginnings_tree import size_of
from surgery_core.surgery.anatomy import adapters_around, base_of, device_of, find_layers, plan_of
from surgery_core.surgery.building import private_copy
from surgery_core.surgery.cache import own_indices, reading_on
from surgery_core.surgery.change_kinds import change_kind, layer_kinds
from surgery_core.surgery.closeness import relative_difference
from surgery_core.surgery.layer_io import hidden_of, with_hidden
from surgery_core.surgery.moves import is_moved
from surgery_core.surgery.recording import watched

LEAST = 96
"""Tokens of a prompt from which on it is worth the trial: shorter ones take about as long to read as a token to write."""
FEW = 12
"""Tokens on which a kind of change is tried."""
KEPT_BYTES = 2**27
"""Most bytes that are kept of a prompt (128 MB): 1,000 tokens take SmolLM2's thirty layers 115 MB in float32."""
GROWING = (DynamicLayer, DynamicSlidingWindowLayer)
"""Cache entries that put new tensors in the place of old ones, so that one that was kept stays what it was."""

Look = Callable[[], None]
Run = Callable[..., Any]

_RIGHT: WeakKeyDictionary[nn.Module, dict[Hashable, bool]] = WeakKeyDictionary()
"""By base, whether models of a kind of change can take over what others have read, for as long as the base lives."""


class SharedPrompt:
    """What a model and its views have read of one prompt. Safe for many threads; it holds no model.

    Args:
        model: the base; it is not changed.
        memory: most bytes that are kept; behind the layers that take so much, each model reads by itself.
    """

    def __init__(self, model: nn.Module, memory: int = KEPT_BYTES) -> None:
        self._model, self._memory = ref(model), memory
        self._ids: tuple[int, ...] | None = None
        self._bytes = 0
        self._kept: dict[int, tuple[Any, Any]] = {}
        self._lock, self._trying = threading.Lock(), threading.Lock()
        self._layers = [threading.Lock() for _ in find_layers(model)[1]]

    def reader(self, model: nn.Module, ids: Sequence[int], look: Look = lambda: None) -> Any:
        """Return a model that reads the prompt as `model` does, and what others have read of it with them.

        It is a copy for one reading alone, with the same tensors; or `model` itself, where nothing can be shared: it is no
        view of the base, the prompt is another one or shorter than `LEAST` tokens, its first layer differs, or the trial
        shows that its kind of change does not allow it.

        Args:
            model: the base, or a view of it.
            ids: tokens of the prompt.
            look: called before every layer; it may raise to stop the work.
        """
        if len(ids) < LEAST or not self._is_of(ids) or not self._is_right(model, look):
            return model
        return self._reader(model, look)

    def _is_of(self, ids: Sequence[int]) -> bool:
        """Whether this is the prompt; the first that is asked for becomes it."""
        with self._lock:
            self._ids = tuple(ids) if self._ids is None else self._ids
            return self._ids == tuple(ids)

    def _is_right(self, model: nn.Module, look: Look) -> bool:
        base = self._model()
        if base is None or (model is not base and base_of(model) is not base) or not can_be_kept(base):
            return False
        if adapters_around(model) != adapters_around(base) or not _alike(model, base) or is_moved(model):
            return False
        known, kind = _RIGHT.setdefault(base, {}), change_kind(plan_of(model), layer_kinds(base))
        with self._trying:
            if kind not in known:
                known[kind] = _is_same(base, model, (self._ids or ())[:FEW], look)
        return known[kind]

    def _reader(self, model: nn.Module, look: Look) -> Any:
        """Return a copy of a model whose layers look before they run, and share what they read first."""
        base = self._model()
        alike = 0 if base is None else _alike(model, base)
        reader = private_copy(model)
        for depth, layer in enumerate(find_layers(reader)[1]):
            run = layer.forward
            if depth < alike:
                (index,) = own_indices(layer)
                run = _Begun(partial(self._read, depth, index, run), run)
            layer.forward = partial(_looked, look, run)
        return reader

    def _read(self, depth: int, index: int, run: Run, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what leaves the layer at a depth, which `run` runs on the prompt, and see to its cache entry."""
        cache = next((one for one in (*args, *kwargs.values()) if isinstance(one, Cache)), None)
        if cache is None:
            return run(*args, **kwargs)
        with self._layers[depth]:
            if depth in self._kept:
                entry, output = self._kept[depth]
                _put(cache, index, shallow(entry))
                return _copied(output)
            output = run(*args, **kwargs)
            self._keep(depth, cache.layers[index], output)
        return output

    def _keep(self, depth: int, entry: Any, output: Any) -> None:
        if type(entry) not in GROWING:
            return
        needed = sum(size_of(one) for one in (entry.keys, entry.values, hidden_of(output)))
        with self._lock:
            if self._bytes + needed > self._memory:
                return
            self._bytes += needed
        self._kept[depth] = shallow(entry), _copied(output)


class _Begun:
    """The `forward` of a layer of one reader: its first run is that over the prompt."""

    def __init__(self, read: Run, run: Run) -> None:
        self._read, self._run = read, run
        self._begun = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._begun:
            return self._run(*args, **kwargs)
        self._begun = True
        return self._read(args, kwargs)


def _looked(look: Look, run: Run, *args: Any, **kwargs: Any) -> Any:
    look()
    return run(*args, **kwargs)


def _alike(model: nn.Module, base: nn.Module) -> int:
    """Return how many layers a model begins with that are the base's, with the same cache entry."""
    layers, own = find_layers(model)[1], find_layers(base)[1]
    for depth, slot in enumerate(plan_of(model)):
        if str(slot) != str(depth) or depth >= len(own):
            return depth
        if len(own_indices(own[depth])) != 1 or own_indices(layers[depth]) != own_indices(own[depth]):
            return depth
    return len(layers)


def _copied(output: Any) -> Any:
    """Return an output with a state of its own, for a layer may write into what it gets; nobody reads what follows it."""
    others = {} if isinstance(output, torch.Tensor) else dict.fromkeys(range(1, len(output)))
    return with_hidden(output, hidden_of(output).clone(), others)


def _put(cache: Cache, index: int, entry: Any) -> None:
    if index == len(cache.layers):
        cache.layers.append(entry)
    else:
        cache.layers[index] = entry


def _is_same(base: nn.Module, model: nn.Module, ids: Sequence[int], look: Look) -> bool:
    """Read a few tokens and one more, by itself and with what the base has read."""
    few, copy = SharedPrompt(base), private_copy(model)
    try:
        with watched(find_layers(copy)[1], lambda number, call: look()):
            whole = _two_steps(copy, ids)
        _two_steps(few._reader(base, look), ids)
        if not few._kept:
            return False
        ours = _two_steps(few._reader(model, look), ids)
    except FAILURES:
        return False
    close = TOLERANCE * (1 if whole.dtype == torch.float32 else 10)
    return relative_difference(ours, whole, blind=True) <= close


def _two_steps(model: Any, ids: Sequence[int]) -> torch.Tensor:
    """Return the logits of all tokens but the last, and then those of the last from the cache."""
    tokens = torch.tensor([list(ids)], device=device_of(model))
    with torch.inference_mode():
        first = model(input_ids=tokens[:, :-1], attention_mask=torch.ones_like(tokens[:, :-1]), use_cache=True)
        cache = reading_on(first)
        then = model(input_ids=tokens[:, -1:], attention_mask=torch.ones_like(tokens), use_cache=True, **cache)
    return torch.cat([first.logits, then.logits], 1)
