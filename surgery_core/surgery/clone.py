"""Clone module shells: new module objects around the same tensors.

Every module gets a fresh `__dict__` and fresh parameter, buffer, child and hook dictionaries; parameters and
buffers are shared by reference. References between objects (a module kept in a plain attribute, bound methods,
partials, the config that every submodule holds) point at the clones.
"""

from __future__ import annotations

import copy
import functools
import types
from collections import OrderedDict
from typing import Any

from torch import nn

from surgery_core.surgery.marks import Marks

HOOK_DICTS = (
    "_backward_pre_hooks",
    "_backward_hooks",
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)
CAPTURE_MARK = "_output_capturing_hooks_installed"
"""Set by transformers on a model whose layers have its output-capturing hooks; clones have no hooks, so no mark."""


class HookDict(dict[Any, Any]):
    """The empty hook dictionary of a clone: what torch asks of an OrderedDict, at half its size."""

    __slots__ = ("__weakref__",)

    def move_to_end(self, key: Any, last: bool = True) -> None:
        """Move a hook to the end, or to the front."""
        hook = self.pop(key)
        others = {} if last else dict(self)
        if not last:
            self.clear()
        self[key] = hook
        self.update(others)


_PRIVATE = frozenset(("_parameters", "_buffers", "_modules", *HOOK_DICTS))
_ATOMS = frozenset((bool, int, float, str, bytes, type(None), set, frozenset))


class Cloner:
    """Clones modules and whatever refers to them; the same original always gives the same clone.

    Args:
        parent: a cloner whose clones are used where it already has one. A layer that appears twice is cloned by
            two cloners with the same parent.
        keep_hooks: whether clones carry the original's hooks.
    """

    def __init__(self, parent: Cloner | None = None, *, keep_hooks: bool = False) -> None:
        self.parent = parent
        self.keep_hooks = keep_hooks
        self.memo: dict[int, Any] = {}
        self.alive: list[Any] = []

    def known(self, original: object) -> Any:
        """Return the clone that was made of `original`, or None."""
        clone = self.memo.get(id(original))
        return clone if clone is not None or self.parent is None else self.parent.known(original)

    def adopt(self, original: object, clone: object) -> None:
        """Let `clone` stand for `original` wherever it is referred to."""
        self.memo[id(original)] = clone
        self.alive.append(original)

    def module(self, original: nn.Module) -> Any:
        """Return the clone of a module and, below it, of its children."""
        clone = self.known(original)
        return self._clone(original) if clone is None else clone

    def _clone(self, original: nn.Module) -> nn.Module:
        clone: Any = object.__new__(type(original))
        self.memo[id(original)] = clone
        source = original.__dict__
        state = clone.__dict__
        for name, value in source.items():
            if name not in _PRIVATE:
                state[name] = value if type(value) in _ATOMS else self.value(value)
        state.pop(CAPTURE_MARK, None)
        state["_parameters"] = source["_parameters"].copy()
        state["_buffers"] = source["_buffers"].copy()
        for name in HOOK_DICTS:
            state[name] = source[name].copy() if self.keep_hooks else HookDict()
        state["_modules"] = {
            name: child if child is None else self.module(child) for name, child in source["_modules"].items()
        }
        return clone  # type: ignore[no-any-return]

    def value(self, value: Any) -> Any:
        """Return `value` with every module, config and bound method in it replaced by its clone."""
        if isinstance(value, nn.Module):
            return self.module(value)
        if _is_config(value):
            return self.config(value)
        if isinstance(value, types.MethodType):
            return types.MethodType(value.__func__, self.value(value.__self__))
        if isinstance(value, functools.partial):
            return self._partial(value)
        if isinstance(value, Marks):
            return value.mapped(self.value)
        if type(value) in (list, tuple):
            return self._sequence(value)
        if isinstance(value, dict) and type(value) in (dict, OrderedDict):
            return self._mapping(value)
        return value

    def config(self, config: Any) -> Any:
        """Return a deep copy of a config, the same for every module that holds it (nested configs too)."""
        clone = self.known(config)
        if clone is None:
            memo: dict[int, Any] = dict(self._root().memo_of_configs)
            clone = copy.deepcopy(config, memo)
            self._root().remember(memo)
            self._root().adopt(config, clone)
        return clone

    @functools.cached_property
    def memo_of_configs(self) -> dict[int, Any]:
        """Return what deep copies of configs have copied so far."""
        return {}

    def remember(self, memo: dict[int, Any]) -> None:
        """Keep the copies of nested configs, so that modules which hold those get the same copy."""
        self.memo_of_configs.update(memo)
        for original in memo.get(id(memo), ()):
            if _is_config(original) and id(original) in memo:
                self.adopt(original, memo[id(original)])

    def _root(self) -> Cloner:
        return self if self.parent is None else self.parent._root()

    def _partial(self, value: functools.partial[Any]) -> functools.partial[Any]:
        args = [self.value(item) for item in value.args]
        keywords = {key: self.value(item) for key, item in value.keywords.items()}
        clone = functools.partial(self.value(value.func), *args, **keywords)
        clone.__dict__.update(value.__dict__)
        return clone

    def _sequence(self, value: Any) -> Any:
        items = [self.value(item) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same and type(value) is tuple else type(value)(items)

    def _mapping(self, value: dict[Any, Any]) -> dict[Any, Any]:
        return type(value)((key, self.value(item)) for key, item in value.items())


def _is_config(value: object) -> bool:
    """Tell configs and generation configs by what they can do, so that importing this needs no transformers."""
    return hasattr(value, "to_diff_dict") and hasattr(value, "save_pretrained")
